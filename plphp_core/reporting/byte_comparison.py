"""Methods at equal bytes: what a table of kind `compare` shows (docs/compare.md)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from plphp_core.analysis.bootstrap import DECODE, MISSING, PREFILL, Estimate, typical_cost
from plphp_core.analysis.comparable import RowSpec
from plphp_core.analysis.paired_contrasts import Contrast
from plphp_core.analysis.results import NothingToShow, Results, evaluate
from plphp_core.config.benchmark_catalogue import label_of
from plphp_core.config.equal_bytes import NONE, Contender, EqualBytes, equal_bytes
from plphp_core.config.table_configs import table_config
from plphp_core.records.byte_matches import TOLERANCE, ByteMatch, ByteMatches, load_matches, matches_path
from plphp_core.records.cell_result import FLOPS, CellResult
from plphp_core.reporting import cost_notes, notes
from plphp_core.reporting.comparison_tables import contrast_table, tally
from plphp_core.reporting.configured import benchmarks_configured
from plphp_core.reporting.csv_export import AGAINST_NONE, VALUE, named
from plphp_core.reporting.request import Report, ReportRequest, file_suffix, model_suffix
from plphp_core.reporting.table_model import NA, Table, TableCell, TableColumn, TableRow, bounds, number, percent
from plphp_core.reporting.table_spec import where

HEAD = (TableColumn("Budget", text=True), TableColumn("Method", text=True), TableColumn("Setting", text=True))
AGAINST_RANDOM = ("relative_to_random", "random_low", "random_high")
COSTS = ("kv_share", "attended_tokens", FLOPS, PREFILL, DECODE)
COLUMNS = ("model", "budget", "method", "setting", "benchmark", "metric", *VALUE, *AGAINST_NONE, *AGAINST_RANDOM,
           *COSTS, "parameters", "not_reached")  # fmt: skip
NOT_LOOKED_FOR: Mapping[str, Any] = {"": "not looked for"}  # parameters that no cell has
LOOK = (
    "What to look for: which line is higher at the same bytes, by more than the bars, and whether it is above the "
    "dashed lines of the controls; a method that is not above Random chooses no better than chance at that budget."
)


@dataclass(frozen=True, eq=False)
class ByteComparison:
    """What is shown: row 0 is Uncompressed, then every method at every budget.

    Attributes:
        matches: benchmark → with which parameters the methods are at the budgets; absent where nobody has looked.
    """

    title: str
    profile: str
    results: Results
    equal: EqualBytes
    matches: Mapping[str, ByteMatches]

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

    def match(self, index: int, benchmark: str) -> ByteMatch | None:
        """How a row's method is brought to its budget."""
        budget, one = self.places[index - 1]
        found = self.matches.get(benchmark)
        return None if found is None else found.match(budget, one.name, one.params)

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
        one = self.places[index - 1][1]
        shown = [one.setting] * bool(one.setting)
        if one.search is not None:
            found = [self.match(index, name) for name in benchmarks or self.benchmarks(index)]
            values = sorted(match.params[one.search.parameter] for match in found if match is not None and match.params)
            ends = dict.fromkeys(f"{value:g}" for value in (*values[:1], *values[-1:]))
            shown += [f"{one.search.parameter}={' … '.join(ends)}"] * bool(ends)
        return ", ".join(shown)

    def row(self, budget: float, method: str) -> int | None:
        """The first row of a method at a budget; None if it is not compared."""
        found = (at for at, (own, one) in enumerate(self.places, start=1) if (own, one.name) == (budget, method))
        return next(found, None)

    def unequal(self) -> dict[tuple[int, str], float]:
        """(row, benchmark) → share of the budget's bytes that the cell holds, of those that do not hold them."""
        found = {}
        for (index, benchmark), cell in self.results.cells.items():
            match = self.match(index, benchmark) if index else None
            held = typical_cost(cell, "kv_bytes")
            if match is not None and abs(held - match.wanted) > TOLERANCE * match.wanted:
                found[index, benchmark] = held / match.wanted
        return found

    @cached_property
    def rows(self) -> list[TableRow]:
        """How the rows begin; a rule above each budget."""
        found = [TableRow.of("100%", self.results.rows[0].label, "")]
        for index, (budget, one) in enumerate(self.places, start=1):
            front = (share(budget), self.results.rows[index].label, self.setting(index))
            found.append(TableRow.of(*front, rule=one is self.equal.contenders[0]))
        return found


def share(budget: float) -> str:
    return f"{100 * budget:g}%"


def cost_of(cell: CellResult, name: str) -> float:
    """One of COSTS of a cell. Times are medians, others means over the samples."""
    if name == "kv_share":
        return typical_cost(cell, "kv_bytes") / typical_cost(cell, "kv_bytes_full")
    if name == "attended_tokens":  # of a layer and head, after the prefill
        return float((cell.costs["prompt_tokens"] * cell.costs["kv_bytes"] / cell.costs["kv_bytes_full"]).mean())
    return typical_cost(cell, name)


def gather(name: str, asked: ReportRequest) -> tuple[ByteComparison, str]:
    """The comparison, and what the names of its files say of the choice.

    Raises:
        NothingToShow: no cell of it is finished.
        ReportError: the choice of cells is ambiguous, or a file is damaged.
    """
    model = asked.options.model
    config = table_config(name, asked.profile, model)
    usual = equal_bytes(config.table, config.profile, config.model)
    equal = asked.options.equal or usual
    tasks = asked.options.tasks
    labels = list(map(label_of, config.tasks.values())) if tasks is None else benchmarks_configured(tasks)
    cells = [cell for cell in asked.usual_cells([model]) if cell.benchmark in labels and cell.model == model]
    matches = _matches([cell for cell in cells if cell.method == NONE])
    if not matches:
        raise NothingToShow(f"nothing is measured at equal bytes on {', '.join(labels)} yet: `make compare` does it")
    rows = [RowSpec(NONE)]
    for budget in equal.budgets:
        for one in equal.contenders:
            on: dict[str, Mapping[str, Any] | None] = {}
            for label in labels:
                found = label in matches and matches[label].match(budget, one.name, one.params)
                on[label] = found.params if found else NOT_LOOKED_FOR
            rows.append(RowSpec(one.name, {}, ", ".join(filter(None, [f"KV {share(budget)}", one.setting])), on))
    results = evaluate(cells, rows, asked.of_model, asked.choices, labels)
    variant = model_suffix(asked.options) + file_suffix(name, asked, [results], labels)
    variant += f".budgets={'+'.join(f'{one:g}' for one in equal.budgets)}" * (equal.budgets != usual.budgets)
    chosen = "+".join(dict.fromkeys(one.name for one in equal.contenders))
    variant += f".methods={chosen}" * (equal.contenders != usual.contenders)
    title = f"{config.table.get('title', name)}{where(asked.profile)}"
    return ByteComparison(title, asked.profile, results, equal, matches), variant


def _matches(references: Sequence[CellResult]) -> dict[str, ByteMatches]:
    """Benchmark → matches that were found for the very weights, data and code of the cell of Uncompressed."""
    found = {}
    for cell in references:
        record = load_matches(matches_path(cell.path))
        if record is not None and record.key == cell.key:
            found[cell.benchmark] = record
    return found


def main_table(shown: ByteComparison) -> Table:
    """A line per budget and method: scores, against the control, bytes and costs."""
    random = shown.results.rows[shown.against(1)].label
    columns = (
        *HEAD,
        *[TableColumn(label, "vs. Uncompressed") for label in ("change", "interval")],
        *[TableColumn(label, f"vs. {random}") for label in ("change", "interval", "verdict")],
        TableColumn("held", "KV"),
        TableColumn("attended", "Tokens"),
        *[TableColumn(label, "Prefill") for label in ("GFLOPs", "ms")],
        TableColumn("ms/token", "Decode"),
    )
    lines = []
    for index, row in enumerate(shown.rows):
        change, against = shown.change(index), shown.difference(index)
        reference = index == 0 and shown.results.finished()
        cells = _changes(change, "reference" if reference else "")
        if index == 0:
            cells += [TableCell("")] * 3
        else:
            same = index == shown.against(index) and not math.isnan(change.value)
            cells += _changes(against, "reference" if same else "")
            cells.append(TableCell("" if same else verdict(against)))
        costs = {name: shown.cost(index, name) for name in COSTS}
        cells += [
            TableCell(percent(costs["kv_share"], signed=False)),
            TableCell(number(costs["attended_tokens"], 1)),
            TableCell(number(costs[FLOPS] / 1e9, 3)),
            TableCell(number(costs[PREFILL])),
            TableCell(number(costs[DECODE])),
        ]
        lines.append(TableRow((*row.cells, *cells), row.rule))
    what = f"methods at equal measured KV bytes, {shown.results.title}"
    return Table(f"{shown.title}: {what}", columns, tuple(lines), tuple(_notes(shown, random)))


def _changes(change: Estimate, word: str) -> list[TableCell]:
    if word:
        return [TableCell(word), TableCell("")]
    return [TableCell(percent(change.value)), TableCell(bounds(change.low, change.high, signed=True))]


def verdict(change: Estimate) -> str:
    """What an interval says."""
    if math.isnan(change.low):
        return NA
    return "above" if change.low > 0 else "below" if change.high < 0 else "no difference shown"


def reaching_table(shown: ByteComparison) -> Table:
    """With which parameters the methods are at the budgets, benchmark by benchmark, and what they then hold."""
    names = list(shown.matches)
    lines = []
    for index, (budget, one) in enumerate(shown.places, start=1):
        cells = []
        for name in names:
            match = shown.match(index, name)
            if match is None or match.params is None:
                cells.append(TableCell())
                continue
            record = shown.matches[name]
            full = record.token_bytes * sum(record.lengths) / len(record.lengths)
            how = "every sample" if one.search is None else shown.setting(index, [name])
            cells.append(TableCell(how, percent((match.kv_bytes or math.nan) / full, signed=False)))
        front = map(TableCell, (share(budget), shown.results.rows[index].label, one.setting))
        lines.append(TableRow((*front, *cells), one is shown.equal.contenders[0]))
    said = (
        "In parentheses: mean KV bytes measured, as a share of the full ones; whole tokens are kept, so that it is at "
        "most the budget. Every sample: the method follows a count and holds the budget of each prompt "
        "exactly. Others: the parameter under which the mean over the benchmark's prompts agrees with that within "
        f"{TOLERANCE:.1%}, found on prefills alone.",
    )
    columns = (*HEAD, *(TableColumn(name) for name in names))
    return Table(f"{shown.title}: how each budget was reached", columns, tuple(lines), said)


def _contrasts(shown: ByteComparison, random: bool) -> list[Contrast]:
    """Every row against Uncompressed, or against the control at its budget."""
    found: list[Contrast] = []
    for index, (budget, one) in enumerate(shown.places, start=1):
        base = shown.against(index) if random else 0
        if base != index:
            label = f"{shown.results.rows[index].label} {one.setting}".strip()
            first = not found or found[-1].names[0] != share(budget)
            found.append(Contrast(index, base, (share(budget), label), rule=first))
    return found


def _notes(shown: ByteComparison, random: str) -> list[str]:
    results, parts = shown.results, [shown.results]
    over: dict[tuple[str, ...], list[str]] = {}
    for budget in shown.equal.budgets:
        at = shown.places.index((budget, shown.equal.contenders[0])) + 1
        over.setdefault(tuple(shown.benchmarks(at)), []).append(share(budget))
    listed = "; ".join(f"{', '.join(at)}: {', '.join(names) or 'none'}" for names, at in over.items())
    options = results.options
    found = [
        notes.profile(shown.profile, several=False),
        *notes.run(parts),
        *notes.samples(parts),
        *notes.images(parts),
        "Budget: share of the KV bytes of a prompt, text included, that is held after the prefill. All methods of a "
        "budget hold the same bytes, as measured; the last table says how each was brought there.",
        f"Changes: unweighted mean over the score columns of the change relative to Uncompressed, and to {random} at "
        f"the same bytes, with {options.confidence:.0%} intervals: both rows are drawn on the same samples in each of "
        f"{options.resamples:,} resamples. Above, below: the interval lies wholly above or below 0. The intervals are "
        "not widened for their number: of twenty comparisons of equals about one looks different.",
        f"Averages of a budget run over the benchmarks on which {random} reaches it ({listed}); a method that misses "
        "one of them is n/a.",
        notes.scores(parts),
        "Tokens attended: prompt tokens that a decode step reads, mean over layers, heads, samples, then benchmarks. "
        "Prefill GFLOPs: of the decoder's layers over the tokens that came into each, by FastV's count (4nd² + 2n²d + "
        "2ndm), mean over samples, then benchmarks; vision encoder and scoring are not in it. Prefill and decode "
        "times: medians over samples, mean over benchmarks.",
        *cost_notes.times(parts, shown.profile),
        *_missed(shown),
    ]
    if unequal := shown.unequal():
        said = (f"{results.label(row)} on {name}: {held:.2%} of the bytes" for (row, name), held in unequal.items())
        found.append(f"Not at equal bytes, do not compare: {'; '.join(said)}.")
    return [*found, *notes.failures(parts), *notes.gaps(parts)]


def _missed(shown: ByteComparison) -> list[str]:
    """Which budgets cannot be reached, benchmark by benchmark, and why; what has the same reason together."""
    said: dict[str, dict[str, tuple[dict[str, None], dict[str, None]]]] = {}
    for index, (budget, one) in enumerate(shown.places, start=1):
        for name in shown.matches:
            match = shown.match(index, name)
            if match is not None and match.params is None:
                budgets, labels = said.setdefault(name, {}).setdefault(match.missing, ({}, {}))
                budgets[share(budget)] = labels[f"{shown.results.rows[index].label} {one.setting}".strip()] = None
    return [
        f"Not reached on {name}: "
        + "; ".join(f"{', '.join(labels)} at {', '.join(at)}: {why}" for why, (at, labels) in reasons.items())
        + "."
        for name, reasons in said.items()
    ]


def frame(shown: ByteComparison) -> pd.DataFrame:
    """One line per row, benchmark and metric, and per row the average: scores as fractions."""
    results, lines = shown.results, []
    for index in range(len(results.rows)):
        budget = 1.0 if index == 0 else shown.places[index - 1][0]
        front = {"model": results.model, "budget": budget, "method": results.rows[index].method}
        for name, metric, _ in results.score_places():
            cell = results.cells.get((index, name))
            match = shown.match(index, name) if index else None
            line = front | {"setting": shown.setting(index, [name]), "benchmark": name, "metric": metric}
            line |= named(results.value(index, name, metric), VALUE)
            line |= named(results.change(index, name, metric), AGAINST_NONE)
            if index:
                line |= named(results.change(index, name, metric, shown.against(index)), AGAINST_RANDOM)
            if cell is not None:
                line |= {one: cost_of(cell, one) for one in COSTS}
                line["parameters"] = ", ".join(f"{key}={value}" for key, value in cell.params.items())
            lines.append(line | {"not_reached": match.missing if match is not None else ""})
        line = front | {"setting": shown.setting(index), "benchmark": "average", "metric": "scores"}
        line |= named(shown.change(index), AGAINST_NONE) | named(shown.difference(index), AGAINST_RANDOM)
        lines.append(line | {one: shown.cost(index, one) for one in COSTS})
    return pd.DataFrame(lines, columns=list(COLUMNS))


def report(name: str, asked: ReportRequest) -> Report:
    """The comparison with all its files."""
    from plphp_core.reporting.figures.score_over_bytes import pictures  # matplotlib takes a second to import

    shown, variant = gather(name, asked)
    random = shown.results.rows[shown.against(1)].label
    against = _contrasts(shown, random=True)
    said = [tally(shown.results, against)] if against else []
    sheets = [
        main_table(shown),
        contrast_table(
            shown.results,
            f"{shown.title}: each score against {random} at the same bytes",
            ("Budget", "Method"),
            against,
            [*said, "Average: over all score columns of the table; n/a where one cannot be had."],
        ),
        contrast_table(
            shown.results,
            f"{shown.title}: each score against Uncompressed",
            ("Budget", "Method"),
            _contrasts(shown, random=False),
        ),
        reaching_table(shown),
    ]
    return Report(name, variant, sheets, [shown.results], {"": frame(shown)}, pictures(shown), look=LOOK)
