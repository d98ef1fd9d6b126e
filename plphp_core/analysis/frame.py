"""Finished cells as one pandas frame, a row per sample and metric. Every estimate is computed from it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from plphp_core.records.cell_result import CellResult


def sample_frame(cells: Mapping[tuple[int, str], CellResult], reference: int | None = None) -> pd.DataFrame:
    """One row per sample × metric.

    Columns: `row` (of the table), `benchmark`, `doc_id`, `unit` (what the bootstrap draws: the document, or the first
    of those that belong together), `metric`, `score` (on its task's scale), `group` (of a group mean, else None);
    `kind` and `value` of the cell's metric, since a corpus metric's value is not the mean of its scores; what the
    sample cost (`CellResult.costs`); `batch`, see `_batches`. Samples of a cell without a metric have one row,
    metric None.

    Args:
        cells: (row, benchmark) → cell, `comparable`.
        reference: the row whose batches count, where it answered a document.
    """
    parts, batch_of = [], _batches(cells, reference)
    for (row, benchmark), cell in cells.items():
        unit = cell.doc_ids if cell.together is None else cell.together.astype(np.int64)
        place = {"row": row, "benchmark": benchmark, "doc_id": cell.doc_ids, "unit": unit}
        costs = {**cell.costs, "batch": [batch_of[benchmark][doc] for doc in cell.doc_ids.tolist()]}
        for name, metric in cell.metrics.items():
            groups = None if metric.groups is None else metric.groups.astype(object)
            score = {"metric": name, "score": metric.samples, "group": groups, "kind": metric.kind}
            parts.append(pd.DataFrame(place | score | {"value": metric.value} | costs))
        if not cell.metrics:
            nothing = {"metric": None, "score": np.nan, "group": None, "kind": None, "value": np.nan}
            parts.append(pd.DataFrame(place | nothing | costs))
    return pd.concat([part for part in parts if len(part)] or parts, ignore_index=True)


def one_per_sample(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with one row per sample: for costs, which do not depend on the metric."""
    return frame.drop_duplicates(["row", "benchmark", "doc_id"])


def _batches(cells: Mapping[tuple[int, str], CellResult], reference: int | None) -> dict[str, dict[int, int]]:
    """Benchmark → document → its batch in row `reference`, or else in the first row that answered it.

    Cells do not number their batches, but the samples of one have the very same times.
    """
    found: dict[str, dict[int, int]] = {}
    for (_, benchmark), cell in sorted(cells.items(), key=lambda item: item[0][0] != reference):
        times = np.nan_to_num(np.stack([cell.costs["prefill_ms"], cell.costs["decode_ms_per_token"]], axis=1), nan=-1)
        if cell.batch_size == 1:
            groups = np.arange(cell.n)
        else:
            groups = np.unique(times, axis=0, return_inverse=True)[1].reshape(-1)
        own = found.setdefault(benchmark, {})
        offset = max(own.values(), default=-1) + 1
        for doc, group in zip(cell.doc_ids.tolist(), groups.tolist(), strict=True):
            own.setdefault(doc, offset + group)
    return found
