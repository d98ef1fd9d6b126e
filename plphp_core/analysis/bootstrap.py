"""Estimates: every number of a cell, and its interval by resampling documents (percentile bootstrap, Efron 1979).

All cells of one benchmark share one set of resamples: document 17 is drawn equally often for every method and every
metric in resample b. So differences between methods are paired over the documents both answered, and averages over the
metrics of one benchmark keep their correlation. Different benchmarks are resampled independently of each other.
"""

from __future__ import annotations

import functools
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from plphp_core.analysis.frame import one_per_sample
from plphp_core.config.report_choices import CONFIDENCE, RESAMPLES
from plphp_core.records.cell_result import CellResult

RETENTION, KV, KV_SAVED, FULL = "retention", "kv_bytes", "kv_saved", "kv_bytes_full"
TIMES = DECODE, PREFILL, EVALUATION = "decode_ms_per_token", "prefill_ms", "evaluation_ms"
MEDIANS = (DECODE, PREFILL)
# The range of n values holds the true median with probability 1 − 2^(1−n): fewer than these have no 95 % interval.
FEWEST = 6


class Resamples:
    """How often each document of a benchmark is drawn in each resample.

    counts: (resamples, documents), uint8, every row summing to the number of documents. The same `name`, `seed` and
    documents always give the same counts.
    """

    def __init__(self, doc_ids: Sequence[int], name: str = "", resamples: int = RESAMPLES, seed: int = 0) -> None:
        self.doc_ids = np.unique(np.asarray(doc_ids, dtype=np.int64))
        self.counts = _counts(len(self.doc_ids), name, resamples, seed)

    def means(self, doc_ids: np.ndarray, samples: np.ndarray) -> np.ndarray:
        """Mean of `samples` (n,) of `doc_ids` (n,) in each resample: (resamples,), nan where none of them was drawn.

        Several quantities (n, k) at once, which is faster, give (k, resamples); each is the same as by itself.
        """
        if len(samples) == 0:
            return np.full((*samples.shape[1:], len(self.counts)), math.nan)
        weights = self.counts[:, np.searchsorted(self.doc_ids, doc_ids)].astype(float)
        total = weights.sum(axis=1)

        def mean(column: np.ndarray) -> np.ndarray:
            base = column[:1]  # centred, so that equal samples give exactly equal means
            with np.errstate(invalid="ignore"):
                return base + ((column - base) @ weights.T) / total

        return mean(samples) if samples.ndim == 1 else np.stack([mean(column) for column in samples.T])

    def medians(self, doc_ids: np.ndarray, samples: np.ndarray) -> np.ndarray:
        """Median of `samples` (n,) of `doc_ids` (n,) in each resample: (resamples,), nan where none was drawn."""
        if len(samples) == 0:
            return np.full(len(self.counts), math.nan)
        order = np.argsort(samples, kind="stable")
        ordered = np.append(samples[order], math.nan)
        seen = np.cumsum(self.counts[:, np.searchsorted(self.doc_ids, doc_ids[order])], axis=1, dtype=np.int32)
        total = seen[:, -1:]
        # the two middle ones of the samples as drawn, counted from 0; the nan behind the last where there are none
        low, high = ((seen <= middle).sum(axis=1) for middle in ((total - 1) // 2, total // 2))
        return np.where(total[:, 0] == 0, math.nan, (ordered[low] + ordered[high]) / 2)

    def group_means(self, doc_ids: np.ndarray, samples: np.ndarray, groups: np.ndarray) -> np.ndarray:
        """Unweighted mean of the means of `groups` (n,) in each resample; a group not drawn there is left out."""
        total, present = np.zeros(len(self.counts)), np.zeros(len(self.counts))
        for name in np.unique(groups):
            means = self.means(doc_ids[groups == name], samples[groups == name])
            drawn = ~np.isnan(means)
            total[drawn] += means[drawn]
            present += drawn
        with np.errstate(invalid="ignore"):
            return total / present


@functools.lru_cache(maxsize=16)  # the tables of one report share their benchmarks
def _counts(n: int, name: str, resamples: int, seed: int) -> np.ndarray:
    # crc32 and not hash(): the same in every process
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    found = np.zeros((resamples, n), dtype=np.uint8)
    rows = max(1, 2_000_000 // max(n, 1))  # a few MB of indices at a time
    for start in range(0, resamples if n else 0, rows):
        drawn = rng.integers(0, n, size=(min(rows, resamples - start), n))
        flat = drawn + n * np.arange(len(drawn))[:, None]
        counts = np.bincount(flat.ravel(), minlength=drawn.size).reshape(drawn.shape)
        found[start : start + rows] = np.minimum(counts, 255)
    found.setflags(write=False)
    return found


@dataclass(frozen=True, eq=False)
class Estimate:
    """A number, its resampled values (resamples,) and the interval they give; nan where there is none."""

    value: float
    replicates: np.ndarray
    low: float
    high: float


MISSING = Estimate(math.nan, np.empty(0), math.nan, math.nan)


def exactly(value: float) -> Estimate:
    """A number without an interval."""
    return replace(MISSING, value=value)


def without_width(one: Estimate) -> Estimate:
    """The estimate, without its interval if all resamples are alike."""
    known = len(one.replicates) > 0 and not math.isnan(one.low)
    same = known and float(np.ptp(one.replicates)) < 1e-12
    return replace(one, low=math.nan, high=math.nan) if same else one


def scaled(one: Estimate, factor: float) -> Estimate:
    """`factor` > 0 times the estimate."""
    return Estimate(factor * one.value, factor * one.replicates, factor * one.low, factor * one.high)


def negative(one: Estimate) -> Estimate:
    """−1 times the estimate."""
    return Estimate(-one.value, -one.replicates, -one.high, -one.low)


def relative(changed: Estimate, reference: Estimate, confidence: float = CONFIDENCE) -> Estimate:
    """(changed − reference) / reference, a fraction, paired resample by resample; MISSING where the reference is 0."""
    if math.isnan(changed.value) or math.isnan(reference.value) or reference.value == 0:
        return MISSING
    with np.errstate(divide="ignore", invalid="ignore"):
        replicates = (changed.replicates - reference.replicates) / reference.replicates
    return with_interval((changed.value - reference.value) / reference.value, replicates, confidence)


def difference(changed: Estimate, reference: Estimate, confidence: float = CONFIDENCE) -> Estimate:
    """changed − reference, paired resample by resample; MISSING without either."""
    if math.isnan(changed.value) or math.isnan(reference.value):
        return MISSING
    return with_interval(changed.value - reference.value, changed.replicates - reference.replicates, confidence)


def average(parts: Sequence[Estimate], confidence: float = CONFIDENCE) -> Estimate:
    """Unweighted mean of estimates, resample by resample; MISSING as soon as one part is missing."""
    if not parts or any(math.isnan(part.value) for part in parts):
        return MISSING
    value = float(np.mean([part.value for part in parts]))
    return with_interval(value, np.mean([part.replicates for part in parts], axis=0), confidence)


def with_interval(value: float, replicates: np.ndarray, confidence: float = CONFIDENCE) -> Estimate:
    """Percentile interval of `replicates`; nan if a resample gave no finite number, as the sample is too small then."""
    if len(replicates) == 0 or not np.isfinite(replicates).all():
        return Estimate(value, replicates, math.nan, math.nan)
    low, high = np.quantile(replicates, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Estimate(value, replicates, float(low), float(high))


def mean_estimates(samples: pd.DataFrame, resamples: Resamples, confidence: float) -> dict[str, Estimate]:
    """Every score and every cost but times, by its name. All means are resampled at once, which is faster.

    A corpus metric keeps its corpus value and takes its spread from the per-sample scores: the resampled means are
    moved by (corpus value − mean of the samples). For CIDEr that move is zero (document frequencies stay those of the
    whole set); for METEOR it is not. With fewer than two samples there is no interval, and a score has none either if
    all resamples are alike: three right answers of three do not show that all are right.
    """
    metrics = {str(name): own for name, own in samples.groupby("metric", sort=False)}
    costs = one_per_sample(samples)
    docs = costs.unit.to_numpy()
    alone = len(np.unique(docs)) < 2
    columns = {name: own.score.to_numpy() for name, own in metrics.items()}
    partly = {name: scores for name, scores in columns.items() if np.isnan(scores).any()}
    columns |= {name: costs[name].to_numpy() for name in (RETENTION, KV, FULL)}
    drawn = dict(zip(columns, resamples.means(docs, np.stack(list(columns.values()), axis=1)), strict=True))
    for name, scores in partly.items():  # a metric that is about some of the documents
        asked = ~np.isnan(scores)
        drawn[name] = resamples.means(docs[asked], scores[asked])

    def found(value: float, replicates: np.ndarray) -> Estimate:
        return with_interval(value, np.full_like(replicates, math.nan) if alone else replicates, confidence)

    estimates = {}
    for name, own in metrics.items():
        kind, value, scores = own.kind.iloc[0], float(own.value.iloc[0]), columns[name]
        if kind == "group_mean":
            drawn[name] = resamples.group_means(docs, scores, own.group.to_numpy())
        elif kind == "whole":
            drawn[name] = np.full(len(resamples.counts), math.nan)
        elif kind == "corpus":
            drawn[name] = drawn[name] + (value - float(scores.mean()))
        estimates[name] = without_width(found(value, drawn[name]))
    held, full = (float(columns[name].mean()) for name in (KV, FULL))
    with np.errstate(invalid="ignore", divide="ignore"):
        saved = found(1 - held / full if full > 0 else math.nan, 1 - drawn[KV] / drawn[FULL])
    costs_found = {name: found(float(columns[name].mean()), drawn[name]) for name in (RETENTION, KV)}
    return estimates | costs_found | {KV_SAVED: saved}


def whole_estimates(cell: CellResult, resamples: int, confidence: float) -> dict[str, Estimate]:
    """The metrics of a cell that were computed anew from resampled documents when it was scored.

    Their resamples are those that this module draws for the cell's documents with seed 0: paired with other rows' where
    these answered the same documents.
    """
    found = {}
    for name, metric in cell.metrics.items():
        if metric.replicates is not None and len(metric.replicates) >= resamples:
            found[name] = without_width(with_interval(metric.value, metric.replicates[:resamples], confidence))
    return found


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
