"""How a table is laid out: what its file in `configs/table/` says beside rows and benchmarks (docs/add-a-table.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from omegaconf import OmegaConf

from plphp_core.config.table_configs import table_config
from plphp_core.records.errors import ReportError

OF_RUNS = ("kind", "rows")  # keys that a run reads, and a report does not


@dataclass(frozen=True)
class TableLayout:
    """One table, as data.

    Attributes:
        name: of its file, and starts the names of the files it is written to.
        title: stands above the table, before what it `shows`: {model} and {benchmark} are filled in, and a table that
            names its {benchmark} is about a single one.
        models: those it compares, one below the other; none: the model that is asked for.
        skip: (model, benchmark label) places that it leaves out.
        head: what names a row: "method", "setting", "parameters" (a column for each), or single parameters.
        columns, tables, csv: what is shown (`table_report.COLUMNS`, `TABLES`, `CSV`).
        notes: below the table, further ones of `table_notes.NOTES` or sentences; claims: ids of claims of the paper to
            quote.
        gains: methods whose scores have the change against Uncompressed behind them; None: every method.
        emphasis: what is bold: "best", the "uncompressed" row outdone, or "none".
        inline: intervals stand behind the numbers.
        published: whether the paper's own numbers stand below.
        latex: whether there is a .tex file.
    """

    name: str
    title: str
    shows: str = "{model}"
    models: tuple[str, ...] = ()
    skip: tuple[tuple[str, str], ...] = ()
    head: tuple[str, ...] = ("method", "setting")
    columns: tuple[str, ...] = ("average_change", "vision_kept", "kv_saved", "scores")
    tables: tuple[str, ...] = ("numbers", "intervals")
    csv: tuple[str, ...] = ("scores",)
    notes: tuple[str, ...] = ()
    claims: tuple[str, ...] = ()
    gains: tuple[str, ...] | None = None
    emphasis: str = "best"
    inline: bool = False
    published: bool = False
    latex: bool = True

    @property
    def of_one_benchmark(self) -> bool:
        return "{benchmark}" in self.shows


def table_layout(name: str) -> TableLayout:
    """The layout of `configs/table/<name>.yaml`. Raises ReportError for a key that it does not have."""
    found: Any = OmegaConf.to_container(table_config(name).table, resolve=True)
    known = [field.name for field in fields(TableLayout)]
    if unknown := sorted(set(found) - {*known, *OF_RUNS}):
        raise ReportError(f"configs/table/{name}.yaml: unknown key {unknown[0]!r}; known keys: {', '.join(known)}")
    found = {key: _plain(value) for key, value in found.items() if key not in OF_RUNS}
    found["skip"] = tuple((model, label) for model, _, label in (one.partition("/") for one in found.get("skip") or ()))
    return TableLayout(**{"title": name} | found)


def _plain(value: object) -> object:
    """Lists as tuples; None, as `models: null`, as one without entries."""
    return (
        tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else () if value is None else value
    )
