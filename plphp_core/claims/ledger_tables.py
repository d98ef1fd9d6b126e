"""The ledger on paper: a table of all claims, then each claim with its parts, the rule and the reasons."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence

from plphp_core.claims.claim_finding import ORDER, SAVED, ClaimFinding, plain, span, written
from plphp_core.claims.verdict import Outcome, Verdict
from plphp_core.reporting import score_columns
from plphp_core.reporting.table_model import NA, Table, TableCell, TableColumn, TableRow

SCHEMA = 1
HEAD = (
    TableColumn("Claim", text=True),
    TableColumn("What the paper says", text=True),
    TableColumn("paper"),
    TableColumn("ours"),
    TableColumn("95 % interval"),
    TableColumn("ours − paper"),
    TableColumn("n"),
    TableColumn("hardware"),
    TableColumn("Verdict", text=True),
)
PARTS = (
    TableColumn("Part", text=True),
    TableColumn("ours"),
    TableColumn("95 % interval"),
    TableColumn("By the rule", text=True),
)
READING = (
    "Verdict: reproduced if the 95 % interval lies wholly within what the claim says, tolerance included; contradicted "
    "if wholly outside; inconclusive otherwise, and whenever a benchmark has fewer than 30 samples, a cell is missing "
    "or more than 1% of its samples failed. Not comparable: measured on other hardware or another model than the "
    "paper's, where that matters. Not measured: nothing to judge. The rule and its reasons: docs/claims.md.",
    "n: documents that every row of the claim answered, all its benchmarks together. Ours − paper is without the "
    "tolerance. Intervals are not widened for the number of claims: of twenty about one is wrong by chance.",
)


def counts(findings: Sequence[ClaimFinding]) -> dict[str, int]:
    """Verdict → number of claims, in the order of Verdict."""
    found = Counter(one.verdict for one in findings)
    return {str(verdict): found[verdict] for verdict in Verdict}


def headline(findings: Sequence[ClaimFinding]) -> str:
    """The counts in words."""
    return ", ".join(f"{count} {name}" for name, count in counts(findings).items())


def text(findings: Sequence[ClaimFinding], profile: str, made: Mapping[str, object]) -> str:
    """The content of claims.json; the same findings always give the same bytes."""
    content = {
        "schema": SCHEMA,
        "profile": profile,
        "toy": profile == "toy",
        "made": dict(made),
        "counts": counts(findings),
        "findings": [one.as_dict() for one in findings],
    }
    return json.dumps(plain(content), indent=1, ensure_ascii=False) + "\n"


def sheets(findings: Sequence[ClaimFinding], profile: str) -> list[Table]:
    """Headline and table, then a sheet per claim."""
    title = f"Claims of arXiv 2502.14504v1{score_columns.where(profile)}: {headline(findings)}"
    notes = list(READING)
    if profile != "paper":
        notes.insert(
            0,
            f"Measured on the {profile} profile, which says nothing about the paper's models: no claim is reproduced "
            "or contradicted. In parentheses: what the rule would say of these numbers.",
        )
    return [Table(title, HEAD, tuple(map(_line, findings)), tuple(notes)), *map(_detail, findings)]


def _line(one: ClaimFinding) -> TableRow:
    return TableRow(
        (
            TableCell(one.id, mark=one.label),
            TableCell(one.text),
            TableCell(_published(one)),
            _ours(one),
            TableCell(span(one.ours, one.unit)),
            TableCell(written(one.difference.value, _signed(one.unit)) if one.published is not None else NA),
            TableCell(f"{one.total:,}" if one.n else NA),
            TableCell(", ".join(one.hardware) or NA),
            TableCell(str(one.verdict), _outcome(one)),
        )
    )


def _detail(one: ClaimFinding) -> Table:
    """A claim with its parts; the notes are the paragraph."""
    rows = [
        TableRow(
            (
                TableCell(part.name),
                TableCell(written(part.ours.value, part.unit)),
                TableCell(span(part.ours, part.unit)),
                TableCell(str(part.outcome or NA)),
            )
        )
        for part in one.parts
    ]
    label = f" ({one.label})" if one.label else ""
    paper = f" Paper: {_published(one)}." if one.published is not None else ""
    notes = [f"{one.verdict.capitalize()}{label}. {one.why}", f"Claim: {one.text} ({one.where}).{paper}"]
    notes += [f"Holds if: {one.statement}. Ours: {one.statistic}."] if one.statement else []
    if one.published is not None and one.parts:
        unit = _signed(one.unit)
        value = written(one.difference.value, unit)
        interval = span(one.difference, unit)
        notes.append(f"Ours − paper: {value}; interval {interval}.")
    notes += list(one.remarks)
    if one.n:
        notes.append(f"Samples: {', '.join(f'{name} {count}' for name, count in one.n.items())}.")
        facts = "; ".join(
            f"{name.replace('_', ' ')} {', '.join(map(_short, values))}" for name, values in one.conditions.items()
        )
        notes.append(f"Hardware: {', '.join(one.hardware) or NA}. Conditions: {facts}.")
    if one.sources:
        notes.append(f"Rests on {', '.join(one.sources)}. Measure it: {one.run}")
    return Table(f"{one.id}{label}: {one.verdict}", PARTS, tuple(rows), tuple(notes))


def _published(one: ClaimFinding) -> str:
    return "order" if one.unit == ORDER else written(one.published, one.unit)


def _ours(one: ClaimFinding) -> TableCell:
    """The number, or in how many parts the rule finds what is claimed, in parentheses in how many the contrary."""
    if one.unit != ORDER:
        return TableCell(written(one.ours.value, one.unit))
    if not one.parts or one.outcome is None:
        return TableCell()
    held, failed = (sum(part.outcome is wanted for part in one.parts) for wanted in list(Outcome)[:2])
    return TableCell(f"{held} of {len(one.parts)} parts", f"{failed} not" if failed else "")


def _outcome(one: ClaimFinding) -> str:
    """What stands in parentheses behind the verdict."""
    if one.label:
        return f"{one.label}: {one.outcome}" if one.outcome else one.label
    return ""


def _short(text: str) -> str:
    """A hash with its first twelve digits."""
    kind, colon, digits = text.rpartition(":")
    return kind + colon + (digits[:12] if re.fullmatch("[0-9a-f]{40,}", digits) else digits)


def _signed(unit: str) -> str:
    """Differences carry a sign, also of what is otherwise printed without one."""
    return "points" if unit in ("percent", SAVED) else unit
