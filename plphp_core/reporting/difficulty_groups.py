"""The sheet of hard and easy samples: does a method see what a smaller image does not show? (VTC-Bench)"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from plphp_core.analysis.bootstrap import MISSING, with_interval, without_width
from plphp_core.config.equal_cost import shown
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
            if own_budget == budget and one.name != BY:
                cells = [cell for name in names for cell in _accuracies(own, index, name, groups[name])]
                front = (shown(budget), own.results.rows[index].label, own.setting(index))
                lines.append(TableRow((*map(TableCell, front), *cells)))
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


def _right(own: CostComparison, index: int | None, benchmark: str) -> pd.Series | None:
    """Whether each answer is right, by document; None without a finished cell or without scores of its samples."""
    cell = None if index is None else own.results.cells.get((index, benchmark))
    metric, threshold = next(iter(own.results.headings(benchmark)), None), _threshold(own, benchmark)
    if cell is None or metric not in cell.metrics or threshold is None:
        return None
    scores = cell.metrics[metric].samples
    return None if np.isnan(scores).all() else pd.Series(scores >= threshold, cell.doc_ids)


def _groups(own: CostComparison, divider: int | None, benchmark: str) -> list[pd.Index | None]:
    """Documents of the hard and of the easy samples; None each where nothing divides them."""
    whole, smaller = _right(own, 0, benchmark), _right(own, divider, benchmark)
    if whole is None or smaller is None:
        return [None] * len(GROUPS)
    known = smaller[[doc for doc in whole.index[whole] if doc in smaller.index]]
    return [known.index[~known], known.index[known]]


def _accuracies(own: CostComparison, index: int, benchmark: str, groups: list[pd.Index | None]) -> list[TableCell]:
    """Share of right answers of a row in each group."""
    found, results = _right(own, index, benchmark), own.results
    cells = []
    for group in groups:
        share = MISSING
        if group is not None and len(group) and found is not None:
            right = found.reindex(group, fill_value=False).to_numpy(float)
            units = results.samples(0, benchmark).unit[group].to_numpy()  # what the bootstrap draws a document with
            drawn = results.resamples(benchmark).means(units, right)
            drawn = drawn if len(group) > 1 else np.full_like(drawn, math.nan)
            share = without_width(with_interval(float(right.mean()), drawn, results.options.confidence))
        cells.append(TableCell(number(100 * share.value, 1), bounds(100 * share.low, 100 * share.high)))
    return cells
