"""The columns of scores, their average change, vision tokens kept and KV saved, as every table names them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

from plphp_core.analysis.bootstrap import KV_SAVED, MISSING, RETENTION, Estimate, relative
from plphp_core.analysis.results import SLOTS, Results
from plphp_core.reporting.table_model import TableCell, TableColumn, number, percent
from plphp_core.reporting.table_spec import NumberColumn, WordColumn, share, signed_percent

NOT_ASKED = "–"  # the table leaves this benchmark out for this model


def table_columns(results: Results) -> list[NumberColumn]:
    """Average change, vision kept, KV saved and scores."""
    return [average_change(results), vision_kept(results), kv_saved(results), *scores(results)]


def scores(results: Results, gains: Sequence[str] | None = ("plphp",)) -> list[NumberColumn]:
    """A column per score; behind those of the methods `gains` (None: of every method) the change over Uncompressed."""
    return [_score(results, *place, gains) for place in results.score_places()]


def _score(results: Results, benchmark: str, metric: str, heading: str, gains: Sequence[str] | None) -> NumberColumn:
    scale = results.catalogue[benchmark].scale

    def gain(index: int) -> str:
        change, method = results.change(index, benchmark, metric), results.rows[index].method
        if method == "none" or (gains is not None and method not in gains) or math.isnan(change.value):
            return ""
        if results.options.gains == "relative":
            return percent(change.value)
        base = results.value(results.reference, benchmark, metric)
        return number(scale * (results.value(index, benchmark, metric).value - base.value), signed=True)

    return NumberColumn(
        TableColumn(heading, benchmark),
        partial(results.value, benchmark=benchmark, quantity=metric),
        scale=scale,
        ranked=True,
        lower=results.catalogue[benchmark].lower_is_better,
        gain=gain,
        mark=lambda index: failed(results, index, benchmark),
        instead=lambda index: None if benchmark in results.asked() else NOT_ASKED,
        published=((benchmark, metric),),
    )


def failed(results: Results, index: int, benchmark: str) -> str:
    """The mark of a cell with failed samples: how many."""
    cell = results.cells.get((index, benchmark))
    return f"†{cell.errors}" if cell is not None and cell.errors else ""


def average_change(results: Results) -> NumberColumn:
    """Mean over the score columns of the change relative to Uncompressed."""

    def reference(index: int) -> str | None:
        own = index == results.reference and any(at == index for at, _ in results.cells)
        return "reference" if own else None

    heading = TableColumn("change", "Average")
    return NumberColumn(heading, results.average_change, signed_percent, ranked=True, no_interval=reference)


def vision_kept(results: Results) -> NumberColumn:
    """Share of the vision tokens kept, mean over the benchmarks."""
    return NumberColumn(
        TableColumn("kept", "Vision"), lambda index: results.average(index, RETENTION), share, ends=number
    )


def kv_saved(results: Results) -> NumberColumn:
    """Share of the prompt's KV bytes that is not held, mean over the benchmarks."""
    return NumberColumn(
        TableColumn("saved", "KV"),
        lambda index: results.average(index, KV_SAVED),
        share,
        ends=number,
        published=(("all", "kv_saved"),),
    )


def has_slots(results: Results) -> bool:
    """Whether any cell measured slot accuracy."""
    return any(SLOTS in cell.metrics for cell in results.cells.values())


def slots(results: Results) -> list[NumberColumn | WordColumn]:
    """Slot accuracy per benchmark, their average, its interval and change."""

    def change(index: int) -> Estimate:
        if results.reference is None:
            return MISSING
        return relative(results.average(index, SLOTS), results.average(results.reference, SLOTS))

    def slot(name: str) -> NumberColumn:
        return NumberColumn(
            TableColumn(name),
            lambda index: results.value(index, name, SLOTS),
            ranked=True,
            instead=lambda index: None if name in results.asked() else NOT_ASKED,
        )

    average = NumberColumn(TableColumn("Average"), lambda index: results.average(index, SLOTS), ranked=True)
    interval = WordColumn(TableColumn("interval"), lambda index: TableCell(average.bounds(index)))
    return [
        *map(slot, results.benchmarks),
        average,
        interval,
        NumberColumn(TableColumn("change"), change, signed_percent),
    ]
