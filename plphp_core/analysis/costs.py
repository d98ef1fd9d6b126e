"""What answering one benchmark costs: cache and times of every row, with intervals and changes against Uncompressed.

A row's times are compared with Uncompressed only if both were measured on one kind of machine and in one batch size;
dtype and engine are the same in a whole table (`selection.SHARED`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from plphp_core.analysis.bootstrap import MISSING, Estimate, Resamples, relative, with_interval
from plphp_core.analysis.results import Options, Results
from plphp_core.records.cell_result import CellResult

RETENTION, KV, DECODE, PREFILL, EVALUATION = QUANTITIES = (
    "retention",
    "kv_bytes",
    "decode_ms_per_token",
    "prefill_ms",
    "evaluation_ms",
)
TIMES = (DECODE, PREFILL, EVALUATION)
# The range of n values holds the true median with probability 1 − 2^(1−n): fewer than these have no 95 % interval.
FEWEST = 6
MEDIANS = (DECODE, PREFILL)  # one slow sample must not decide; the others are means over samples


@dataclass(frozen=True, eq=False)
class Costs:
    """Costs of the rows of `results` on `benchmark`.

    values: (row index, quantity) → mean or, of MEDIANS, median over samples, in the unit of the quantity's name;
        `retention` is a fraction and `evaluation_ms` the mean per sample.
    changes: relative to Uncompressed, paired by sample; a time that cannot be compared has none.
    apart: row index → why its times cannot be compared with Uncompressed's.
    """

    results: Results
    benchmark: str
    values: Mapping[tuple[int, str], Estimate]
    changes: Mapping[tuple[int, str], Estimate]
    apart: Mapping[int, str]

    def cell(self, index: int) -> CellResult | None:
        """The row's cell; None if it is not finished."""
        return self.results.cells.get((index, self.benchmark))

    def cells(self) -> dict[int, CellResult]:
        """Row index → finished cell."""
        found = {index: self.cell(index) for index in range(len(self.results.rows))}
        return {index: cell for index, cell in found.items() if cell is not None}

    def value(self, index: int, quantity: str) -> Estimate:
        """MISSING without a finished cell or without a measurement."""
        return self.values.get((index, quantity), MISSING)

    def change(self, index: int, quantity: str) -> Estimate:
        """MISSING without either, and for times that cannot be compared."""
        return self.changes.get((index, quantity), MISSING)

    def seconds(self, index: int) -> float:
        """Evaluation time: the sum over the answered samples, in seconds; nan if unmeasured."""
        cell = self.cell(index)
        return math.nan if cell is None else self.value(index, EVALUATION).value * cell.n / 1e3


def costs(results: Results, benchmark: str) -> Costs:
    """Every cost of the rows of `results` on `benchmark`."""
    options = results.options
    cells = {index: cell for (index, name), cell in results.cells.items() if name == benchmark}
    reference = results.reference if results.reference in cells else None
    batch_of = _batches([cells[reference]] if reference is not None else [], cells.values())
    documents = np.array(sorted(batch_of))
    draws = {
        False: Resamples(documents, benchmark, options.resamples, options.seed),
        # samples of a batch share their time: whole batches are drawn
        True: Resamples([*batch_of.values()], f"{benchmark} batches", options.resamples, options.seed),
    }
    values, changes, apart = {}, {}, {}
    for index, cell in cells.items():
        for quantity in QUANTITIES:
            timed = quantity in TIMES
            units = np.array([batch_of[doc] for doc in cell.doc_ids.tolist()]) if timed else cell.doc_ids
            values[index, quantity] = _estimate(per_sample(cell, quantity), units, quantity, draws[timed], options)
        if reference is not None and (reason := _apart(cell, cells[reference])):
            apart[index] = reason
    for (index, quantity), value in values.items():
        if reference is not None and (quantity not in TIMES or index not in apart):
            changes[index, quantity] = relative(value, values[reference, quantity], options.confidence)
    return Costs(results, benchmark, values, changes, apart)


def per_sample(cell: CellResult, quantity: str) -> np.ndarray:
    """A quantity of each document of the cell, (n,); nan where unmeasured."""
    if quantity == EVALUATION:
        return cell.costs["prefill_ms"] + cell.costs["decode_ms"]
    return cell.costs[quantity]


def _estimate(samples: np.ndarray, units: np.ndarray, quantity: str, draws: Resamples, options: Options) -> Estimate:
    if quantity == DECODE:  # an answer of a single token has no decode step
        samples, units = samples[~np.isnan(samples)], units[~np.isnan(samples)]
    if len(samples) == 0 or np.isnan(samples).any():
        return MISSING
    median = quantity in MEDIANS
    value = float(np.median(samples) if median else samples.mean())
    replicates = (draws.medians if median else draws.means)(units, samples)
    if len(np.unique(units)) < (FEWEST if quantity in TIMES else 2):
        replicates = np.full_like(replicates, math.nan)
    return with_interval(value, replicates, options.confidence)


def _batches(first: Iterable[CellResult], cells: Iterable[CellResult]) -> dict[int, int]:
    """Document → its batch, as in the first of the cells that answered it.

    CellResult files do not number their batches, but the samples of one have the very same times.
    """
    found: dict[int, int] = {}
    for cell in [*first, *cells]:
        times = np.nan_to_num(np.stack([cell.costs["prefill_ms"], cell.costs["decode_ms_per_token"]], axis=1), nan=-1)
        if cell.batch_size == 1:
            groups = np.arange(cell.n)
        else:
            groups = np.unique(times, axis=0, return_inverse=True)[1].reshape(-1)
        offset = max(found.values(), default=-1) + 1
        for doc, group in zip(cell.doc_ids.tolist(), groups.tolist(), strict=True):
            found.setdefault(doc, offset + group)
    return found


def _apart(cell: CellResult, reference: CellResult) -> str:
    """Why the times of two cells cannot be compared; empty if they can."""
    if "; " in cell.hardware or "; " in reference.hardware:
        return f"measured on several machines ({cell.hardware if '; ' in cell.hardware else reference.hardware})"
    if cell.hardware != reference.hardware:
        return f"measured on {cell.hardware}, Uncompressed on {reference.hardware}"
    if cell.batch_size != reference.batch_size:
        return f"batch size {cell.batch_size}, Uncompressed {reference.batch_size}"
    return ""
