"""Methods × benchmarks on one model: what is compared, and the numbers behind every entry."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from plphp_core.analysis.bootstrap import (
    CONFIDENCE,
    MISSING,
    RESAMPLES,
    Estimate,
    Resamples,
    average,
    estimate,
    relative,
)
from plphp_core.analysis.comparable import Filters, RowSpec, one_protocol, place, rows_found
from plphp_core.analysis.frame import sample_frame
from plphp_core.config.benchmark_catalogue import BenchmarkCatalogue, catalogue
from plphp_core.families import family_names, get_family
from plphp_core.records.cell_result import CellResult
from plphp_core.records.errors import ReportError

SLOTS = "slot_accuracy"


@dataclass(frozen=True)
class Options:
    """Choices the paper leaves open.

    rank: mark the best among "compressed" rows or among "all"; average: over the score "columns", or over "benchmarks"
    (C and M of a benchmark averaged first); gains: PLPHP's gain as "relative" change in percent, or in "points" of the
    printed score.
    """

    rank: str = "compressed"
    average: str = "columns"
    gains: str = "relative"
    resamples: int = RESAMPLES
    confidence: float = CONFIDENCE
    seed: int = 0


class NothingToShow(ReportError):
    """No finished cell belongs in a table."""


@dataclass(frozen=True, eq=False)
class Results:
    """All numbers of one model. Keys are (row index, benchmark, metric); places without a finished cell are absent.

    Attributes:
        benchmarks: those of the table, in its order.
        skipped: benchmarks of the table that it does not ask of this model.
        frame: the samples behind the numbers, `frame.sample_frame`; None without cells.
        catalogue: headings and order of the benchmarks.
    """

    model: str
    rows: tuple[RowSpec, ...]
    options: Options
    benchmarks: tuple[str, ...]
    skipped: tuple[str, ...] = ()
    frame: pd.DataFrame | None = None
    catalogue: BenchmarkCatalogue = field(default_factory=catalogue)
    cells: dict[tuple[int, str], CellResult] = field(default_factory=dict)
    scores: dict[tuple[int, str, str], Estimate] = field(default_factory=dict)
    # relative to the uncompressed row, paired
    changes: dict[tuple[int, str, str], Estimate] = field(default_factory=dict)
    # documents answered both by this row and by the uncompressed one
    common: dict[tuple[int, str], int] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The model as tables print it: its family's name or its own; an untrained stand-in is named as such."""
        title = get_family(self.model).title if self.model in family_names() else self.model
        return f"{title} (random weights)" if self.untrained else title

    @property
    def untrained(self) -> bool:
        """Whether the checkpoint's name says that nobody trained it (a folder …_random)."""
        names = {Path(cell.checkpoint).name for cell in self.cells.values()}
        return any(name.endswith(("_random", "-random")) for name in names)

    @property
    def reference(self) -> int | None:
        """Index of the uncompressed row."""
        return next((index for index, row in enumerate(self.rows) if row.method == "none"), None)

    def score(self, index: int | None, benchmark: str, metric: str) -> Estimate:
        """The score of a row; MISSING without a finished cell."""
        return MISSING if index is None else self.scores.get((index, benchmark, metric), MISSING)

    def change(self, index: int, benchmark: str, metric: str, base: int | None = None) -> Estimate:
        """The score's change relative to row `base`, None: to the uncompressed row; MISSING without either."""
        if base is None:
            return self.changes.get((index, benchmark, metric), MISSING)
        score, reference = (self.score(at, benchmark, metric) for at in (index, base))
        return relative(score, reference, self.options.confidence)

    def paired(self, index: int, base: int, benchmark: str) -> int:
        """Number of documents that both rows answered."""
        cells = [self.cells[at, benchmark] for at in (index, base) if (at, benchmark) in self.cells]
        return len(np.intersect1d(*(cell.doc_ids for cell in cells))) if len(cells) == 2 else 0

    def headings(self, benchmark: str) -> dict[str, str]:
        """The metrics shown of a benchmark and their headings: the catalogue's, else all that its cells have."""
        known = self.catalogue[benchmark].metrics
        found = (cell.metrics for (_, name), cell in self.cells.items() if name == benchmark)
        return dict(known) or {metric: metric for metrics in found for metric in metrics if metric != SLOTS}

    def score_places(self, benchmarks: Iterable[str] | None = None) -> list[tuple[str, str, str]]:
        """(benchmark, metric, heading) of every score column, of the table or of `benchmarks`, in its order."""
        chosen = self.benchmarks if benchmarks is None else benchmarks
        return [
            (name, metric, heading)
            for name in self.benchmarks
            if name in chosen
            for metric, heading in self.headings(name).items()
        ]

    def columns(self) -> list[tuple[str, str]]:
        """The (benchmark, metric) score columns that at least one row has a number in: what averages are taken over."""
        rows = range(len(self.rows))
        every = [(name, metric) for name, metric, _ in self.score_places()]
        return [one for one in every if any(not math.isnan(self.score(index, *one).value) for index in rows)]

    def finished(self) -> list[str]:
        """The benchmarks with at least one finished cell."""
        return [name for name in self.benchmarks if any((index, name) in self.cells for index in range(len(self.rows)))]

    def asked(self) -> list[str]:
        """The benchmarks that belong in the table: all but those skipped without a single cell."""
        return [name for name in self.benchmarks if name not in self.skipped or name in self.finished()]

    def missing(self) -> list[tuple[int, str]]:
        """The (row index, benchmark) places without a finished cell."""
        return [(i, b) for i in range(len(self.rows)) for b in self.asked() if (i, b) not in self.cells]

    def label(self, index: int) -> str:
        """Method and setting of a row."""
        return f"{self.rows[index].label} {self.setting(index)}".strip()

    def setting(self, index: int) -> str:
        """How the row's parameters are printed; empty for the uncompressed row."""
        return "" if self.rows[index].method == "none" else self.rows[index].setting

    def average_change(self, index: int, benchmarks: Sequence[str] | None = None, base: int | None = None) -> Estimate:
        """Mean change relative to row `base` (None: the uncompressed row) over the columns of `benchmarks`, paired."""
        columns = [column for column in self.columns() if benchmarks is None or column[0] in benchmarks]
        if self.options.average == "columns":
            return average([self.change(index, *column, base) for column in columns], self.options.confidence)
        parts = []
        for name in dict.fromkeys(benchmark for benchmark, _ in columns):
            of_one = [self.change(index, *column, base) for column in columns if column[0] == name]
            parts.append(average(of_one, self.options.confidence))
        return average(parts, self.options.confidence)

    def average_slots(self, index: int) -> Estimate:
        """Mean slot accuracy over the benchmarks that any row has it for."""
        names = [b for b in self.benchmarks if any((i, b, SLOTS) in self.scores for i in range(len(self.rows)))]
        return average([self.score(index, name, SLOTS) for name in names], self.options.confidence)

    def average_cost(self, index: int, name: str) -> float:
        """Unweighted mean over benchmarks of an efficiency figure (or "kv_saved"); nan if the row lacks one."""
        finished = self.finished()
        cells = [self.cells[index, benchmark] for benchmark in finished if (index, benchmark) in self.cells]
        whole = bool(cells) and len(cells) == len(finished)
        return float(np.mean([getattr(cell.efficiency, name) for cell in cells])) if whole else math.nan


def evaluate(
    cells: Sequence[CellResult],
    rows: Sequence[RowSpec] | None,
    filters: Filters,
    options: Options,
    benchmarks: Sequence[str] | None = None,
    skipped: Sequence[str] = (),
) -> Results:
    """Choose the cells of one model and compute every number.

    Args:
        rows: None takes the rows that have finished cells.
        benchmarks: of the table; None: all that are known, and those that only cells name.
        skipped: of these, the ones that the table does not ask of this model.
    Raises:
        NothingToShow: nothing matches.
        ReportError: the choice is ambiguous (`comparable.place`).
    """
    rows = tuple(rows if rows is not None else rows_found(filter(filters, cells)))
    known = catalogue()
    named = (*known.labels, *(cell.benchmark for cell in cells)) if benchmarks is None else benchmarks
    names = tuple(known.ordered(named))
    chosen = place(cells, rows, names, filters)
    if not chosen:
        raise NothingToShow(f"none of the {len(cells)} finished cells belongs in the table with these options")
    reference = next((index for index, row in enumerate(rows) if row.method == "none"), None)
    frame = sample_frame(chosen)
    scores: dict[tuple[int, str, str], Estimate] = {}
    changes: dict[tuple[int, str, str], Estimate] = {}
    common: dict[tuple[int, str], int] = {}
    for benchmark in (name for name in names if any(name == one for _, one in chosen)):
        samples = frame[frame.benchmark == benchmark]
        resamples = Resamples(samples.doc_id, benchmark, options.resamples, options.seed)
        for (index, name), own in samples.groupby(["row", "metric"], sort=False):
            measured = chosen[index, benchmark].metrics[name]
            scores[index, benchmark, name] = estimate(measured, own.doc_id.to_numpy(), resamples, options.confidence)
        if reference is None or (reference, benchmark) not in chosen:
            continue
        answered = chosen[reference, benchmark].doc_ids
        for index in (row for row, name in chosen if name == benchmark):
            common[index, benchmark] = len(np.intersect1d(chosen[index, benchmark].doc_ids, answered))
    for (index, benchmark, metric), score in scores.items():
        if reference is not None and (reference, benchmark) in chosen:
            base = scores.get((reference, benchmark, metric), MISSING)
            changes[index, benchmark, metric] = relative(score, base, options.confidence)
    model = next(iter(chosen.values())).model
    return Results(model, rows, options, names, tuple(skipped), frame, known, chosen, scores, changes, common)


def protocol(results: Results) -> str | None:
    """The protocol of the cells; caption cells may name another one, so the others come first. None without cells."""
    cells = sorted(results.cells.values(), key=lambda cell: one_protocol(cell.benchmark))
    return cells[0].protocol if cells else None
