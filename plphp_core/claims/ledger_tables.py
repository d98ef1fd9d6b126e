"""The ledger on paper: a table of all claims, then each claim with its parts, the rule and the reasons."""

from __future__ import annotations

import re
from collections.abc import Sequence

from plphp_core.claims.claim_finding import SAVED, ClaimFinding, counts, written, written_interval
from plphp_core.claims.verdict import RuleOutcome
from plphp_core.reporting import score_columns
from plphp_core.reporting.table_model import NA, Table, TableCell, TableColumn, TableRow

TEXTS = ("Claim", "What the paper says", "Part", "By the rule", "Verdict")  # columns of words
HEAD = ("Claim", "What the paper says", "paper", "ours", "95 % interval", "ours − paper", "n", "hardware", "Verdict")
PARTS = ("Part", "ours", "95 % interval", "By the rule")
READING = (
    "Verdict: reproduced if the 95 % interval lies wholly within what the claim says, tolerance included; contradicted "
    "if wholly outside; inconclusive otherwise, and whenever a benchmark has fewer than 30 samples, a cell is missing "
    "or more than 1% of its samples failed. Not comparable: measured on other hardware or another model than the "
    "paper's, where that matters. Not measured: nothing to judge. The rule and its reasons: docs/claims.md.",
    "n: documents that every row of the claim answered, all its benchmarks together. Ours − paper is without the "
    "tolerance. Intervals are not widened for the number of claims: of twenty about one is wrong by chance.",
)
NO_VERDICT = (
    "Measured on the {} profile, which says nothing about the paper's models: no claim is reproduced or contradicted. "
    "In parentheses: what the rule would say of these numbers."
)


def tables(findings: Sequence[ClaimFinding], profile: str) -> list[Table]:
    """How many claims have each verdict in the title of a table of all claims, then a table per claim."""
    headline = ", ".join(f"{count} {verdict}" for verdict, count in counts(findings).items())
    title = f"Claims of arXiv 2502.14504v1{score_columns.where(profile)}: {headline}"
    notes = READING if profile == "paper" else (NO_VERDICT.format(profile), *READING)
    return [_table(title, HEAD, map(_line, findings), notes), *map(_detail, findings)]


def _table(title: str, head: Sequence[str], lines, notes: Sequence[str]) -> Table:
    columns = tuple(TableColumn(name, text=name in TEXTS) for name in head)
    return Table(title, columns, tuple(TableRow(tuple(line)) for line in lines), tuple(notes))


def _line(one: ClaimFinding) -> list[TableCell]:
    failed = one.count(RuleOutcome.NOT_AS_CLAIMED)
    several = one.claim.value is None and failed
    verdict = f"{one.label}: {one.outcome}" if one.outcome else one.label
    return [
        TableCell(one.claim.id, mark=one.label),
        TableCell(one.claim.text),
        TableCell(one.published_text),
        TableCell(one.ours_text, f"{failed} not" if several else ""),
        TableCell(one.interval_text),
        TableCell(written(one.difference.value, _signed(one.claim.unit))),
        TableCell(f"{one.total:,}" if one.evidence.n else NA),
        TableCell(", ".join(one.evidence.hardware) or NA),
        TableCell(one.verdict, verdict if one.label else ""),
    ]


def _detail(one: ClaimFinding) -> Table:
    """A claim with its parts; the notes are the paragraph."""
    lines = (map(TableCell, (part.name, part.text, part.interval, part.outcome or NA)) for part in one.parts)
    claim, evidence = one.claim, one.evidence
    label = f" ({one.label})" if one.label else ""
    paper = f" Paper: {one.published_text}." if claim.value is not None else ""
    notes = [f"{one.verdict.capitalize()}{label}. {one.why}", f"Claim: {claim.text} ({claim.where}).{paper}"]
    notes += [f"Holds if: {one.statement}. Ours: {one.rule.statistic}."] if one.rule and one.statement else []
    if claim.value is not None and one.parts:
        unit = _signed(claim.unit)
        value, interval = written(one.difference.value, unit), written_interval(one.difference, unit)
        notes.append(f"Ours − paper: {value}; interval {interval}.")
    notes += one.remarks
    if evidence.n:
        notes.append(f"Samples: {', '.join(f'{name} {count}' for name, count in evidence.n.items())}.")
        facts = "; ".join(
            f"{name.replace('_', ' ')} {', '.join(map(_short, values))}" for name, values in evidence.facts.items()
        )
        notes.append(f"Hardware: {', '.join(evidence.hardware) or NA}. Conditions: {facts}.")
    if one.sources:
        notes.append(f"Rests on {', '.join(one.sources)}. Measure it: {one.run}")
    return _table(f"{claim.id}{label}: {one.verdict}", PARTS, lines, notes)


def _short(text: str) -> str:
    """A hash with its first twelve digits."""
    return re.sub(r"(?<![0-9a-f])([0-9a-f]{12})[0-9a-f]{28,}$", r"\1", text)


def _signed(unit: str) -> str:
    """Differences carry a sign, also of what is otherwise printed without one."""
    return "points" if unit in ("percent", SAVED) else unit
