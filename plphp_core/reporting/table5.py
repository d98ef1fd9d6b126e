"""Table 5: decode time and KV cache at several r, each against the uncompressed model, and the paper's claims."""

from __future__ import annotations

import math
from collections.abc import Sequence

from plphp_core.analysis.bootstrap import MISSING
from plphp_core.analysis.estimates import DECODE, KV, RETENTION
from plphp_core.analysis.results import Results
from plphp_core.reporting import cost_columns, notes
from plphp_core.reporting.published import Claim
from plphp_core.reporting.table_model import NA, Table, TableCell, TableColumn, TableRow, bounds, percent
from plphp_core.reporting.table_spec import Reference, TableSpec, where

# claim → what it is about, and at which r; None: the lowest there is
CLAIMS = {"C5": (DECODE, 0.4), "C6": (KV, 0.4), "C7a": (DECODE, None), "C7b": (KV, None)}


def sheets(
    results: Results, label: str, profile: str, reference: Reference, claims: Sequence[Claim] = ()
) -> list[Table]:
    """The table with intervals in parentheses, then, on the paper profile, its claims.

    Args:
        label: the benchmark.
        reference: published numbers, `published.load_reference`.
        claims: what the paper says of the table in words.
    """
    claims = [claim for claim in claims if claim.id in CLAIMS]
    title = f"Reproduction of Table 5{where(profile)}"
    columns = (
        cost_columns.decode(results, label, inline=True),
        cost_columns.change(results, label, DECODE, "Decode", inline=True),
        cost_columns.size(results, label, inline=True),
        cost_columns.change(results, label, KV, "KV cache", inline=True),
        cost_columns.retention(results, label),
    )
    found = cost_columns.conditions(results, profile)
    found.append(
        f"Change: against Uncompressed; in parentheses {results.options.confidence:.0%} intervals, for the KV cache by "
        "resampling samples."
    )
    found += cost_columns.measures(results, label, DECODE, KV, RETENTION)
    if profile != "paper" and claims:
        said = "; ".join(f"{claim.id}: {claim.text}: {claim.value:g}%" for claim in claims)
        found.append(f"The paper claims, of a 7B model and not comparable with the numbers of this profile: {said}.")
    found.append("As published: in the units the paper prints." if reference else notes.UNPUBLISHED)
    found += cost_columns.unfinished(results)
    what = f"r against none on {label}, {results.title}"
    table = TableSpec(title, what, results, columns, found, reference=reference).numbers()
    return [table, _claims(results, label, title, claims)] if profile == "paper" and claims else [table]


def claimed(results: Results, claim: str) -> int | None:
    """Index of the row that a claim is about; None if the table has no such row."""
    rates = {row.params.get("r"): at for at, row in enumerate(results.rows) if row.method == "plphp"}
    wanted = CLAIMS[claim][1]
    return rates.get(min(rates, default=None) if wanted is None else wanted)


def _claims(results: Results, label: str, title: str, claims: Sequence[Claim]) -> Table:
    rows = []
    for claim in claims:
        quantity, row = CLAIMS[claim.id][0], claimed(results, claim.id)
        change = MISSING if row is None else results.change(row, label, quantity)
        # less time per token is more tokens per second, but not by the same percentage
        faster = "" if quantity == KV or math.isnan(change.value) else percent(1 / (1 + change.value) - 1)
        rows.append(
            TableRow(
                (
                    TableCell(f"{claim.id}: {claim.text}"),
                    TableCell(f"{claim.value:g}%"),
                    TableCell(percent(-change.value), faster),
                    TableCell(bounds(-change.high, -change.low, signed=True)),
                    TableCell(NA if row is None else results.setting(row)),
                )
            )
        )
    columns = (
        TableColumn("Claim", text=True),
        TableColumn("paper"),
        TableColumn("ours"),
        TableColumn("interval"),
        TableColumn("row", text=True),
    )
    said = (
        "Ours: share of the time per token, or of the KV bytes, that the row saves against Uncompressed; in "
        "parentheses the gain in tokens per second. The paper's words do not say which of the two its speed-up is.",
        "C7 is about a lower rate that is not known here; ours is the lowest of this table.",
        "A time depends on hardware, engine and batch size: docs/performance.md has the regimes side by side.",
    )
    return Table(f"{title}: what the paper claims", columns, tuple(rows), said)
