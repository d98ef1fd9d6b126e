"""The tables and figures that claims rest on, each evaluated once from the finished cells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from omegaconf import OmegaConf

from plphp_core.analysis import costs
from plphp_core.analysis.results import Results, evaluate
from plphp_core.analysis.retention_stats import Savings, savings
from plphp_core.records.errors import ReportError
from plphp_core.reporting import table3
from plphp_core.reporting.attention_results import AttentionResult
from plphp_core.reporting.configured import (
    benchmark_configured,
    benchmarks_configured,
    method_configured,
    models_configured,
    rows_configured,
    tasks_configured,
)
from plphp_core.reporting.request import ReportRequest


def once(make: Callable) -> property:
    """A property that is made at its first use; a ReportError is remembered too, as several claims ask for it."""

    def get(sources: ClaimSources) -> object:
        made, name = sources.made, make.__name__
        if name not in made:
            try:
                made[name] = make(sources)
            except ReportError as error:
                made[name] = error
        if isinstance(made[name], ReportError):
            raise made[name]
        return made[name]

    return property(get, doc=make.__doc__)


@dataclass(frozen=True, eq=False)
class ClaimSources:
    """Every table raises ReportError where its cells are missing or ambiguous."""

    asked: ReportRequest
    made: dict[str, object] = field(default_factory=dict, init=False)

    @once
    def table1(self) -> Results:
        """All methods on all benchmarks, also those of Figure 5."""
        return self._evaluate("table1", self._benchmarks("table1"))

    @once
    def table1_saved(self) -> Savings:
        return savings(self.table1)

    @once
    def table2(self) -> Savings:
        """α × β."""
        return savings(self._evaluate("table2", self._benchmarks("table2")))

    @once
    def table3(self) -> list[Results]:
        """The table's own models; one without finished cells has none."""
        asked = self.asked
        cells = asked.settled(models_configured(asked.configs, "table3")[0])
        return table3.compare(cells, asked.configs, asked.profile, [], asked.filters, asked.choices)

    @once
    def table5(self) -> costs.Costs:
        """r against none, on the table's own benchmark."""
        label = benchmark_configured(self.asked.configs, tasks_configured(self.asked.configs, "table5"))
        return costs.costs(self._evaluate("table5", [label]), label)

    @once
    def figure6(self) -> Savings:
        """r × Δr."""
        return savings(self._evaluate("figure6", self._benchmarks("figure6")))

    @once
    def attention(self) -> dict[str, list[AttentionResult]]:
        """Model → its attention readings."""
        return self.asked.readings()

    @property
    def folder(self) -> Path:
        """The results of all profiles."""
        return self.asked.options.results

    def checkpoints(self) -> dict[str, str]:
        """Model → the checkpoint that its configuration names for the paper's profile."""
        found = {}
        for path in sorted((self.asked.configs / "model").glob("*.yaml")):
            scope = OmegaConf.merge({"profile": {"checkpoints": {}}}, OmegaConf.load(path))
            found[path.stem] = str(scope.checkpoint)
        return found

    def default(self, results: Results) -> int:
        """Index of PLPHP's row with the configured parameters. Raises ReportError if the table has none."""
        wanted = method_configured(self.asked.configs, "plphp", self.asked.profile, results.model)
        wanted = {name: value for name, value in wanted.items() if name not in ("name", "setting")}
        for index, row in enumerate(results.rows):
            if row.method == "plphp" and row.params == wanted:
                return index
        raise ReportError("the table has no row of PLPHP with the configured parameters")

    def _benchmarks(self, table: str) -> list[str]:
        return benchmarks_configured(self.asked.configs, tasks_configured(self.asked.configs, table))

    def _evaluate(self, table: str, benchmarks: list[str]) -> Results:
        asked, model = self.asked, self.asked.options.model
        rows = rows_configured(asked.configs, table, asked.profile, model)
        if rows is None:
            raise ReportError(f"{table} lists no rows for profile {asked.profile!r}")
        here = [cell for cell in asked.own_cells if cell.benchmark in benchmarks]
        return evaluate(here, rows, replace(asked.filters, model=model), asked.choices, benchmarks)
