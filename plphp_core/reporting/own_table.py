"""A table of one's own: `configs/table/<name>.yaml` names its rows, benchmarks and columns (docs/add-a-table.md)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import yaml

from plphp_core.analysis.estimates import DECODE, KV, PREFILL
from plphp_core.analysis.results import Results
from plphp_core.config.locations import config_file
from plphp_core.records.errors import ReportError
from plphp_core.reporting import notes, score_columns
from plphp_core.reporting.csv_export import long_table
from plphp_core.reporting.request import Report, ReportRequest, on_benchmarks
from plphp_core.reporting.table_model import TableColumn
from plphp_core.reporting.table_spec import NumberColumn, TableSpec, where

DEFAULT = ("scores", "average_change", "vision_kept", "kv_saved")


def columns(results: Results, names: Sequence[str]) -> list[NumberColumn]:
    """The columns that a table's file names, in order; scores and costs have one per benchmark.

    Raises:
        ReportError: a name that is not known; the message has those that are.
    """
    kept, saved = score_columns.vision(results, spread=True)

    def cost(quantity: str, unit: str, bytes_: float = 1.0) -> list[NumberColumn]:
        def column(name: str) -> NumberColumn:
            heading = TableColumn(unit, name)
            return NumberColumn(heading, lambda index: results.value(index, name, quantity), scale=1 / bytes_)

        return [column(name) for name in results.asked()]

    known: dict[str, Callable[[], list[NumberColumn]]] = {
        "scores": lambda: score_columns.scores(results),
        "average_change": lambda: [score_columns.average_change(results)],
        "vision_kept": lambda: [kept],
        "kv_saved": lambda: [saved],
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
    parts, title = [results], f"{spec.get('title', name)}{where(asked.profile)}"
    said = [notes.profile(asked.profile, several=False), *notes.run(parts), *notes.samples(parts), *notes.images(parts)]
    said += [notes.ranking(parts), notes.average(parts), notes.COSTS, *notes.failures(parts), *notes.gaps(parts)]
    table = TableSpec(title, results.title, results, chosen, said, notes.intervals(parts, f"{name}.csv"))
    sheets = [table.numbers(), table.intervals()]
    return Report(name, variant, sheets, parts, {"": long_table(results, saved=True)})
