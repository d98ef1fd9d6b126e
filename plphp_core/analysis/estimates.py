"""The numbers of one cell with their intervals, from its samples in the frame: scores, vision kept, cache and times.

Scores are called by their metric; what samples cost, in the unit of its name:
    retention: kept share of the vision tokens, a fraction, mean over samples;
    kv_bytes: of the prompt, mean over samples; kv_saved: share of the full ones not held, over all samples together;
    decode_ms_per_token, prefill_ms: medians over samples, so that one slow sample does not decide;
    evaluation_ms: prefill and decode, mean over samples.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from plphp_core.analysis.bootstrap import MISSING, Estimate, Resamples, with_interval, without_width
from plphp_core.analysis.frame import one_per_sample
from plphp_core.records.cell_result import CellResult

RETENTION, KV, KV_SAVED, FULL = "retention", "kv_bytes", "kv_saved", "kv_bytes_full"
TIMES = DECODE, PREFILL, EVALUATION = "decode_ms_per_token", "prefill_ms", "evaluation_ms"
MEDIANS = (DECODE, PREFILL)
# The range of n values holds the true median with probability 1 − 2^(1−n): fewer than these have no 95 % interval.
FEWEST = 6


def mean_estimates(samples: pd.DataFrame, resamples: Resamples, confidence: float) -> dict[str, Estimate]:
    """Every score and every cost but times, by its name. All means are resampled at once, which is faster.

    A corpus metric keeps its corpus value and takes its spread from the per-sample scores: the resampled means are
    moved by (corpus value − mean of the samples). For CIDEr that move is zero (document frequencies stay those of the
    whole set); for METEOR it is not. With fewer than two samples there is no interval, and a score has none either if
    all resamples are alike: three right answers of three do not show that all are right.
    """
    metrics = {str(name): own for name, own in samples.groupby("metric", sort=False)}
    costs = one_per_sample(samples)
    docs = costs.doc_id.to_numpy()
    columns = {name: own.score.to_numpy() for name, own in metrics.items()}
    columns |= {name: costs[name].to_numpy() for name in (RETENTION, KV, FULL)}
    drawn = dict(zip(columns, resamples.means(docs, np.stack(list(columns.values()), axis=1)), strict=True))

    def found(value: float, replicates: np.ndarray) -> Estimate:
        return with_interval(value, replicates if len(docs) > 1 else np.full_like(replicates, math.nan), confidence)

    estimates = {}
    for name, own in metrics.items():
        kind, value, scores = own.kind.iloc[0], float(own.value.iloc[0]), columns[name]
        if kind == "group_mean":
            drawn[name] = resamples.group_means(docs, scores, own.group.to_numpy())
        elif kind == "corpus":
            drawn[name] = drawn[name] + (value - float(scores.mean()))
        estimates[name] = without_width(found(value, drawn[name]))
    held, full = (float(columns[name].mean()) for name in (KV, FULL))
    with np.errstate(invalid="ignore", divide="ignore"):
        saved = found(1 - held / full if full > 0 else math.nan, 1 - drawn[KV] / drawn[FULL])
    costs_found = {name: found(float(columns[name].mean()), drawn[name]) for name in (RETENTION, KV)}
    return estimates | costs_found | {KV_SAVED: saved}


def typical_cost(cell: CellResult, name: str) -> float:
    """A cost of a cell in one number without its interval, over the samples it was measured of; nan without any."""
    known = cell.costs[name][~np.isnan(cell.costs[name])]
    return _centre(known, name) if len(known) else math.nan


def _centre(samples: np.ndarray, quantity: str) -> float:
    return float(np.median(samples) if quantity in MEDIANS else samples.mean())


def time_estimate(samples: pd.DataFrame, quantity: str, draws: Resamples, confidence: float) -> Estimate:
    """One of TIMES; MISSING where a sample has none. Samples of a batch share their time, so `draws` draws batches."""
    costs = one_per_sample(samples)
    times = (costs[PREFILL] + costs["decode_ms"] if quantity == EVALUATION else costs[quantity]).to_numpy()
    units = costs.batch.to_numpy()
    if quantity == DECODE:  # an answer of a single token has no decode step
        times, units = times[~np.isnan(times)], units[~np.isnan(times)]
    if len(times) == 0 or np.isnan(times).any():
        return MISSING
    replicates = (draws.medians if quantity in MEDIANS else draws.means)(units, times)
    if len(np.unique(units)) < FEWEST:
        replicates = np.full_like(replicates, math.nan)
    return with_interval(_centre(times, quantity), replicates, confidence)
