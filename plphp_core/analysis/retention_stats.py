"""What a method saves on each benchmark, with intervals: vision tokens and KV cache.

The resamples are those of the scores (`comparison.evaluate`): score and retention of one resample rest on the same
documents, and two rows' differences are paired.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from plphp_core.analysis.bootstrap import MISSING, Estimate, Resamples, average, with_interval
from plphp_core.analysis.results import Results
from plphp_core.records.cell_result import CellResult


@dataclass(frozen=True, eq=False)
class Savings:
    """(row index, benchmark) → estimate, a fraction; places without a finished cell are absent.

    retention: mean over samples of the kept share of vision tokens.
    kv_saved: share of the prompt's KV bytes not held, over all samples together.
    """

    results: Results
    retention: Mapping[tuple[int, str], Estimate]
    kv_saved: Mapping[tuple[int, str], Estimate]

    def average(self, quantity: str, index: int) -> Estimate:
        """Unweighted mean over the benchmarks of "retention" or "kv_saved"; MISSING if the row lacks one."""
        found = getattr(self, quantity)
        parts = [found.get((index, name), MISSING) for name in self.results.finished()]
        return average(parts, self.results.options.confidence)


def savings(results: Results) -> Savings:
    """Retention and KV saved of every finished cell of `results`."""
    retention, kv_saved = {}, {}
    for benchmark in results.finished():
        cells = {index: cell for (index, name), cell in results.cells.items() if name == benchmark}
        documents = np.concatenate([cell.doc_ids for cell in cells.values()])
        resamples = Resamples(documents, benchmark, results.options.resamples, results.options.seed)
        for index, cell in cells.items():
            samples = np.stack([cell.costs[name] for name in ("retention", "kv_bytes", "kv_bytes_full")], axis=1)
            kept, held, full = resamples.means(cell.doc_ids, samples)
            retention[index, benchmark] = _estimate(cell, cell.efficiency.retention, kept, results)
            with np.errstate(invalid="ignore", divide="ignore"):
                kv_saved[index, benchmark] = _estimate(cell, cell.efficiency.kv_saved, 1 - held / full, results)
    return Savings(results, retention, kv_saved)


def _estimate(cell: CellResult, value: float, replicates: np.ndarray, results: Results) -> Estimate:
    if cell.n < 2:
        replicates = np.full_like(replicates, np.nan)
    return with_interval(value, replicates, results.options.confidence)
