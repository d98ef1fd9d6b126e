"""The scores of a comparison at equal cost as papers print them, and beside them what others have printed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from plphp_core.analysis.bootstrap import MISSING, Estimate, average, relative, with_interval
from plphp_core.analysis.results import Results
from plphp_core.config.equal_cost import is_count
from plphp_core.records.cell_result import ENTERED
from plphp_core.reporting import notes
from plphp_core.reporting.cost_comparison import CostComparison
from plphp_core.reporting.cost_sheets import BUDGETS, HEAD
from plphp_core.reporting.published_scores import PublishedRow, PublishedScores, Source
from plphp_core.reporting.score_columns import failed
from plphp_core.reporting.table_model import (
    NA,
    Table,
    TableCell,
    TableColumn,
    TableRow,
    bounds,
    emphasised,
    number,
    rank,
)

CONTRADICTED = "‡"
MEASURED = {"kv_bytes": TableColumn("held", "KV"), "tokens": TableColumn("entering", "Vision tokens")}
TOTAL = "total"


@dataclass(frozen=True)
class ScoreColumn:
    """One score.

    Attributes:
        key: the benchmark, or `MME/Perception` for a part of it, by which published rows name it.
        counts: whether the average runs over it.
        lower: whether less is better.
    """

    key: str
    heading: TableColumn
    estimate: Callable[[int], Estimate]
    change: Callable[[int], Estimate]
    scale: float
    counts: bool
    lower: bool = False

    @property
    def benchmark(self) -> str:
        return self.heading.group


def columns(results: Results) -> list[ScoreColumn]:
    """Every score of a benchmark; in front of sums their total, which is what papers average."""
    found = []
    for name in results.asked():
        info, parts = results.catalogue[name], results.headings(name)
        summed = len(parts) > 1 and info.scale == 1
        if summed:
            total = partial(_total, results, name, tuple(parts))
            change = partial(_change, total, results.reference)
            found.append(ScoreColumn(name, TableColumn(TOTAL, name), total, change, info.scale, True))
        for metric, heading in parts.items():
            key = name if len(parts) == 1 else f"{name}/{heading}"
            value, own_change = partial(_value, results, name, metric), partial(_own_change, results, name, metric)
            column = TableColumn(heading, name)
            lower = info.lower_is_better
            found.append(ScoreColumn(key, column, value, own_change, info.scale, not summed, lower))
    return found


def _value(results: Results, benchmark: str, metric: str, index: int) -> Estimate:
    return results.value(index, benchmark, metric)


def _own_change(results: Results, benchmark: str, metric: str, index: int) -> Estimate:
    return results.change(index, benchmark, metric)


def _total(results: Results, benchmark: str, metrics: Sequence[str], index: int) -> Estimate:
    parts = [results.value(index, benchmark, metric) for metric in metrics]
    if any(math.isnan(part.value) for part in parts):
        return MISSING
    replicates = np.sum([part.replicates for part in parts], axis=0)
    return with_interval(sum(part.value for part in parts), replicates, results.options.confidence)


def _change(total: Callable[[int], Estimate], reference: int | None, index: int) -> Estimate:
    return MISSING if reference is None else relative(total(index), total(reference))


def _shown(own: CostComparison) -> PublishedScores | None:
    return own.published if own.published is not None and own.published.rows else None


def score_table(own: CostComparison) -> Table:
    """Every score, and their average relative to Uncompressed; below each budget what others have printed for it."""
    found, printed = columns(own.results), _shown(own)
    measured = MEASURED[own.kind.name]
    head = (*HEAD, *(one.heading for one in found), TableColumn("of Uncompressed", "Average"), measured)
    head += (TableColumn("Source", text=True),) * (printed is not None)
    blocks = [[0], *([at for at, (one, _) in enumerate(own.places, 1) if one == b] for b in own.equal.budgets)]
    lines: list[TableRow] = []
    for block, budget in zip(blocks, (None, *own.equal.budgets), strict=True):
        rows = [_row(own, index, found, at == 0 and index > 0) for at, index in enumerate(block)]
        for place, column in enumerate(found):
            sign = -1 if column.lower else 1
            values = [sign * column.scale * column.estimate(index).value for index in block]
            rows = emphasised(rows, len(HEAD) + place, rank(values, [index > 0 for index in block]))
        lines += rows
        if printed is not None:
            front = lines[-1].cells[0].text
            lines += [_printed(printed, row, found, front) for row in printed.at(budget)]
    what = f"scores at equal {own.kind.equal}, {own.results.title}"
    return Table(f"{own.title}: {what}", head, tuple(lines), tuple(_notes(own, found)))


def _row(own: CostComparison, index: int, found: Sequence[ScoreColumn], rule: bool) -> TableRow:
    results = own.results
    cells = list(own.rows[index].cells)
    for one in found:
        value = one.scale * one.estimate(index).value
        cells.append(TableCell(number(value), mark=failed(results, index, one.benchmark)))
    change = _average(found, index)
    text = number(100 * (1 + change.value), 1)
    if index == 0:
        cells.append(TableCell("100.0%" if results.finished() else NA))
    else:
        detail = "" if math.isnan(change.value) else bounds(1 + change.low, 1 + change.high)
        cells.append(TableCell(text if text == NA else f"{text}%", detail))
    if own.kind.name == "tokens":
        cells.append(TableCell(number(own.cost(index, ENTERED), 1)))
    else:
        held = 100 * own.cost(index, "kv_share")
        cells.append(TableCell(NA if math.isnan(held) else f"{held:.2f}%"))
    return TableRow((*cells, TableCell("measured")) if _shown(own) is not None else tuple(cells), rule)


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
    text = number(100 * sum(ratios) / len(ratios), 1) if ratios else NA
    who = "own" if row.own else "others'"
    return TableRow(
        (*cells, TableCell(text if text == NA else f"{text}%"), TableCell(), TableCell(f"{row.source.short} ({who})"))
    )


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
    if any(one.heading.label == TOTAL for one in found):
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
