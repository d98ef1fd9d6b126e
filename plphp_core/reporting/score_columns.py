"""What tables of methods × benchmarks share on paper: their columns, and one model's results as lines of entries."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from plphp_core.analysis.bootstrap import MISSING, relative
from plphp_core.analysis.method_style import method_style
from plphp_core.analysis.results import SLOTS, Results
from plphp_core.analysis.retention_stats import Savings
from plphp_core.reporting.table_model import TableCell, TableColumn, TableRow, bounds, emphasise, number, percent

Reference = Mapping[tuple[str, str], Mapping[tuple[str, str], float]]  # published.load_reference
NOT_ASKED = TableCell("–")  # the table leaves this benchmark out for this model


def slot_columns(results: Results) -> tuple[TableColumn, ...]:
    """A column per benchmark, their average, its interval and change."""
    return tuple(TableColumn(name) for name in (*results.benchmarks, "Average", "interval", "change"))


def interval_columns(results: Results) -> tuple[TableColumn, ...]:
    """The score columns and the average change."""
    places = [TableColumn(heading, group) for group, _, heading in results.score_places()]
    return (*places, TableColumn("change", "Average"))


def score_columns(results: Results) -> tuple[TableColumn, ...]:
    """As `interval_columns`, then vision kept and KV saved."""
    return (*interval_columns(results), TableColumn("kept", "Vision"), TableColumn("saved", "KV"))


def where(profile: str) -> str:
    """What a title says of the profile."""
    return "" if profile == "paper" else f" ({profile} profile)"


def rows(
    results: Results, line: Callable[[Results, int], list[TableCell]] = lambda *_: [], head: Sequence[str] = ()
) -> list[TableRow]:
    """The model's rows: `head`, method, setting, then what `line` gives; a rule above each method."""
    found = []
    for index, row in enumerate(results.rows):
        starts = index == 0 or results.rows[index - 1].method != row.method
        front = [*map(TableCell, head), TableCell(row.label), TableCell(results.setting(index))]
        found.append(TableRow((*front, *line(results, index)), rule=starts))
    return found


def marked(found: list[TableRow], columns: Sequence[Sequence[float]], results: Results, start: int) -> list[TableRow]:
    """Best and second of each of `columns` (the first one at `start`) among the rows that compete."""
    eligible = [results.options.rank == "all" or row.method != "none" for row in results.rows]
    for at, values in enumerate(columns, start):
        found = emphasise(found, at, values, eligible)
    return found


def score_line(results: Results, index: int) -> list[TableCell]:
    """A row's entries under `score_columns`."""
    entries = [_score(results, index, benchmark, metric) for benchmark, metric, _ in results.score_places()]
    costs = [results.average_cost(index, name) for name in ("retention", "kv_saved")]
    change = results.average_change(index).value
    return [*entries, TableCell(percent(change)), *(TableCell(percent(cost, 1, signed=False)) for cost in costs)]


def _score(results: Results, index: int, benchmark: str, metric: str) -> TableCell:
    if benchmark not in results.asked():
        return NOT_ASKED
    cell = results.cells.get((index, benchmark))
    score, change = results.score(index, benchmark, metric), results.change(index, benchmark, metric)
    mark = f"†{cell.errors}" if cell is not None and cell.errors else ""
    detail = ""
    if results.rows[index].method == "plphp" and not math.isnan(change.value):
        points = 100 * (score.value - results.score(results.reference, benchmark, metric).value)
        detail = percent(change.value) if results.options.gains == "relative" else number(points, signed=True)
    return TableCell(number(100 * score.value), detail, mark)


def score_values(results: Results) -> list[list[float]]:
    """What is ranked: for each score column and the average change, the rows' values ×100."""
    every, shown = range(len(results.rows)), results.score_places()
    scores = [
        [results.catalogue[name].scale * results.score(index, name, metric).value for index in every]
        for name, metric, _ in shown
    ]
    return [*scores, [100 * results.average_change(index).value for index in every]]


def interval_line(results: Results, index: int) -> list[TableCell]:
    """A row's entries under `interval_columns`."""
    entries = []
    for benchmark, metric, _ in results.score_places():
        score = results.score(index, benchmark, metric)
        entries.append(TableCell(bounds(score.low, score.high)) if benchmark in results.asked() else NOT_ASKED)
    whole = results.average_change(index)
    reference = index == results.reference and any(at == index for at, _ in results.cells)
    return [*entries, TableCell("reference" if reference else bounds(whole.low, whole.high, signed=True))]


def saved_interval_line(saved: Savings, index: int) -> list[TableCell]:
    """A row's intervals under `score_columns`: scores, average change, vision kept and KV saved."""
    costs = (saved.average(name, index) for name in ("retention", "kv_saved"))
    line = interval_line(saved.results, index)
    return [*line, *(TableCell(bounds(cost.low, cost.high)) for cost in costs)]


def has_slots(results: Results) -> bool:
    """Whether any cell measured slot accuracy."""
    return any(metric == SLOTS for _, _, metric in results.scores)


def slot_line(results: Results, index: int) -> list[TableCell]:
    """A row's entries under slot_columns."""
    mean = results.average_slots(index)
    change = MISSING if results.reference is None else relative(mean, results.average_slots(results.reference))
    entries = []
    for name in results.benchmarks:
        score = results.score(index, name, SLOTS)
        entries.append(TableCell(number(100 * score.value)) if name in results.asked() else NOT_ASKED)
    return [
        *entries,
        TableCell(number(100 * mean.value)),
        TableCell(bounds(mean.low, mean.high)),
        TableCell(percent(change.value)),
    ]


def slot_values(results: Results) -> list[list[float]]:
    """What is ranked: for each benchmark and the average, the rows' slot accuracies ×100."""
    every = range(len(results.rows))
    scores = [[100 * results.score(index, name, SLOTS).value for index in every] for name in results.benchmarks]
    return [*scores, [100 * results.average_slots(index).value for index in every]]


def published_rows(results: Results, reference: Reference, head: Sequence[str] = ()) -> list[TableRow]:
    """The paper's own rows under `score_columns()`, as far as they are known."""
    found = []
    for position, ((method, setting), scores) in enumerate(reference.items()):
        front = [*map(TableCell, head), *published_head(method, setting)]
        entries = [
            TableCell(number(scores.get((benchmark, metric), math.nan)))
            for benchmark, metric, _ in results.score_places()
        ]
        saved = percent(scores.get(("all", "kv_saved"), math.nan) / 100, 1, signed=False)
        found.append(TableRow((*front, *entries, TableCell(), TableCell(), TableCell(saved)), rule=position == 0))
    return found


def published_head(method: str, setting: str) -> tuple[TableCell, TableCell]:
    """How a row of the paper's own numbers begins."""
    return TableCell(f"{method_style(method).label}, as published"), TableCell(setting)


def nothing_published(width: int, head: Sequence[str] = ()) -> TableRow:
    """The row that stands for the paper's own ones where none of their cells is known; `width` columns of n/a."""
    front = [*map(TableCell, head), TableCell("As published"), TableCell("all rows")]
    return TableRow((*front, *[TableCell()] * width), rule=True)
