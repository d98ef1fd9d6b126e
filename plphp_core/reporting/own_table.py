"""A table of one's own: `configs/table/<name>.yaml` names its rows, benchmarks and columns (docs/add-a-table.md)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import yaml

from plphp_core.analysis.bootstrap import Estimate
from plphp_core.analysis.costs import DECODE, KV, PREFILL, costs
from plphp_core.analysis.results import Results
from plphp_core.analysis.retention_stats import savings
from plphp_core.config.locations import config_file
from plphp_core.records.errors import ReportError
from plphp_core.reporting import notes, score_columns
from plphp_core.reporting.csv_export import long_table
from plphp_core.reporting.request import Report, ReportRequest, on_benchmarks
from plphp_core.reporting.table_model import NA, Table, TableCell, TableColumn, TableRow, number, percent

HEAD = (TableColumn("Method", text=True), TableColumn("Setting", text=True))
DEFAULT = ("scores", "average_change", "vision_kept", "kv_saved")


@dataclass(frozen=True)
class NumberColumn:
    """A column: its heading, each row's estimate, how a number of it is printed, whether its best is marked."""

    heading: TableColumn
    estimate: Callable[[int], Estimate]
    text: Callable[[float], str]
    ranked: bool = False

    def cell(self, index: int, results: Results) -> TableCell:
        return TableCell(self.text(self.estimate(index).value))

    def interval(self, index: int, results: Results) -> TableCell:
        found = self.estimate(index)
        known = not math.isnan(found.low) and not math.isnan(found.high)
        return TableCell(f"[{self.text(found.low)}, {self.text(found.high)}]" if known else NA)


def columns(results: Results, names: Sequence[str]) -> list[NumberColumn]:
    """The columns that a table's file names, in order; scores and costs have one per benchmark.

    Raises:
        ReportError: a name that is not known; the message has those that are.
    """
    saved = savings(results)

    def share(value: float) -> str:
        return percent(value, 1, signed=False)

    def scores() -> list[NumberColumn]:
        def column(name: str, metric: str, heading: str) -> NumberColumn:
            scale = results.catalogue[name].scale
            return NumberColumn(
                TableColumn(heading, name),
                lambda index: results.score(index, name, metric),
                lambda value: number(scale * value),
                ranked=True,
            )

        return [column(*place) for place in results.score_places()]

    def cost(quantity: str, unit: str, bytes_: float = 1.0) -> list[NumberColumn]:
        def column(name: str) -> NumberColumn:
            found = costs(results, name)
            return NumberColumn(
                TableColumn(unit, name),
                lambda index: found.value(index, quantity),
                lambda value: number(value / bytes_),
            )

        return [column(name) for name in results.asked()]

    known: dict[str, Callable[[], list[NumberColumn]]] = {
        "scores": scores,
        "average_change": lambda: [
            NumberColumn(TableColumn("change", "Average"), results.average_change, percent, ranked=True)
        ],
        "vision_kept": lambda: [
            NumberColumn(TableColumn("kept", "Vision"), lambda index: saved.average("retention", index), share)
        ],
        "kv_saved": lambda: [
            NumberColumn(TableColumn("saved", "KV"), lambda index: saved.average("kv_saved", index), share)
        ],
        "kv_cache": lambda: cost(KV, "KV MiB", 2**20),
        "decode": lambda: cost(DECODE, "ms/token"),
        "prefill": lambda: cost(PREFILL, "prefill ms"),
    }
    if unknown := [name for name in names if name not in known]:
        raise ReportError(f"unknown column {unknown[0]!r}; known columns: {', '.join(known)}")
    return [column for name in names for column in known[name]()]


def own_table(name: str, asked: ReportRequest) -> Report:
    """The report of `configs/table/<name>.yaml`: the table, its intervals, and every number as csv."""
    path = config_file("table", name)
    if path is None:
        raise ReportError(f"configs/table has no {name}.yaml")
    spec = yaml.safe_load(path.read_text(encoding="utf-8"))
    if asked.profile not in (spec.get("rows") or {}):
        raise ReportError(f"{path}: has no rows for profile {asked.profile!r}")
    results, _, variant = on_benchmarks(name, asked)
    chosen = columns(results, spec.get("columns") or DEFAULT)
    headings = (*HEAD, *(column.heading for column in chosen))

    def rows(cell: Callable) -> list[TableRow]:
        return score_columns.rows(results, lambda results, index: [cell(column, index, results) for column in chosen])

    ranked = [
        [100 * column.estimate(index).value if column.ranked else math.nan for index in range(len(results.rows))]
        for column in chosen
    ]
    marked = score_columns.marked(rows(NumberColumn.cell), ranked, results, len(HEAD))
    parts, title = [results], f"{spec.get('title', name)}{score_columns.where(asked.profile)}"
    said = [notes.profile(asked.profile, several=False), *notes.run(parts), *notes.samples(parts), *notes.images(parts)]
    said += [notes.ranking(parts), notes.average(parts), notes.COSTS, *notes.failures(parts), *notes.gaps(parts)]
    tables = [
        Table(f"{title}, {results.title}", headings, tuple(marked), tuple(said)),
        Table(
            f"{title}: {results.options.confidence:.0%} confidence intervals",
            headings,
            tuple(rows(NumberColumn.interval)),
            tuple(notes.intervals(parts, f"{name}.csv")),
        ),
    ]
    return Report(name, variant, tables, parts, {"": long_table(results, savings(results))})
