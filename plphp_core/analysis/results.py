"""Methods × benchmarks on one model: what is compared, and the numbers behind every entry."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from plphp_core.analysis.bootstrap import (
    EVALUATION,
    MISSING,
    TIMES,
    Estimate,
    Resamples,
    average,
    mean_estimates,
    negative,
    relative,
    scaled,
    time_estimate,
    whole_estimates,
)
from plphp_core.analysis.comparable import RowSpec, admits, comparable, one_protocol, rows_found
from plphp_core.analysis.frame import one_per_sample, sample_frame
from plphp_core.config.benchmark_catalogue import BenchmarkCatalogue, catalogue
from plphp_core.config.report_choices import Filters, Options
from plphp_core.families import family_names, get_family
from plphp_core.records.cell_result import CellResult
from plphp_core.records.errors import ReportError

SLOTS = "slot_accuracy"


class NothingToShow(ReportError):
    """No finished cell belongs in a table."""


@dataclass(frozen=True, eq=False)
class Results:
    """All numbers of the rows of one model's table: scores and costs, their changes and their averages.

    A quantity is a metric's name or a cost of `bootstrap`. Numbers are computed once, when they are asked for.

    Attributes:
        benchmarks: those of the table, in its order.
        skipped: benchmarks of the table that it does not ask of this model.
        cells: (row index, benchmark) → cell; places without a finished cell are absent.
        catalogue: headings and order of the benchmarks.
    """

    model: str
    rows: tuple[RowSpec, ...]
    options: Options
    benchmarks: tuple[str, ...]
    skipped: tuple[str, ...] = ()
    cells: Mapping[tuple[int, str], CellResult] = field(default_factory=dict)
    catalogue: BenchmarkCatalogue = field(default_factory=catalogue)
    _values: dict[tuple[int, str, str], Estimate] = field(default_factory=dict, init=False, repr=False)
    _draws: dict[tuple[str, str], Resamples] = field(default_factory=dict, init=False, repr=False)

    def value(self, row: int | None, benchmark: str, quantity: str) -> Estimate:
        """The number of a row; MISSING without a finished cell or without this quantity."""
        if row is None or (row, benchmark) not in self._samples:
            return MISSING
        place, confidence = (row, benchmark, quantity), self.options.confidence
        if place not in self._values:
            samples = self._samples[row, benchmark]
            if quantity in TIMES:
                self._values[place] = time_estimate(samples, quantity, self.resamples(benchmark, "batch"), confidence)
            else:
                found = mean_estimates(samples, self.resamples(benchmark), confidence)
                found |= whole_estimates(self.cells[row, benchmark], self.options.resamples, confidence)
                self._values.update({(row, benchmark, name): one for name, one in found.items()})
        return self._values.setdefault(place, MISSING)

    def change(self, row: int, benchmark: str, quantity: str, base: int | None = None) -> Estimate:
        """(value − value of row `base`) / value of row `base`, paired; base None: the uncompressed row. The negative of
        that for a score of which less is better: more is better in every change.

        MISSING without either, and for times that cannot be compared (`apart`).
        """
        base = self.reference if base is None else base
        if quantity in TIMES and self.apart(row, benchmark, base):
            return MISSING
        value, reference = (self.value(at, benchmark, quantity) for at in (row, base))
        found = relative(value, reference, self.options.confidence)
        lower = self.catalogue[benchmark].lower_is_better and quantity in self.headings(benchmark)
        return negative(found) if lower else found

    def average(self, row: int, quantity: str) -> Estimate:
        """Unweighted mean over the benchmarks that any row has the quantity of; MISSING if this row lacks one."""
        rows = range(len(self.rows))
        names = [b for b in self.benchmarks if any(not math.isnan(self.value(at, b, quantity).value) for at in rows)]
        return average([self.value(row, name, quantity) for name in names], self.options.confidence)

    def average_change(self, row: int, benchmarks: Sequence[str] | None = None, base: int | None = None) -> Estimate:
        """Mean change relative to row `base` (None: the uncompressed row) over the columns of `benchmarks`, paired."""
        columns = [column for column in self.columns() if benchmarks is None or column[0] in benchmarks]
        if self.options.average == "columns":
            return average([self.change(row, *column, base) for column in columns], self.options.confidence)
        parts = []
        for name in dict.fromkeys(benchmark for benchmark, _ in columns):
            of_one = [self.change(row, *column, base) for column in columns if column[0] == name]
            parts.append(average(of_one, self.options.confidence))
        return average(parts, self.options.confidence)

    def seconds(self, row: int, benchmark: str) -> Estimate:
        """Evaluation time: the sum over the answered samples, in seconds; MISSING without a finished cell."""
        cell = self.cells.get((row, benchmark))
        return MISSING if cell is None else scaled(self.value(row, benchmark, EVALUATION), cell.n / 1e3)

    def apart(self, row: int, benchmark: str, base: int | None = None) -> str:
        """Why a row's times cannot be compared with those of `base` (None: the uncompressed row); empty if they can.

        dtype and engine are the same in a whole table (`comparable.SHARED`).
        """
        base = self.reference if base is None else base
        both = [self.cells[at, benchmark] for at in (row, base) if at is not None and (at, benchmark) in self.cells]
        if len(both) < 2 or base is None:
            return ""
        cell, other, name = *both, self.rows[base].label
        if several := [one.hardware for one in both if "; " in one.hardware]:
            return f"measured on several machines ({several[0]})"
        if cell.hardware != other.hardware:
            return f"measured on {cell.hardware}, {name} on {other.hardware}"
        if cell.batch_size != other.batch_size:
            return f"batch size {cell.batch_size}, {name} {other.batch_size}"
        return ""

    def resamples(self, benchmark: str, unit: str = "unit") -> Resamples:
        """How often each document (or group of documents that belong together) of the benchmark, or each "batch" of
        them, is drawn: the same for all rows."""
        if (benchmark, unit) not in self._draws:
            units = np.concatenate([own[unit] for (_, name), own in self._samples.items() if name == benchmark])
            name = benchmark if unit == "unit" else f"{benchmark} batches"
            self._draws[benchmark, unit] = Resamples(units, name, self.options.resamples, self.options.seed)
        return self._draws[benchmark, unit]

    def samples(self, row: int, benchmark: str) -> pd.DataFrame:
        """What each sample of a finished cell cost and its batch, columns of the frame, by doc_id."""
        return one_per_sample(self._samples[row, benchmark]).set_index("doc_id")

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The samples behind the numbers, `frame.sample_frame`."""
        return sample_frame(self.cells, self.reference)

    @cached_property
    def _samples(self) -> dict[tuple[int, str], pd.DataFrame]:
        """(row index, benchmark) → its part of the frame."""
        return dict(list(self.frame.groupby(["row", "benchmark"], sort=False))) if self.cells else {}

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

    def paired(self, index: int, base: int | None, benchmark: str) -> int:
        """Number of documents that both rows answered."""
        cells = [self.cells[at, benchmark] for at in (index, base) if at is not None and (at, benchmark) in self.cells]
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
        return [one for one in every if any(not math.isnan(self.value(index, *one).value) for index in rows)]

    def on(self, benchmark: str) -> dict[int, CellResult]:
        """Row index → finished cell of a benchmark."""
        return {row: cell for (row, name), cell in self.cells.items() if name == benchmark}

    def finished(self) -> list[str]:
        """The benchmarks with at least one finished cell."""
        return [name for name in self.benchmarks if any((index, name) in self.cells for index in range(len(self.rows)))]

    def asked(self) -> list[str]:
        """The benchmarks that belong in the table: all but those skipped without a single cell."""
        return [name for name in self.benchmarks if name not in self.skipped or name in self.finished()]

    def missing(self) -> list[tuple[int, str]]:
        """The (row index, benchmark) places without a finished cell."""
        every = [(i, b) for i, row in enumerate(self.rows) for b in self.asked() if row.on.get(b, {}) is not None]
        return [place for place in every if place not in self.cells]

    def label(self, index: int) -> str:
        """Method and setting of a row."""
        return f"{self.rows[index].label} {self.setting(index)}".strip()

    def setting(self, index: int) -> str:
        """How the row's parameters are printed; empty for the uncompressed row."""
        return "" if self.rows[index].method == "none" else self.rows[index].setting


def evaluate(
    cells: Sequence[CellResult],
    rows: Sequence[RowSpec] | None,
    filters: Filters,
    options: Options,
    benchmarks: Sequence[str] | None = None,
    skipped: Sequence[str] = (),
) -> Results:
    """Choose the cells of one model.

    Args:
        rows: None takes the rows that have finished cells.
        benchmarks: of the table; None: those of the cells.
        skipped: of these, the ones that the table does not ask of this model.
    Raises:
        NothingToShow: nothing matches.
        ReportError: the choice is ambiguous (`comparable`).
    """
    rows = tuple(rows if rows is not None else rows_found(cell for cell in cells if admits(filters, cell)))
    known = catalogue()
    names = tuple(known.ordered((cell.benchmark for cell in cells) if benchmarks is None else benchmarks))
    chosen = comparable(cells, rows, names, filters)
    if not chosen:
        raise NothingToShow(f"none of the {len(cells)} finished cells belongs in the table with these options")
    model = next(iter(chosen.values())).model
    return Results(model, rows, options, names, tuple(skipped), chosen, known)


def protocol(results: Results) -> str | None:
    """The protocol of the cells; caption cells may name another one, so the others come first. None without cells."""
    cells = sorted(results.cells.values(), key=lambda cell: one_protocol(cell.benchmark))
    return cells[0].protocol if cells else None
