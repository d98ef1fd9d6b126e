"""The claims ledger as files. claims.md: a table of all claims, then each with its parts, the rule and the reasons;
claims.json: the same for programs."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence

from plphp_core.analysis.bootstrap import Estimate
from plphp_core.claims.claim_finding import SAVED, ClaimFinding, counts, headline, written_interval
from plphp_core.claims.judgement import findings
from plphp_core.claims.verdict import RuleOutcome
from plphp_core.reporting.request import Report, ReportRequest, asked_suffix
from plphp_core.reporting.table_model import NA, Table, TableCell, TableColumn, TableRow
from plphp_core.reporting.table_spec import where

PAPER = "arXiv 2502.14504v1"
SCHEMA = 1
TEXTS = ("Claim", "What the paper says", "What they say", "Source", "Part", "By the rule", "Verdict")
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


def report(asked: ReportRequest) -> Report:
    """The ledger: claims.md, and claims.json as an extra. Raises ReportError as `findings` does."""
    found, variant = findings(asked), asked_suffix(asked)
    extra = {f"claims{variant}.json": ledger_json(found, asked)}
    sheets = tables(found, asked.profile)
    return Report("claims", variant, sheets, (), {}, planned=False, latex=False, extra=extra, findings=found)


def tables(findings: Sequence[ClaimFinding], profile: str) -> list[Table]:
    """How many claims have each verdict in the title of a table of all claims, then a table per claim."""
    tally = ", ".join(f"{count} {verdict}" for verdict, count in counts(findings).items())
    answer = " ".join(f"{said}." if at == 0 else said for at, said in enumerate(headline(findings)))
    notes = (answer, *READING) if profile == "paper" else (answer, NO_VERDICT.format(profile), *READING)
    title = f"Claims of {PAPER}{where(profile)}: {tally}"
    return [claim_table(title, HEAD, map(_line, findings), notes), *map(_detail, findings)]


def claim_table(title: str, head: Sequence[str], lines: Iterable[Iterable[TableCell]], notes: Sequence[str]) -> Table:
    """A table of words, whose columns are TEXTS, and numbers."""
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
        TableCell(one.difference_text),
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
        interval = written_interval(one.difference, "points" if claim.unit in ("percent", SAVED) else claim.unit)
        notes.append(f"Ours − paper: {one.difference_text}; interval {interval}.")
    notes += one.remarks
    if evidence.n:
        notes.append(f"Samples: {', '.join(f'{name} {count}' for name, count in evidence.n.items())}.")
        facts = (f"{name.replace('_', ' ')} {', '.join(map(_short, some))}" for name, some in evidence.facts.items())
        notes.append(f"Hardware: {', '.join(evidence.hardware) or NA}. Conditions: {'; '.join(facts)}.")
    if one.sources:
        notes.append(f"Rests on {', '.join(one.sources)}. Measure it: {one.run}")
    return claim_table(f"{claim.id}{label}: {one.verdict}", PARTS, lines, notes)


def _short(text: str) -> str:
    """A hash with its first twelve digits."""
    return re.sub(r"(?<![0-9a-f])([0-9a-f]{12})[0-9a-f]{28,}$", r"\1", text)


def ledger_json(found: Sequence[ClaimFinding], asked: ReportRequest) -> str:
    """The content of claims.json; the same findings always give the same bytes. Unknown numbers are null."""
    made = {name: getattr(asked.choices, name) for name in ("confidence", "resamples", "seed", "average")}
    content = {
        "schema": SCHEMA,
        "profile": asked.profile,
        "toy": asked.profile == "toy",
        "made": {"paper": PAPER, **made},
        "counts": counts(found),
        "findings": list(map(_as_dict, found)),
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _as_dict(one: ClaimFinding) -> dict[str, object]:
    return {
        "id": one.claim.id,
        "text": one.claim.text,
        "where": one.claim.where,
        "unit": one.claim.unit,
        "published": one.claim.value,
        "statement": one.statement,
        "statistic": one.rule.statistic if one.rule else "",
        "label": one.label,
        "verdict": one.verdict,
        "outcome": one.outcome,
        "ours": _plain(one.ours),
        "difference": _plain(one.difference),
        "parts": [
            {"name": part.name, "unit": part.unit, "ours": _plain(part.estimate), "outcome": part.outcome}
            for part in one.parts
        ],
        "n": dict(one.evidence.n),
        "hardware": list(one.evidence.hardware),
        "conditions": {name: list(values) for name, values in one.evidence.facts.items()},
        "sources": list(one.sources),
        "why": one.why,
        "remarks": list(one.remarks),
        "run": one.run,
    }


def _plain(one: Estimate) -> dict[str, float | None]:
    """Value and ends with eight digits; None for nan and infinities, which JSON does not have."""
    numbers = {name: getattr(one, name) for name in ("value", "low", "high")}
    return {name: float(f"{value:.8g}") if math.isfinite(value) else None for name, value in numbers.items()}
