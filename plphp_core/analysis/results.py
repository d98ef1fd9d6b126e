"""Methods × benchmarks on one model: what is compared, and the numbers behind every entry."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

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
from plphp_core.analysis.comparable import Filters, RowSpec, place, rows_found
from plphp_core.families import family_names, get_family
from plphp_core.records.cell_result import CellResult
from plphp_core.records.errors import ReportError

# (benchmark, metric, heading), in the paper's order.
SCORES = (
    ("SD", "rouge_l", "R-L"),
    ("IE", "rouge_l", "R-L"),
    ("VST", "rouge_l", "R-L"),
    ("MV", "overall", "Overall"),
    ("Flickr30k", "cider", "C"),
    ("Flickr30k", "meteor", "M"),
    ("COCO2017", "cider", "C"),
    ("COCO2017", "meteor", "M"),
    ("DetailCaps", "cider", "C"),
    ("DetailCaps", "meteor", "M"),
)
BENCHMARKS = tuple(dict.fromkeys(benchmark for benchmark, _, _ in SCORES))
MULTI_IMAGE = ("SD", "IE", "VST", "MV")
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

    skipped: benchmarks that the table does not ask of this model.
    """

    model: str
    rows: tuple[RowSpec, ...]
    options: Options
    skipped: tuple[str, ...] = ()
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
        return self.scores.get((index, benchmark, metric), MISSING)

    def change(self, index: int, benchmark: str, metric: str, base: int | None = None) -> Estimate:
        """The score's change relative to row `base`, None: to the uncompressed row; MISSING without either."""
        if base is None:
            return self.changes.get((index, benchmark, metric), MISSING)
        scores = (self.score(at, benchmark, metric) for at in (index, base))
        return relative(*scores, self.options.confidence)

    def paired(self, index: int, base: int, benchmark: str) -> int:
        """Number of documents that both rows answered."""
        cells = [self.cells.get((at, benchmark)) for at in (index, base)]
        return 0 if None in cells else len(np.intersect1d(*(cell.doc_ids for cell in cells)))

    def columns(self) -> list[tuple[str, str]]:
        """The (benchmark, metric) score columns that at least one row has a number in: what averages are taken over."""
        rows = range(len(self.rows))
        return [(b, m) for b, m, _ in SCORES if any(not math.isnan(self.score(index, b, m).value) for index in rows)]

    def benchmarks(self) -> list[str]:
        """The benchmarks with at least one finished cell."""
        return [name for name in BENCHMARKS if any((index, name) in self.cells for index in range(len(self.rows)))]

    def asked(self) -> list[str]:
        """The benchmarks that belong in the table: all but those skipped without a single cell."""
        return [name for name in BENCHMARKS if name not in self.skipped or name in self.benchmarks()]

    def missing(self) -> list[tuple[int, str]]:
        """The (row index, benchmark) places without a finished cell."""
        return [(i, b) for i in range(len(self.rows)) for b in self.asked() if (i, b) not in self.cells]

    def label(self, index: int) -> str:
        """Method and setting of a row."""
        return f"{self.rows[index].label} {self.setting(index)}".strip()

    def setting(self, index: int) -> str:
        """How the row's parameters are printed; empty for the uncompressed row."""
        return "" if self.rows[index].method == "none" else self.rows[index].setting

    def average_change(self, index: int, benchmarks: Sequence[str] = BENCHMARKS, base: int | None = None) -> Estimate:
        """Mean change relative to row `base` (None: the uncompressed row) over the columns of `benchmarks`, paired."""
        columns = [column for column in self.columns() if column[0] in benchmarks]
        if self.options.average == "columns":
            return average([self.change(index, *column, base) for column in columns], self.options.confidence)
        parts = []
        for name in dict.fromkeys(benchmark for benchmark, _ in columns):
            of_one = [self.change(index, *column, base) for column in columns if column[0] == name]
            parts.append(average(of_one, self.options.confidence))
        return average(parts, self.options.confidence)

    def average_slots(self, index: int) -> Estimate:
        """Mean slot accuracy over the benchmarks that any row has it for."""
        names = [b for b in BENCHMARKS if any((i, b, SLOTS) in self.scores for i in range(len(self.rows)))]
        return average([self.score(index, name, SLOTS) for name in names], self.options.confidence)

    def average_cost(self, index: int, name: str) -> float:
        """Unweighted mean over benchmarks of an efficiency figure (or "kv_saved"); nan if the row lacks one."""
        cells = [self.cells.get((index, benchmark)) for benchmark in self.benchmarks()]
        return (
            math.nan
            if not cells or None in cells
            else float(np.mean([getattr(cell.efficiency, name) for cell in cells]))
        )


def evaluate(
    cells: Sequence[CellResult],
    rows: Sequence[RowSpec] | None,
    filters: Filters,
    options: Options,
    skipped: Sequence[str] = (),
) -> Results:
    """Choose the cells of one model and compute every number. `rows` None takes the rows that have finished cells.

    Raises NothingToShow if nothing matches, ReportError if the choice is ambiguous (`selection.place`).
    """
    rows = tuple(rows if rows is not None else rows_found(filter(filters, cells)))
    chosen = place(cells, rows, BENCHMARKS, filters)
    if not chosen:
        raise NothingToShow(f"none of the {len(cells)} finished cells belongs in the table with these options")
    reference = next((index for index, row in enumerate(rows) if row.method == "none"), None)
    scores: dict[tuple[int, str, str], Estimate] = {}
    changes: dict[tuple[int, str, str], Estimate] = {}
    common: dict[tuple[int, str], int] = {}
    for benchmark in BENCHMARKS:
        column = {index: cell for (index, name), cell in chosen.items() if name == benchmark}
        if not column:
            continue
        documents = np.concatenate([cell.doc_ids for cell in column.values()])
        resamples = Resamples(documents, benchmark, options.resamples, options.seed)
        for index, cell in column.items():
            for metric, entry in cell.metrics.items():
                scores[index, benchmark, metric] = estimate(entry, cell.doc_ids, resamples, options.confidence)
        if reference not in column:
            continue
        for index, cell in column.items():
            common[index, benchmark] = len(np.intersect1d(cell.doc_ids, column[reference].doc_ids))
            for metric in cell.metrics:
                base = scores.get((reference, benchmark, metric), MISSING)
                changes[index, benchmark, metric] = relative(scores[index, benchmark, metric], base, options.confidence)
    model = next(iter(chosen.values())).model
    return Results(model, rows, options, tuple(skipped), chosen, scores, changes, common)


def protocol(results: Results) -> str | None:
    """The protocol of the cells; caption cells may name another one, so the others come first. None without cells."""
    cells = sorted(results.cells.values(), key=lambda cell: cell.benchmark not in MULTI_IMAGE)
    return cells[0].protocol if cells else None
