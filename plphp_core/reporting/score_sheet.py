"""The scores of a comparison at equal cost as papers print them, and beside them what others have printed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from plphp_core.analysis.bootstrap import MISSING, Estimate, average, relative, with_interval
from plphp_core.analysis.results import Results
from plphp_core.config.equal_cost import is_count
from plphp_core.records.cell_result import ENTERED
from plphp_core.reporting import notes
from plphp_core.reporting.cost_comparison import CostComparison
from plphp_core.reporting.cost_sheets import BUDGETS, HEAD, cost_column
from plphp_core.reporting.published_scores import PublishedRow, PublishedScores, Source
from plphp_core.reporting.score_columns import scores
from plphp_core.reporting.table_model import NA, Table, TableCell, TableColumn, TableRow, number
from plphp_core.reporting.table_spec import NumberColumn, TableSpec, WordColumn, share

CONTRADICTED = "‡"
SPENT = {"kv_bytes": "kv_share", "tokens": ENTERED}  # which of COSTS is equal
TOTAL = "total"


@dataclass(frozen=True)
class ScoreColumn:
    """One score.

    Attributes:
        key: the benchmark, or `MME/Perception` for a part of it, by which published rows name it.
        change: of a row relative to Uncompressed.
        counts: whether the average runs over it.
    """

    key: str
    column: NumberColumn
    change: Callable[[int], Estimate]
    counts: bool

    @property
    def benchmark(self) -> str:
        return self.column.heading.group


def score_columns_of(results: Results) -> list[ScoreColumn]:
    """Every score of a benchmark; in front of sums their total, which is what papers average."""
    found: list[ScoreColumn] = []
    for (name, metric, heading), column in zip(results.score_places(), scores(results, ()), strict=True):
        parts = results.headings(name)
        summed = len(parts) > 1 and column.scale == 1
        if summed and metric == next(iter(parts)):
            found.append(_total(results, name, replace(column, lower=False)))
        key = name if len(parts) == 1 else f"{name}/{heading}"
        found.append(ScoreColumn(key, column, partial(results.change, benchmark=name, quantity=metric), not summed))
    return found


def _total(results: Results, benchmark: str, like: NumberColumn) -> ScoreColumn:
    """The sum of a benchmark's scores."""

    def total(index: int | None) -> Estimate:
        parts = [results.value(index, benchmark, metric) for metric in results.headings(benchmark)]
        if any(math.isnan(part.value) for part in parts):
            return MISSING
        replicates = np.sum([part.replicates for part in parts], axis=0)
        return with_interval(sum(part.value for part in parts), replicates, results.options.confidence)

    column = replace(like, heading=TableColumn(TOTAL, benchmark), estimate=total)
    return ScoreColumn(benchmark, column, lambda index: relative(total(index), total(results.reference)), True)


def _shown(own: CostComparison) -> PublishedScores | None:
    return own.published if own.published is not None and own.published.rows else None


def score_table(own: CostComparison) -> Table:
    """Every score, and their average relative to Uncompressed; below each budget what others have printed for it."""
    found, printed = score_columns_of(own.results), _shown(own)

    def average(index: int) -> Estimate:
        one = _average(found, index)
        return replace(one, value=1 + one.value, low=1 + one.low, high=1 + one.high)

    heading, first = TableColumn("of Uncompressed", "Average"), "100.0%" if own.results.finished() else NA
    columns: list[NumberColumn | WordColumn] = [
        *(one.column for one in found),
        NumberColumn(heading, average, share, ends=number, inline=True, instead=lambda at: None if at else first),
        cost_column(own, SPENT[own.kind.name]),
    ]
    if printed is not None:
        columns.append(WordColumn(TableColumn("Source", text=True), lambda index: TableCell("measured")))
    blocks = [[at for at, (budget, _) in enumerate(own.places, 1) if budget == one] for one in own.equal.budgets]
    title = f"{own.title}: scores at equal {own.kind.equal}, {own.results.title}"
    table = TableSpec(title, HEAD, own.rows, columns, _notes(own, found), blocks).numbers()
    lines: list[TableRow] = []
    for block, budget in zip([[0], *blocks], (None, *own.equal.budgets), strict=True):
        lines += [table.rows[index] for index in block]
        if printed is not None:
            lines += [_printed(printed, row, found, lines[-1].cells[0].text) for row in printed.at(budget)]
    return replace(table, rows=tuple(lines))


def _average(found: Sequence[ScoreColumn], index: int) -> Estimate:
    """Mean over the benchmarks of the change relative to Uncompressed; MISSING if one is missing."""
    own: dict[str, list[Estimate]] = {}
    for one in found:
        if one.counts:
            own.setdefault(one.benchmark, []).append(one.change(index))
    return average([average(changes) for changes in own.values()])


def _printed(printed: PublishedScores, row: PublishedRow, found: Sequence[ScoreColumn], budget: str) -> TableRow:
    """A published row. Its average is over the ratios to the uncompressed row of the same source, if that has all."""
    cells = [TableCell(budget), TableCell(f"{row.label}, as published"), TableCell(row.setting)]
    for one in found:
        known = one.key in row.scores
        mark = CONTRADICTED if known and printed.contradicted(row, one.key) else ""
        cells.append(TableCell(number(row.scores.get(one.key, math.nan)), mark=mark))
    ratios = []
    for benchmark in dict.fromkeys(one.benchmark for one in found):
        keys = [one.key for one in found if one.benchmark == benchmark and one.key in row.scores]
        key = next((key for key in keys if key in row.source.full), None)
        ratios.append(math.nan if key is None else row.scores[key] / row.source.full[key])
    average = TableCell(share(100 * sum(ratios) / len(ratios)) if ratios else NA)
    who = "own" if row.own else "others'"
    return TableRow((*cells, average, TableCell(), TableCell(f"{row.source.short} ({who})")))


def _notes(own: CostComparison, found: Sequence[ScoreColumn]) -> list[str]:
    results, printed = own.results, _shown(own)
    over = ", ".join(dict.fromkeys(one.benchmark for one in found))
    said = [
        *([] if own.profile == "paper" else [notes.profile(own.profile, several=False)]),  # it is not the paper's
        *notes.run([results]),
        *notes.samples([results]),
        BUDGETS[own.kind.name, is_count(own.equal.budgets[0])],
        notes.scores([results]),
        f"Average: unweighted mean over the benchmarks ({over}) of the score relative to Uncompressed, in parentheses "
        f"its {results.options.confidence:.0%} interval, paired by sample; n/a where one is missing. Bold and "
        "underlined: best and second of a budget.",
    ]
    if any(one.column.heading.label == TOTAL for one in found):
        said.append("total: the sum of a benchmark's scores, which is what the average counts.")
    if printed is None:
        if own.published is not None:
            said.append("No published row is of this model and profile.")
        return [*said, *notes.failures([results]), *notes.gaps([results])]
    sources: dict[str, Source] = {row.source.short: row.source for row in printed.rows}
    said += [
        "As published: in the units printed here, not measured here; own: in the method's own paper or README; "
        "others': by somebody else, copied or run again. Their averages are the mean of the ratios to the uncompressed "
        "row of the same source, where it prints all benchmarks.",
        f"{CONTRADICTED} another source prints another number for the same method at the same budget.",
        *(f"{short}: {one.said}." for short, one in sources.items()),
    ]
    if own.kind.name == "tokens":
        said.append(
            "Papers do not mean the same by tokens: SparseVLM counts those that leave a layer, so that its 192, 128, "
            "64 are 206.5, 145.4, 82.3 entering; DART those after layer 2, 219.8, 159.8, 99.8 entering; methods before "
            "the decoder have the same in every layer; K and R of the FastV rows that circulate were never published. "
            "Published rows stand at the budget that their source names."
        )
    return [*said, *notes.failures([results]), *notes.gaps([results])]
