"""Table 1 on paper: its sheets (scores, intervals, the toy profile's slot accuracy) from the numbers of `table1`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from plphp_core.reporting.bootstrap import MISSING, relative
from plphp_core.reporting.selection import LABELS
from plphp_core.reporting.sheet import Column, Entry, Row, Sheet, bounds, emphasise, number, percent
from plphp_core.reporting.table1 import BENCHMARKS, SCORES, SLOTS, Results
from plphp_core.reporting.table1_notes import interval_notes, score_notes, slot_notes

Reference = Mapping[tuple[str, str], Mapping[tuple[str, str], float]]
FAMILIES = {
    "llava_onevision": "LLaVA-OneVision",
    "qwen2_vl": "Qwen2-VL",
    "idefics2": "IDEFICS2",
    "mantis": "Mantis",
}
HEAD = (Column("Method", text=True), Column("Setting", text=True))


def sheets(results: Results, profile: str, reference: Reference) -> list[Sheet]:
    """The sheets of Table 1, the paper's layout first. `reference`: published scores from `load_reference`."""
    where = "" if profile == "paper" else f" ({profile} profile)"
    found = [_scores(results, profile, reference, where), _intervals(results, where)]
    if any(metric == SLOTS for _, _, metric in results.scores):
        found.append(_slots(results, where))
    return found


def _scores(results: Results, profile: str, reference: Reference, where: str) -> Sheet:
    columns = (*HEAD, *[Column(label, group) for group, _, label in SCORES])
    columns += (Column("change", "Average"), Column("kept", "Vision"), Column("saved", "KV"))

    def line(index: int) -> list[Entry]:
        entries = [_score(results, index, benchmark, metric) for benchmark, metric, _ in SCORES]
        entries.append(Entry(percent(results.average_change(index).value)))
        entries.append(Entry(percent(results.average_cost(index, "retention"), 1, signed=False)))
        return [*entries, Entry(percent(results.average_cost(index, "kv_saved"), 1, signed=False))]

    rows = _rows(results, line)
    for at, (benchmark, metric, _) in enumerate(SCORES, start=len(HEAD)):
        values = [100 * results.score(index, benchmark, metric).value for index in range(len(results.rows))]
        rows = emphasise(rows, at, values, _eligible(results))
    changes = [100 * results.average_change(index).value for index in range(len(results.rows))]
    rows = emphasise(rows, len(HEAD) + len(SCORES), changes, _eligible(results))
    rows += _published(reference, len(columns))
    title = f"Reproduction of Table 1{where}: methods × benchmarks, {_model(results)}"
    return Sheet(title, columns, tuple(rows), tuple(score_notes(results, profile, bool(reference))))


def _score(results: Results, index: int, benchmark: str, metric: str) -> Entry:
    cell = results.cells.get((index, benchmark))
    score, change = results.score(index, benchmark, metric), results.change(index, benchmark, metric)
    mark = f"†{cell.errors}" if cell is not None and cell.errors else ""
    detail = ""
    if results.rows[index].method == "plphp" and not math.isnan(change.value):
        points = 100 * (score.value - results.score(results.reference, benchmark, metric).value)
        detail = percent(change.value) if results.options.gains == "relative" else number(points, signed=True)
    return Entry(number(100 * score.value), detail, mark)


def _intervals(results: Results, where: str) -> Sheet:
    columns = (*HEAD, *[Column(label, group) for group, _, label in SCORES], Column("change", "Average"))

    def line(index: int) -> list[Entry]:
        found = [results.score(index, benchmark, metric) for benchmark, metric, _ in SCORES]
        entries = [Entry(bounds(score.low, score.high)) for score in found]
        whole = results.average_change(index)
        change = Entry("reference") if index == results.reference else Entry(bounds(whole.low, whole.high, signed=True))
        return [*entries, change]

    title = f"Reproduction of Table 1{where}: {results.options.confidence:.0%} confidence intervals"
    return Sheet(title, columns, tuple(_rows(results, line)), tuple(interval_notes(results)))


def _slots(results: Results, where: str) -> Sheet:
    columns = (*HEAD, *[Column(name) for name in BENCHMARKS], Column("Average"), Column("interval"), Column("change"))

    def line(index: int) -> list[Entry]:
        mean = results.average_slots(index)
        change = MISSING if results.reference is None else relative(mean, results.average_slots(results.reference))
        entries = [Entry(number(100 * results.score(index, name, SLOTS).value)) for name in BENCHMARKS]
        summary = [number(100 * mean.value), bounds(mean.low, mean.high), percent(change.value)]
        return [*entries, *map(Entry, summary)]

    rows = _rows(results, line)
    for at, name in enumerate((*BENCHMARKS, None), start=len(HEAD)):
        found = [results.score(i, name, SLOTS) if name else results.average_slots(i) for i in range(len(results.rows))]
        rows = emphasise(rows, at, [100 * score.value for score in found], _eligible(results))
    title = f"Reproduction of Table 1{where}: slot accuracy"
    return Sheet(title, columns, tuple(rows), tuple(slot_notes()))


def _rows(results: Results, line: Callable[[int], list[Entry]]) -> list[Row]:
    rows = []
    for index, row in enumerate(results.rows):
        starts = index == 0 or results.rows[index - 1].method != row.method
        rows.append(Row((Entry(row.label), Entry(results.setting(index)), *line(index)), rule=starts))
    return rows


def _published(reference: Reference, width: int) -> list[Row]:
    if not reference:
        return [Row((Entry("As published"), Entry("all rows"), *[Entry()] * (width - len(HEAD))), rule=True)]
    rows = []
    for position, ((method, setting), scores) in enumerate(reference.items()):
        found = [Entry(number(scores.get((benchmark, metric), math.nan))) for benchmark, metric, _ in SCORES]
        rest = [Entry()] * (width - len(HEAD) - len(found))
        label = f"{LABELS.get(method, method)}, as published"
        rows.append(Row((Entry(label), Entry(setting), *found, *rest), rule=position == 0))
    return rows


def _eligible(results: Results) -> list[bool]:
    return [results.options.rank == "all" or row.method != "none" for row in results.rows]


def _model(results: Results) -> str:
    name = next(iter(results.cells.values())).model
    return FAMILIES.get(name, name)
