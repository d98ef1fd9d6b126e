"""Which rows of several submissions can stand in one table, and the numbers of those that can.

Per model, the first submission that has it says under which conditions it is measured: checkpoint and revision, dtype,
kernels, protocol, prompts, engine, samples, and on each benchmark task, data and documents. What differs is left out,
with the reason that `comparable` gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from plphp_core.analysis.bootstrap import MISSING, RETENTION, Estimate, average
from plphp_core.analysis.comparable import RowSpec, admits, comparable, rows_found
from plphp_core.analysis.results import Results
from plphp_core.analysis.usual_kind import usual_kind
from plphp_core.config.benchmark_catalogue import catalogue
from plphp_core.config.report_choices import Filters, Options
from plphp_core.records.cell_result import CellResult
from plphp_core.records.errors import ReportError
from plphp_core.reporting.configured import dtype_configured
from plphp_core.reporting.leaderboard.submission import Submission

BY = "submission"  # the parameter that tells rows of several submissions apart
BANDS = (0.25, 0.5, 0.75, 1.0)  # shares of the vision tokens kept: rows compete within one


@dataclass(frozen=True)
class Refusal:
    """A row, on one benchmark or several, that cannot stand beside the others of its model, and why."""

    submission: str
    model: str
    row: RowSpec
    benchmarks: tuple[str, ...]
    why: str


@dataclass(frozen=True, eq=False)
class Ranking:
    """One model's rows. submitted: who submitted each row."""

    results: Results
    submitted: Sequence[str]

    def mean(self, row: int, quantity: str) -> Estimate:
        """A cost of a row, mean over the benchmarks that it has."""
        names = [name for name in self.results.benchmarks if (row, name) in self.results.cells]
        return average([self.results.value(row, name, quantity) for name in names]) if names else MISSING

    def band(self, row: int) -> float:
        """The smallest of BANDS that holds what the row keeps."""
        kept = self.mean(row, RETENTION).value
        return next((band for band in BANDS if kept <= band + 1e-9), BANDS[-1])

    def reference(self, row: int) -> int | None:
        """The uncompressed row of the same submission, else the first one."""
        plain = [at for at, one in enumerate(self.results.rows) if one.method == "none"]
        own = [at for at in plain if self.submitted[at] == self.submitted[row]]
        return next(iter(own or plain), None)

    def change(self, row: int) -> Estimate:
        """Average change against `reference`, over the score columns."""
        base = self.reference(row)
        return MISSING if base is None else self.results.average_change(row, base=base)


def rankings(
    found: Sequence[Submission], filters: Filters, options: Options, profile: str
) -> tuple[list[Ranking], list[Refusal]]:
    """A ranking per model, models by name, and what was refused."""
    made, refused = [], []
    own = {one.name: _chosen(one.cells, filters, profile) for one in found}
    for model in sorted({cell.model for cells in own.values() for cell in cells}):
        mine = {name: [cell for cell in cells if cell.model == model] for name, cells in own.items()}
        accepted, others = _accepted(model, mine)
        refused += others
        made.append(_ranking(model, accepted, options))
    return made, refused


def _chosen(cells: Sequence[CellResult], filters: Filters, profile: str) -> list[CellResult]:
    """What was asked for; of several kinds, model by model, the usual one."""
    asked = [cell for cell in cells if admits(filters, cell)]
    found: list[CellResult] = []
    for model in dict.fromkeys(cell.model for cell in asked):
        of_model = [cell for cell in asked if cell.model == model]
        found += usual_kind(of_model, filters, lambda name: dtype_configured(profile, name), lambda _: True).results
    return found


Accepted = list[tuple[str, RowSpec, list[CellResult]]]


def _accepted(model: str, mine: dict[str, list[CellResult]]) -> tuple[Accepted, list[Refusal]]:
    """The rows with their cells that agree with the first of each benchmark."""
    first: dict[str, CellResult] = {}
    accepted, refused = [], []
    for name, cells in mine.items():
        for row in rows_found(cells):
            good: list[CellResult] = []
            reasons: dict[str, list[str]] = {}
            for cell in (cell for cell in cells if cell.method == row.method and cell.params == row.params):
                if any(cell.benchmark == other.benchmark for other in good):
                    reasons.setdefault("several finished cells for the same place", []).append(cell.benchmark)
                elif why := _apart(cell, first):
                    reasons.setdefault(why, []).append(cell.benchmark)
                else:
                    first.setdefault(cell.benchmark, cell)
                    good.append(cell)
            refused += [Refusal(name, model, row, tuple(on), why) for why, on in reasons.items()]
            if good:
                accepted.append((name, row, good))
    return accepted, refused


def _apart(cell: CellResult, first: dict[str, CellResult]) -> str:
    """Why a cell cannot stand in a table with the first cell of each benchmark; empty if it can."""
    others = [_named(one, "the board") for one in first.values()]
    mine = _named(cell, "this row")
    try:
        chosen = comparable([*others, mine], rows_found([*others, mine]), [*first, cell.benchmark], Filters())
    except ReportError as error:
        head, *lines = str(error).splitlines()
        values = [line.strip().rpartition(": ")[0] for line in lines]
        return f"{head.partition(', one table')[0]}: {', '.join(values)}"
    # `comparable` leaves out captions of other prompts than the rest has
    return "" if any(one is mine for one in chosen.values()) else "prompts differ from those of the board's other cells"


def _named(cell: CellResult, name: str) -> CellResult:
    """The cell as a row of its own."""
    return cell.model_copy(update={"params": cell.params | {BY: name}})


def _ranking(model: str, accepted: Accepted, options: Options) -> Ranking:
    rows = [RowSpec(row.method, row.params | {BY: name}, row.setting) for name, row, _ in accepted]
    cells = {(at, cell.benchmark): cell for at, (_, _, own) in enumerate(accepted) for cell in own}
    names = tuple(catalogue().ordered(benchmark for _, benchmark in cells))
    results = Results(model, tuple(rows), options, names, (), cells)
    ranking = Ranking(results, [name for name, _, _ in accepted])
    order = sorted(range(len(rows)), key=lambda at: (-ranking.band(at), rows[at].method != "none", at))
    place = {old: new for new, old in enumerate(order)}
    moved = {(place[at], name): cell for (at, name), cell in cells.items()}
    sorted_results = replace(results, rows=tuple(rows[at] for at in order), cells=moved)
    return Ranking(sorted_results, [accepted[at][0] for at in order])
