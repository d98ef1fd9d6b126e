"""One row against another one of the same table, paired by sample: what a change of one parameter does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from plphp_core.reporting import layout
from plphp_core.reporting.bootstrap import MISSING, Estimate, difference
from plphp_core.reporting.rivals import verdicts
from plphp_core.reporting.savings import Savings
from plphp_core.reporting.table_model import NA, Table, TableCell, TableColumn, TableRow, bounds, number, percent


@dataclass(frozen=True)
class Contrast:
    """Row `changed` against row `base` (indices), called `names` in the text columns; `rule` draws a line above."""

    changed: int
    base: int
    names: tuple[str, ...]
    rule: bool = False


def sheet(
    saved: Savings, title: str, head: Sequence[str], contrasts: Sequence[Contrast], notes: Sequence[str] = ()
) -> Table:
    """A line per contrast: relative change of every score, of their average, and of the vision tokens kept, in points.

    Args:
        head: headings of the text columns.
        notes: printed below the sheet, after how to read it.
    """
    results = saved.results
    shown = layout.scores_of(results.asked())
    columns = (
        *[TableColumn(name, text=True) for name in head],
        *[TableColumn(label, group) for group, _, label in shown],
        TableColumn("change", "Average"),
        TableColumn("points", "Vision kept"),
    )
    lines = []
    for one in contrasts:
        changes = [results.change(one.changed, name, metric, one.base) for name, metric, _ in shown]
        changes.append(results.average_change(one.changed, base=one.base))
        kept = kept_points(saved, one)
        points = TableCell(number(100 * kept.value, signed=True), "" if kept is MISSING else _points(kept))
        lines.append(TableRow((*map(TableCell, one.names), *map(_relative, changes), points), one.rule))
    reading = (
        f"In parentheses {results.options.confidence:.0%} intervals: both settings are drawn on the same samples in "
        f"each of {results.options.resamples:,} resamples. The intervals are not widened for their number."
    )
    return Table(title, columns, tuple(lines), (reading, *notes))


def tally(saved: Savings, contrasts: Sequence[Contrast]) -> str:
    """In how many score columns of how many contrasts the interval lies wholly above or below 0."""
    results = saved.results
    every = [results.change(one.changed, *column, one.base) for one in contrasts for column in results.columns()]
    changes = [change for change in every if not math.isnan(change.value)]
    found = verdicts(changes)
    higher = sum(change.value > 0 for change in changes)
    lower = sum(change.value < 0 for change in changes)
    return (
        f"Of {len(changes)} comparisons of a score (every line in every score column) {higher} are higher and {lower} "
        f"lower; the interval lies wholly above 0 in {found.above} and wholly below 0 in {found.below}."
    )


def kept_points(saved: Savings, one: Contrast) -> Estimate:
    """Difference of the average share of vision tokens kept, a fraction."""
    kept = (saved.average("retention", index) for index in (one.changed, one.base))
    return difference(*kept, saved.results.options.confidence)


def _relative(change: Estimate) -> TableCell:
    text = percent(change.value)
    return TableCell(text, "" if text == NA else bounds(change.low, change.high, signed=True))


def _points(kept: Estimate) -> str:
    low, high = (number(100 * end, signed=True) for end in (kept.low, kept.high))
    return NA if NA in (low, high) else f"[{low}, {high}]"
