"""What a table shows: its layout, and the numbers of its models from the finished cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from plphp_core.analysis.comparable import RowSpec
from plphp_core.analysis.results import Results
from plphp_core.reporting.configured import benchmark_configured, method_configured
from plphp_core.reporting.published import load_reference
from plphp_core.reporting.request import ReportRequest, benchmarks_asked, evaluate_models, file_suffix, model_suffix
from plphp_core.reporting.table_layout import TableLayout
from plphp_core.reporting.table_spec import Reference, where


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
