"""What the paper itself publishes, as far as it is known here: `claims.yaml` and one reference CSV per table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import yaml

from plphp_core.records.errors import ReportError
from plphp_core.reporting.table_model import NA


@dataclass(frozen=True)
class Claim:
    """One sentence of the paper that a run can test. `value` is in `unit`; None where the claim has no number."""

    id: str
    text: str
    value: float | None
    unit: str
    where: str

    @property
    def quoted(self) -> str:
        number = "" if self.value is None else f": {self.value:g}" + "%" * self.unit.startswith("percent")
        return f"{self.text}{number} ({self.id})"


def load_claims(folder: Path) -> list[Claim]:
    """The claims in `folder/claims.yaml`, in order. Raises ReportError for a missing or malformed file."""
    path = folder / "claims.yaml"
    try:
        claims = [Claim(**entry) for entry in yaml.safe_load(path.read_text(encoding="utf-8"))["claims"]]
        for claim in claims:
            if claim.value is not None and (isinstance(claim.value, bool) or not isinstance(claim.value, int | float)):
                raise TypeError(f"{claim.id}: value {claim.value!r} is neither a number nor null")
        return claims
    except OSError as error:
        raise ReportError(f"{path}: cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, TypeError, KeyError) as error:
        raise ReportError(f"{path}: not a list of claims ({error})") from error


def claims_quoted(folder: Path, ids: Sequence[str], profile: str) -> list[str]:
    """What the paper says in words, with what it is worth on this profile; nothing where the claims are not there."""
    known = {claim.id: claim for claim in load_claims(folder)} if ids and (folder / "claims.yaml").exists() else {}
    said = [known[name].quoted for name in ids if name in known]
    if not said:
        return []
    doubt = "" if profile == "paper" else " Nothing on this profile speaks for it or against it."
    return [f"The paper claims: {'; '.join(said)}. table=claims judges it.{doubt}"]


def load_reference(
    folder: Path, table: str, model: str | None = None
) -> dict[tuple[str, str], dict[tuple[str, str], float]]:
    """Published scores {(method, setting): {(benchmark, metric): printed value}}, unknown (n/a) cells left out.

    `model` picks one of a file that has a column of models. A table without a reference file has no published scores.
    Raises ReportError for a file with other columns or other text than numbers and n/a.
    """
    path = folder / f"{table}.csv"
    if not path.exists():
        return {}
    columns = ["method", "setting", "benchmark", "metric", "value"] + ["model"] * (model is not None)
    lines = pd.read_csv(path, dtype=str, keep_default_na=False)
    if not set(columns) <= set(lines.columns):
        raise ReportError(f"{path}: needs the columns {', '.join(columns)}; has {', '.join(lines.columns)}")
    known: dict[tuple[str, str], dict[tuple[str, str], float]] = {}
    for line in lines.to_dict("records"):
        if line["value"] == NA or (model is not None and line["model"] != model):
            continue
        try:
            value = float(line["value"])
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise ReportError(f"{path}: value {line['value']!r} is neither a number nor {NA}")
        known.setdefault((line["method"], line["setting"]), {})[line["benchmark"], line["metric"]] = value
    return known
