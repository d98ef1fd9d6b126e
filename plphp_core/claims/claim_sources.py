"""The tables and figures that claims rest on, each evaluated once from the finished cells."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property

from omegaconf import OmegaConf

from plphp_core.analysis.results import Results
from plphp_core.config.equal_cost import AGAINST, NONE, Contender, EqualCost, equal_cost
from plphp_core.config.hydra_app import options
from plphp_core.config.table_configs import COMPARE, table_config
from plphp_core.records.errors import ReportError, UserError
from plphp_core.reporting.configured import benchmarks_configured, method_configured
from plphp_core.reporting.cost_comparison import CostComparison, gather
from plphp_core.reporting.request import ReportRequest, evaluate_models
from plphp_core.reporting.table_content import table_layout

MULTI_IMAGE = ("SD", "IE", "VST", "MV")
BENCHMARKS = (*MULTI_IMAGE, "Flickr30k", "COCO2017", "DetailCaps")  # the paper's: what its claims are about
LLAVA = ("llava_onevision",)


def reference(results: Results) -> int:
    """Index of the uncompressed row. Raises ReportError if the table has none."""
    if results.reference is None:
        raise ReportError("the table has no uncompressed row")
    return results.reference


def shared(results: Results, rows: Sequence[int], benchmarks: Sequence[str]) -> list[str]:
    """The benchmarks that all rows have finished."""
    return [name for name in benchmarks if all((at, name) in results.cells for at in rows)]


class ClaimSources:
    """Every table raises ReportError where its cells are missing or ambiguous.

    Args:
        methods: those that are asked for at equal bytes.
    """

    def __init__(self, asked: ReportRequest, methods: Iterable[str] = ()):
        self.asked = asked
        self._tables: dict[str, Results] = {}
        self._methods = tuple(dict.fromkeys((AGAINST, *methods)))
        self._compared: dict[str, CostComparison | ReportError] = {}

    def table(self, name: str) -> Results:
        """The rows of a table or figure on its benchmarks; of Table 1 on the paper's."""
        if name not in self._tables:
            labels = list(BENCHMARKS) if name == "table1" else benchmarks_configured(None, name)
            (self._tables[name],) = evaluate_models(name, self.asked, [self.asked.options.model], labels)
        return self._tables[name]

    def pruned(
        self, models: Sequence[str], benchmarks: Sequence[str] = BENCHMARKS
    ) -> list[tuple[Results, list[int], Sequence[str]]]:
        """Per model the table, its rows of Uncompressed and of PLPHP at its defaults, and the benchmarks asked of both:
        LLaVA-OneVision in Table 1, others in Table 3."""
        if models == LLAVA:
            results = self.table("table1")
            return [(results, [reference(results), self._default(results)], benchmarks)]
        found: list[tuple[Results, list[int], Sequence[str]]] = []
        for model in models:
            own = [(one, at) for one in self._table3 if one.model == model for at, row in enumerate(one.rows)
                   if row.method == "plphp"]  # fmt: skip
            if not own:
                raise ReportError(f"the table has no row of PLPHP for {model}")
            results, row = own[0]
            asked = [name for name in results.asked() if name in benchmarks]
            found.append((results, [reference(results), row], asked))
        return found

    @cached_property
    def _table3(self) -> list[Results]:
        """The table's own models; one without finished cells has none."""
        layout = table_layout("table3")
        labels = benchmarks_configured(None, "table3")
        return evaluate_models("table3", self.asked, layout.models, labels, layout.skip)

    def _default(self, results: Results) -> int:
        """Index of PLPHP's row with the configured parameters. Raises ReportError if the table has none."""
        wanted = method_configured("plphp", self.asked.profile, results.model)
        wanted = {name: value for name, value in wanted.items() if name not in ("name", "setting")}
        for index, row in enumerate(results.rows):
            if row.method == "plphp" and row.params == wanted:
                return index
        raise ReportError("the table has no row of PLPHP with the configured parameters")

    def compared_models(self, models: Sequence[str]) -> list[str]:
        """Where a claim about `models` is measured at equal bytes: there, or off the paper's profile on the model that
        is asked for, which is as good and as bad a stand-in as any."""
        return list(models) if self.asked.profile == "paper" else [self.asked.options.model]

    def compared(self, model: str) -> CostComparison:
        """A random choice and the methods at equal bytes, but for those that cannot be brought to a budget here.

        Raises NothingToShow if nothing is measured at equal bytes on the model.
        """
        if model not in self._compared:
            asked = replace(self.asked, options=replace(self.asked.options, model=model, equal=self._equal(model)))
            try:
                self._compared[model] = gather(COMPARE, asked)[0]
            except ReportError as error:
                self._compared[model] = error
        found = self._compared[model]
        if isinstance(found, ReportError):
            raise found
        return found

    def _equal(self, model: str) -> EqualCost:
        config = table_config(COMPARE, self.asked.profile, model)
        table = OmegaConf.to_container(config.table, resolve=True)  # its profile is beside it
        found: dict[str, Contender] = {}
        for name in self._methods:
            with suppress(UserError):
                named = OmegaConf.create(table | {"methods": [*dict.fromkeys((NONE, AGAINST, name))]})
                one = equal_cost(named, config.profile, config.model)
                found |= {contender.name: contender for contender in one.contenders}
        return replace(one, contenders=tuple(found.values()))

    def checkpoints(self, models: Sequence[str]) -> dict[str, str]:
        """Model → the checkpoint that its configuration names for the paper's profile."""
        known = options("model")
        return {name: str(table_config(None, "paper", name).model.checkpoint) for name in models if name in known}
