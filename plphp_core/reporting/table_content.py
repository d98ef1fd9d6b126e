"""What a table shows: how its file in `configs/table/` lays it out (docs/add-a-table.md), and the numbers of its models
from the finished cells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

from omegaconf import OmegaConf

from plphp_core.analysis.comparable import RowSpec
from plphp_core.analysis.results import Results
from plphp_core.config.table_configs import table_config
from plphp_core.records.errors import ReportError
from plphp_core.reporting.configured import benchmark_configured, method_configured
from plphp_core.reporting.published import load_reference
from plphp_core.reporting.request import ReportRequest, benchmarks_asked, evaluate_models, file_suffix, model_suffix
from plphp_core.reporting.table_spec import Reference, where

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


@dataclass(frozen=True, eq=False)
class TableContent:
    """`parts`: one per model, some perhaps without cells; `variant`: what the names of the files say of the choice."""

    layout: TableLayout
    asked: ReportRequest
    parts: Sequence[Results]
    variant: str = ""

    @property
    def profile(self) -> str:
        return self.asked.profile

    @property
    def title(self) -> str:
        """Of every table of the report, before what it shows."""
        return f"{self.layout.title}{where(self.profile)}"

    @property
    def several(self) -> bool:
        """Whether the table is about models, which it then names."""
        return bool(self.layout.models)

    @property
    def benchmark(self) -> str:
        """The label of the only benchmark; empty for several."""
        names = self.parts[0].benchmarks
        return names[0] if len(names) == 1 else ""

    @cached_property
    def references(self) -> Mapping[str, Reference]:
        """Model → the paper's own rows, as far as they are known."""
        if not self.layout.published:
            return {}
        folder, name = self.asked.options.published, self.layout.name
        return {part.model: load_reference(folder, name, part.model if self.several else None) for part in self.parts}

    def defaults(self, method: str, part: Results) -> Mapping[str, object]:
        """A method's parameters where a table names none."""
        return method_configured(method, self.profile, part.model)

    def is_default(self, row: RowSpec, names: Sequence[str], part: Results) -> bool:
        """Whether a row has the usual values of these parameters."""
        usual = self.defaults(row.method, part)
        return all(name in row.params and row.params[name] == usual.get(name) for name in names)


def gather(layout: TableLayout, asked: ReportRequest) -> TableContent:
    """The numbers of a table.

    Raises:
        NothingToShow: no model has a finished cell.
        ReportError: the choice of cells is ambiguous, models were run differently, or the table is about one benchmark
            and several are asked for.
    """
    if layout.of_one_benchmark:
        benchmark_configured(asked.options.tasks, layout.name)
    chosen = asked.options.model_names if layout.models else []
    models = chosen or layout.models or [asked.options.model]
    labels = benchmarks_asked(layout.name, asked)
    parts = evaluate_models(layout.name, asked, models, labels, layout.skip)
    about = f".models={'+'.join(chosen)}" if chosen else "" if layout.models else model_suffix(asked.options)
    return TableContent(layout, asked, parts, about + file_suffix(layout.name, asked, parts, labels))
