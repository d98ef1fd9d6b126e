"""The sheet of hard and easy samples: does a method see what a smaller image does not show? (VTC-Bench)"""

from __future__ import annotations

import math

import numpy as np

from plphp_core.analysis.bootstrap import MISSING, Estimate, with_interval, without_width
from plphp_core.config.equal_cost import shown
from plphp_core.records.cell_result import CellResult
from plphp_core.reporting.cost_comparison import CostComparison
from plphp_core.reporting.cost_sheets import HEAD
from plphp_core.reporting.table_model import NA, Table, TableCell, TableColumn, TableRow, bounds, number

BY = "downsample"  # the method that divides the samples
GROUPS = ("hard", "easy")  # those that it gets wrong, and right


def groups_table(own: CostComparison) -> Table | None:
    """A line per budget and method: share of right answers among hard and easy samples, benchmark by benchmark.

    None where smaller images are not compared, or no benchmark says from which score on an answer is right.
    """
    names = [name for name in own.results.finished() if _threshold(own, name) is not None]
    if not names or not any(one.name == BY for one in own.equal.contenders):
        return None
    columns = (*HEAD, *(TableColumn(group, name) for name in names for group in GROUPS))
    lines: list[TableRow] = []
    for budget in own.equal.budgets:
        divider = own.row(budget, BY)
        groups = {name: _groups(own, divider, name) for name in names}
        sizes = [TableCell(NA if one is None else str(len(one))) for name in names for one in groups[name]]
        lines.append(TableRow((*map(TableCell, (shown(budget), "Samples", "")), *sizes), rule=True))
        for index, (own_budget, one) in enumerate(own.places, start=1):
            if own_budget != budget or one.name == BY:
                continue
            cells = [_cell(_accuracy(own, index, name, group)) for name in names for group in groups[name]]
            front = map(TableCell, (shown(budget), own.results.rows[index].label, own.setting(index)))
            lines.append(TableRow((*front, *cells)))
    confidence, resamples = own.results.options.confidence, own.results.options.resamples
    said = (
        "Of the samples that Uncompressed answers right, hard ones are those that Downsample answers wrong at the same "
        f"{own.kind.same}, easy ones those that it answers right (arXiv 2510.07143): % right, with {confidence:.0%} "
        f"intervals from {resamples:,} resamples. Uncompressed has 100 in both, Downsample 0 and 100. An answer is "
        "right from the score on that configs/tasks says (`right`); one that is missing is wrong. n/a: Downsample does "
        "not come to the budget, or no sample is in the group.",
    )
    return Table(f"{own.title}: hard and easy samples", columns, tuple(lines), said)


def _threshold(own: CostComparison, benchmark: str) -> float | None:
    return own.results.catalogue[benchmark].right


def _right(own: CostComparison, index: int, benchmark: str) -> dict[int, bool] | None:
    """Document → whether the answer is right; None without a finished cell or without scores of its samples."""
    cell, threshold = own.results.cells.get((index, benchmark)), _threshold(own, benchmark)
    metric = next(iter(own.results.headings(benchmark)), None)
    if cell is None or metric not in cell.metrics or threshold is None:
        return None
    scores = cell.metrics[metric].samples
    return None if np.isnan(scores).all() else dict(zip(cell.doc_ids.tolist(), scores >= threshold, strict=True))


def _groups(own: CostComparison, divider: int | None, benchmark: str) -> list[list[int] | None]:
    """Documents of the hard and of the easy samples; None each where nothing divides them."""
    whole = _right(own, 0, benchmark)
    smaller = None if divider is None else _right(own, divider, benchmark)
    if whole is None or smaller is None:
        return [None] * len(GROUPS)
    known = [doc for doc, right in whole.items() if right and doc in smaller]
    return [[doc for doc in known if not smaller[doc]], [doc for doc in known if smaller[doc]]]


def _accuracy(own: CostComparison, index: int, benchmark: str, group: list[int] | None) -> Estimate:
    """Share of right answers among the documents of a group."""
    found = _right(own, index, benchmark)
    if not group or found is None:
        return MISSING
    right = np.array([float(found.get(doc, False)) for doc in group])
    units = _units(own.results.cells[0, benchmark])
    replicates = own.results.resamples(benchmark).means(np.array([units[doc] for doc in group]), right)
    drawn = replicates if len(group) > 1 else np.full_like(replicates, math.nan)
    return without_width(with_interval(float(right.mean()), drawn, own.results.options.confidence))


def _units(cell: CellResult) -> dict[int, int]:
    """Document → what the bootstrap draws it with."""
    together = cell.doc_ids if cell.together is None else cell.together.astype(np.int64)
    return dict(zip(cell.doc_ids.tolist(), together.tolist(), strict=True))


def _cell(share: Estimate) -> TableCell:
    return TableCell(number(100 * share.value, 1), bounds(share.low, share.high))
