"""The tables and figures that claims rest on, each evaluated once from the finished cells."""

from __future__ import annotations

from functools import cached_property

from plphp_core.analysis.results import Results
from plphp_core.config.hydra_app import options
from plphp_core.config.table_configs import table_config
from plphp_core.records.attention_result import AttentionResult
from plphp_core.records.errors import ReportError
from plphp_core.reporting.configured import benchmark_configured, benchmarks_configured, method_configured
from plphp_core.reporting.request import ReportRequest, evaluate_models
from plphp_core.reporting.table_layout import table_layout

MULTI_IMAGE = ("SD", "IE", "VST", "MV")
BENCHMARKS = (*MULTI_IMAGE, "Flickr30k", "COCO2017", "DetailCaps")  # the paper's: what its claims are about


class ClaimSources:
    """Every table raises ReportError where its cells are missing or ambiguous."""

    def __init__(self, asked: ReportRequest):
        self.asked = asked

    @cached_property
    def table1(self) -> Results:
        """All methods on all benchmarks, also those of Figure 5."""
        return self._evaluate("table1", list(BENCHMARKS))

    @cached_property
    def table2(self) -> Results:
        """α × β."""
        return self._evaluate("table2")

    @cached_property
    def table3(self) -> list[Results]:
        """The table's own models; one without finished cells has none."""
        layout = table_layout("table3")
        labels = benchmarks_configured(None, "table3")
        return evaluate_models("table3", self.asked, layout.models, labels, layout.skip)

    @cached_property
    def table5(self) -> Results:
        """r against none, on the table's own benchmark."""
        return self._evaluate("table5", [benchmark_configured(None, "table5")])

    @cached_property
    def figure6(self) -> Results:
        """r × Δr."""
        return self._evaluate("figure6")

    @cached_property
    def attention(self) -> dict[str, list[AttentionResult]]:
        """Model → its attention readings."""
        return self.asked.attention()

    @cached_property
    def checkpoints(self) -> dict[str, str]:
        """Model → the checkpoint that its configuration names for the paper's profile."""
        return {name: str(table_config(None, "paper", name).model.checkpoint) for name in options("model")}

    def default(self, results: Results) -> int:
        """Index of PLPHP's row with the configured parameters. Raises ReportError if the table has none."""
        wanted = method_configured("plphp", self.asked.profile, results.model)
        wanted = {name: value for name, value in wanted.items() if name not in ("name", "setting")}
        for index, row in enumerate(results.rows):
            if row.method == "plphp" and row.params == wanted:
                return index
        raise ReportError("the table has no row of PLPHP with the configured parameters")

    def _evaluate(self, table: str, benchmarks: list[str] | None = None) -> Results:
        """A table's rows on `benchmarks`, by default its own."""
        labels = benchmarks_configured(None, table) if benchmarks is None else benchmarks
        return evaluate_models(table, self.asked, [self.asked.options.model], labels)[0]
