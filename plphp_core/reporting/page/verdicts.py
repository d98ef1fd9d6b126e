"""The claims ledger as the page's headline: what claims.json says, or that it is not there."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from plphp_core.reporting.request import Report
from plphp_core.reporting.table_model import NA

VERDICTS = ("reproduced", "contradicted", "inconclusive", "not comparable", "not measured")
# unit → (decimals, whether gains have a sign, what follows the number)
UNITS = {
    "percent": (2, True, "%"),
    "percent_saved": (2, False, "%"),
    "points": (2, True, ""),
    "decoded_tokens": (2, False, " tokens"),
}


@dataclass(frozen=True)
class Finding:
    """A claim as the page shows it, all in text: NA where the ledger knows no number, empty where it says nothing.

    parts: name, number with interval and outcome of each number that the claim is about, where they are several.
    """

    id: str
    text: str
    where: str
    statement: str
    published: str
    ours: str
    interval: str
    n: str
    counts: str
    hardware: str
    verdict: str
    outcome: str
    label: str
    why: str
    parts: tuple[tuple[str, str, str], ...]
    remarks: tuple[str, ...]
    sources: str


@dataclass(frozen=True)
class Ledger:
    """The findings; `missing` says why there are none, `old` why they are those of an earlier report."""

    findings: tuple[Finding, ...] = ()
    missing: str = ""
    old: str = ""

    @property
    def counts(self) -> list[tuple[str, int]]:
        """How many findings have each verdict: the known verdicts first, always, then any other."""
        found = Counter(finding.verdict for finding in self.findings)
        return [(name, found[name]) for name in dict.fromkeys([*VERDICTS, *sorted(found)])]


def ledger(reports: Sequence[Report], path: Path, clean: Callable, failed: str = "") -> Ledger:
    """The ledger among `reports`, else the one at `path`; every field is optional.

    failed: why there is none among `reports`, if that is known.
    """
    extra = {name: text for report in reports for name, text in report.extra.items() if report.name == "claims"}
    text = next((text for name, text in extra.items() if name.endswith(".json")), None)
    try:
        said = json.loads(text if text is not None else path.read_text(encoding="utf-8"))
        old = f"The verdicts could not be made ({clean(failed)}); these are {path.name} of an earlier report."
        return Ledger(tuple(_finding(clean(entry)) for entry in said["findings"]), old=old if failed else "")
    except FileNotFoundError:
        why = clean(failed) or f"{path.name} is missing beside this page"
        return Ledger(missing=f"There are no verdicts yet: {why.rstrip('.')}.")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return Ledger(missing=f"The verdicts cannot be read from {path.name} ({type(error).__name__}: {error}).")


def _finding(entry: dict) -> Finding:
    unit = str(entry.get("unit") or "")
    ours = entry.get("ours") or entry
    documents = entry.get("n") or {}
    parts = tuple(map(_part, entry.get("parts") or ()))
    return Finding(
        id=_text(entry.get("id")),
        text=_text(entry.get("text")),
        where=_text(entry.get("where")),
        statement=_text(entry.get("statement")),
        published=_value(entry.get("published"), unit),
        ours=_value(ours.get("value"), unit),
        interval=_interval(ours, entry),
        n=str(sum(documents.values())) if isinstance(documents, dict) and documents else _text(documents) or NA,
        counts=", ".join(f"{name} {count}" for name, count in documents.items()) if isinstance(documents, dict) else "",
        hardware=_text(entry.get("hardware")),
        verdict=_text(entry.get("verdict")) or "not measured",
        outcome=_text(entry.get("outcome")),
        label=_text(entry.get("label")),
        why=_text(entry.get("why")),
        parts=parts if len(parts) > 1 else (),
        remarks=tuple(_text(one) for one in entry.get("remarks") or ()),
        sources=_text(entry.get("sources")),
    )


def _part(part: dict) -> tuple[str, str, str]:
    number = f"{_value(part['ours'].get('value'), part.get('unit'))} {_interval(part['ours'], part)}"
    return _text(part.get("name")), number.strip(), _text(part.get("outcome"))


def _interval(ours: dict, entry: dict) -> str:
    ends = [_value(ours.get(name), entry.get("unit")) for name in ("low", "high")]
    return "" if NA in ends else f"[{', '.join(ends)}]"


def _text(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_text, value))
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(one)}" for name, one in value.items())
    return "" if value is None else str(value)


def _value(value: object, unit: object) -> str:
    """A number in its unit; an unknown unit's name stands behind it."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return _text(value) or NA
    if not math.isfinite(value):
        return NA
    decimals, signed, behind = UNITS.get(str(unit), (2, False, f" {unit}" if unit and unit != "order" else ""))
    return f"{value:{'+' if signed else ''}.{decimals}f}".replace("-", "−") + behind
