"""What answering one benchmark costs: cache and times of every row, with intervals and changes against Uncompressed.

A row's times are compared with Uncompressed only if both were measured on one kind of machine and in one batch size;
dtype and engine are the same in a whole table (`selection.SHARED`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from plphp_core.analysis.bootstrap import MISSING, Estimate, Resamples, relative, with_interval
from plphp_core.analysis.results import Results
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
CSV_COLUMNS = ("model", "method", "setting", "benchmark", "metric", "statistic", "value", "ci_low", "ci_high",
               "relative_to_none", "relative_low", "relative_high", "n", "errors", "hardware", "dtype", "engine",
               "batch_size", "protocol")  # fmt: skip


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
    for index, quantity in values if reference is not None else ():
        if quantity not in TIMES or index not in apart:
            changes[index, quantity] = relative(
                values[index, quantity], values[reference, quantity], options.confidence
            )
    return Costs(results, benchmark, values, changes, apart)


def per_sample(cell: CellResult, quantity: str) -> np.ndarray:
    """A quantity of each document of the cell, (n,); nan where unmeasured."""
    if quantity == EVALUATION:
        return cell.costs["prefill_ms"] + cell.costs["decode_ms"]
    return cell.costs[quantity]


def _estimate(samples: np.ndarray, units: np.ndarray, quantity: str, draws: Resamples, options) -> Estimate:
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


def _batches(first, cells) -> dict[int, int]:
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


def cost_table(found: Costs) -> pd.DataFrame:
    """One line per row and metric (CSV_COLUMNS): scores as fractions, then costs; empty without a cell or a number.

    `evaluation_s` is the sum over samples, its interval that of the mean per sample times their number.
    """
    results, lines = found.results, []
    wanted = list(results.headings(found.benchmark))
    for index, row in enumerate(results.rows):
        cell = found.cell(index)
        line = {"model": results.model, "method": row.method, "setting": results.setting(index)}
        line["benchmark"] = found.benchmark
        if cell is None:
            lines += [{**line, "metric": metric} for metric in (*wanted, *QUANTITIES)]
            continue
        line |= {name: getattr(cell, name) for name in CSV_COLUMNS[-7:]}
        for metric in dict.fromkeys([*wanted, *sorted(cell.metrics)]):
            score, change = (give(index, found.benchmark, metric) for give in (results.score, results.change))
            lines.append(line | {"metric": metric, "statistic": "score"} | _numbers(score, change))
        for quantity in QUANTITIES:
            cost, change = found.value(index, quantity), found.change(index, quantity)
            statistic = "median" if quantity in MEDIANS else "mean"
            lines.append(line | {"metric": quantity, "statistic": statistic} | _numbers(cost, change))
        lines.append(
            line
            | {"metric": "evaluation_s", "statistic": "sum"}
            | _numbers(found.value(index, EVALUATION), found.change(index, EVALUATION), scale=cell.n / 1e3)
        )
        lines.append(line | {"metric": "kv_saved", "statistic": "share", "value": cell.efficiency.kv_saved})
    table = pd.DataFrame(lines, columns=list(CSV_COLUMNS))
    return table.astype({"n": "Int64", "errors": "Int64", "batch_size": "Int64"})


def _numbers(value: Estimate, change: Estimate, scale: float = 1.0) -> dict[str, float]:
    return {
        "value": scale * value.value,
        "ci_low": scale * value.low,
        "ci_high": scale * value.high,
        "relative_to_none": change.value,
        "relative_low": change.low,
        "relative_high": change.high,
    }


def sample_table(found: Costs) -> pd.DataFrame:
    """One line per row and document: everything a curve over samples needs. `position` counts documents in order."""
    documents = sorted({doc for cell in found.cells().values() for doc in cell.doc_ids.tolist()})
    position = {doc: number for number, doc in enumerate(documents, start=1)}
    parts = []
    for index, cell in found.cells().items():
        docs = cell.doc_ids.tolist()
        part = pd.DataFrame({"position": [position[doc] for doc in docs], "doc_id": docs} | cell.costs)
        front = {
            "model": found.results.model,
            "method": found.results.rows[index].method,
            "setting": found.results.setting(index),
            "benchmark": found.benchmark,
        }
        for at, (name, value) in enumerate(front.items()):
            part.insert(at, name, value)
        for name in ("hardware", "dtype", "engine", "batch_size", "protocol"):
            part[name] = getattr(cell, name)
        parts.append(part.sort_values("position"))
    return pd.concat(parts, ignore_index=True)
