"""Methods at equal cost: what a table of kind `compare` shows (docs/compare.md)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from plphp_core.analysis.bootstrap import MISSING, Estimate, typical_cost
from plphp_core.analysis.comparable import RowSpec
from plphp_core.analysis.results import NothingToShow, Results, evaluate
from plphp_core.config.benchmark_catalogue import label_of
from plphp_core.config.equal_cost import NONE, Contender, Cost, EqualCost, equal_cost, in_words, shown
from plphp_core.config.report_settings import MODEL
from plphp_core.config.table_configs import table_config
from plphp_core.config.table_rows import SYMBOLS
from plphp_core.records.cell_result import CellResult
from plphp_core.records.cost_matches import CostMatch, CostMatches, load_matches, matches_path
from plphp_core.reporting.configured import benchmarks_configured
from plphp_core.reporting.published_scores import PublishedScores, load_published_scores
from plphp_core.reporting.request import ReportRequest, file_suffix
from plphp_core.reporting.table_model import TableRow
from plphp_core.reporting.table_spec import where

ALL = "100%"  # the budget of Uncompressed
SHEETS = ("changes", "against_control", "against_none", "groups", "reached")  # unless a table's file names others
NOT_LOOKED_FOR: Mapping[str, Any] = {"": "not looked for"}  # parameters that no cell has


@dataclass(frozen=True, eq=False)
class CostComparison:
    """What is shown: row 0 is Uncompressed, then every method at every budget.

    Attributes:
        matches: benchmark → with which parameters the methods are at the budgets; absent where nobody has looked.
        published: rows that others have printed, of this model.
    """

    title: str
    profile: str
    results: Results
    equal: EqualCost
    matches: Mapping[str, CostMatches]
    sheets: Sequence[str] = SHEETS
    published: PublishedScores | None = None

    @property
    def kind(self) -> Cost:
        """What the methods spend equal amounts of."""
        return self.equal.cost

    @property
    def control(self) -> str:
        """How tables call the method that the others are compared with."""
        return self.results.rows[self.against(1)].label

    @property
    def places(self) -> list[tuple[float, Contender]]:
        """Budget and method of each row from 1 on."""
        return [(budget, one) for budget in self.equal.budgets for one in self.equal.contenders]

    def against(self, index: int) -> int:
        """The row of the control at the budget of a row."""
        return self.places.index((self.places[index - 1][0], self.equal.against)) + 1

    def benchmarks(self, index: int) -> list[str]:
        """What a row's averages run over: the benchmarks on which the control reaches the budget."""
        names = self.results.finished()
        return names if index == 0 else [one for one in names if self.reached(self.against(index), one)]

    def reached(self, index: int, benchmark: str) -> bool:
        """Whether a row's method can be had at its budget, as far as that is known."""
        return self.results.rows[index].on.get(benchmark, {}) is not None

    def match(self, index: int, benchmark: str) -> CostMatch | None:
        """How a row's method is brought to its budget."""
        budget, one = self.places[index - 1]
        found = self.matches.get(benchmark)
        return None if found is None else found.match(self.kind.name, budget, one.name, one.params)

    def change(self, index: int) -> Estimate:
        """Average change of the scores relative to Uncompressed."""
        return self.results.average_change(index, self.benchmarks(index))

    def difference(self, index: int) -> Estimate:
        """The same relative to the control at the same bytes."""
        if index == 0:
            return MISSING
        return self.results.average_change(index, self.benchmarks(index), self.against(index))

    def cost(self, index: int, name: str) -> float:
        """One of COSTS, mean over the benchmarks of a row; nan if one is missing."""
        cells = [self.results.cells.get((index, one)) for one in self.benchmarks(index)]
        known = [cost_of(cell, name) for cell in cells if cell is not None]
        return sum(known) / len(known) if known and len(known) == len(cells) else math.nan

    def setting(self, index: int, benchmarks: Sequence[str] | None = None) -> str:
        """Parameters beside the method's usual ones, and those that were searched, from the least to the most."""
        if index == 0:
            return ""
        budget, one = self.places[index - 1]
        parts = [one.setting] * bool(one.setting)
        if budget in one.official:
            parts += [f"{SYMBOLS.get(name, name)}={value}" for name, value in one.official[budget].items()]
        elif one.search is not None:
            found = [self.match(index, name) for name in benchmarks or self.benchmarks(index)]
            values = sorted(match.params[one.search.parameter] for match in found if match is not None and match.params)
            ends = dict.fromkeys(map(in_words, (*values[:1], *values[-1:])))
            parts += [f"{one.search.parameter}={' … '.join(ends)}"] * bool(ends)
        return ", ".join(parts)

    def row(self, budget: float, method: str) -> int | None:
        """The first row of a method at a budget; None if it is not compared."""
        found = (at for at, (own, one) in enumerate(self.places, start=1) if (own, one.name) == (budget, method))
        return next(found, None)

    def unequal(self) -> dict[tuple[int, str], float]:
        """(row, benchmark) → share of the budget that the cell takes, of those that are not at it."""
        found = {}
        for (index, benchmark), cell in self.results.cells.items():
            match = self.match(index, benchmark) if index else None
            held = typical_cost(cell, self.kind.cell)
            if (
                match is not None
                and abs(held - match.wanted) > self.equal.nearness(*self.places[index - 1]) * match.wanted
            ):
                found[index, benchmark] = held / match.wanted
        return found

    @cached_property
    def rows(self) -> list[TableRow]:
        """How the rows begin; a rule above each budget."""
        found = [TableRow.of(ALL, self.results.rows[0].label, "")]
        for index, (budget, one) in enumerate(self.places, start=1):
            front = (shown(budget), self.results.rows[index].label, self.setting(index))
            found.append(TableRow.of(*front, rule=one is self.equal.contenders[0]))
        return found


def cost_of(cell: CellResult, name: str) -> float:
    """One of COSTS of a cell. Times are medians, others means over the samples."""
    if name == "kv_share":
        return typical_cost(cell, "kv_bytes") / typical_cost(cell, "kv_bytes_full")
    if name == "attended_tokens":  # of a layer and head, after the prefill
        return float((cell.costs["prompt_tokens"] * cell.costs["kv_bytes"] / cell.costs["kv_bytes_full"]).mean())
    return typical_cost(cell, name)


def gather(name: str, asked: ReportRequest) -> tuple[CostComparison, str]:
    """The comparison, and what the names of its files say of the choice.

    Raises:
        NothingToShow: no cell of it is finished.
        ReportError: the choice of cells is ambiguous, or a file is damaged.
    """
    own = table_config(name, asked.profile)
    # in a report of several tables each has its own model, unless another one is asked for
    given = asked.options.table == name or asked.options.model != MODEL
    model = asked.options.model if given else str(own.model.name)
    config = table_config(name, asked.profile, model)
    usual = equal_cost(config.table, config.profile, config.model)
    equal = asked.options.equal or usual
    cost = equal.cost
    tasks = asked.options.tasks
    labels = list(map(label_of, config.tasks.values())) if tasks is None else benchmarks_configured(tasks)
    cells = [cell for cell in asked.usual_cells([model]) if cell.benchmark in labels and cell.model == model]
    matches = _matches([cell for cell in cells if cell.method == NONE])
    looked = [one for record in matches.values() for one in record.found if one.cost == cost.name]
    if not looked:
        command = "make compare" if name == "compare" else f"plphp reproduce table={name}"
        raise NothingToShow(f"nothing is measured at equal {cost.same} on {', '.join(labels)} yet: `{command}` does it")
    rows = [RowSpec(NONE)]
    for budget in equal.budgets:
        for one in equal.contenders:
            on: dict[str, Mapping[str, Any] | None] = {}
            for label in labels:
                found = label in matches and matches[label].match(cost.name, budget, one.name, one.params)
                on[label] = found.params if found else NOT_LOOKED_FOR
            text = ", ".join(filter(None, [f"{cost.short} {shown(budget)}", one.setting]))
            rows.append(RowSpec(one.name, {}, text, on))
    results = evaluate(cells, rows, replace(asked.filters, model=model), asked.choices, labels)
    variant = f".model={model}" * (model != own.model.name) + file_suffix(name, asked, [results], labels)
    variant += f".budgets={'+'.join(f'{one:g}' for one in equal.budgets)}" * (equal.budgets != usual.budgets)
    chosen = "+".join(dict.fromkeys(one.name for one in equal.contenders))
    variant += f".methods={chosen}" * (equal.contenders != usual.contenders)
    title = f"{config.table.get('title', name)}{where(asked.profile)}"
    sheets = tuple(config.table.get("sheets", SHEETS))
    printed = load_published_scores(asked.options.published, name) if config.table.get("published") else None
    if printed is not None:
        printed = printed.of(model) if asked.profile == "paper" else replace(printed, rows=())
    return CostComparison(title, asked.profile, results, equal, matches, sheets, printed), variant


def _matches(references: Sequence[CellResult]) -> dict[str, CostMatches]:
    """Benchmark → matches that were found for the very weights, data and code of the cell of Uncompressed."""
    found = {}
    for cell in references:
        record = load_matches(matches_path(cell.path))
        if record is not None and record.key == cell.key:
            found[cell.benchmark] = record
    return found
