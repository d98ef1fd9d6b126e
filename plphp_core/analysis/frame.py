"""Finished cells as pandas frames: a row per sample and metric, or a row per cell. Everything counted starts here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pandas as pd

from plphp_core.records.cell_result import EFFICIENCY, CellResult

CONDITIONS = (
    "profile", "protocol", "prompts", "model", "checkpoint", "revision", "dtype", "attn_implementation", "engine",
    "hardware", "batch_size", "method", "setting", "benchmark", "task", "task_version", "data_revision", "limit",
    "limit_seed", "population", "n", "errors",
)  # fmt: skip


def sample_frame(cells: Mapping[tuple[int, str], CellResult]) -> pd.DataFrame:
    """One row per sample × metric.

    Columns: `row` (of the table), `benchmark`, `doc_id`, `metric`, `score` (a fraction), `group` (of a group mean, else
    None), then what the sample cost (`CellResult.costs`). Samples of a cell without a metric have one row, metric None.

    Args:
        cells: (row, benchmark) → cell, `comparable.place`.
    """
    parts = []
    for (row, benchmark), cell in cells.items():
        place = {"row": row, "benchmark": benchmark, "doc_id": cell.doc_ids}
        for name, metric in cell.metrics.items():
            groups = None if metric.groups is None else metric.groups.astype(object)
            parts.append(pd.DataFrame(place | {"metric": name, "score": metric.samples, "group": groups} | cell.costs))
        if not cell.metrics:
            parts.append(pd.DataFrame(place | {"metric": None, "score": float("nan"), "group": None} | cell.costs))
    return pd.concat([part for part in parts if len(part)] or parts, ignore_index=True)


def one_per_sample(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with one row per sample: for costs, which do not depend on the metric."""
    return frame.drop_duplicates(["row", "benchmark", "doc_id"])


def cell_frame(cells: Iterable[CellResult]) -> pd.DataFrame:
    """One row per cell: file, CONDITIONS, a column per parameter (`param.<name>`), per metric (`metric.<name>`, the
    cell's value) and per cost (means over samples, of times medians)."""
    lines = []
    for cell in cells:
        line = {"file": cell.path.name} | {name: getattr(cell, name) for name in CONDITIONS}
        line |= {f"param.{name}": value for name, value in cell.params.items()}
        line |= {f"metric.{name}": metric.value for name, metric in cell.metrics.items()}
        lines.append(line | {name: getattr(cell.efficiency, name) for name in (*EFFICIENCY, "kv_saved")})
    return pd.DataFrame(lines)
