"""C13: PLPHP against FastV and VTW where all keep equally many vision tokens (Figure 5).

A rival's settings on a benchmark make a polyline of score over the share of vision tokens kept. At the share that a
setting of PLPHP keeps the polyline is read by linear interpolation, resample by resample, never beyond its ends.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from plphp_core.analysis.bootstrap import MISSING, Estimate, average, relative, scaled, with_interval
from plphp_core.analysis.retention_stats import Savings
from plphp_core.claims.claim_evidence import Measured, Quantity, of_cells
from plphp_core.claims.claim_sources import ClaimSources
from plphp_core.pruning.method import method_label
from plphp_core.reporting.table_model import percent

RIVALS = ("fastv", "vtw")


def as_good(sources: ClaimSources) -> Measured:
    """A part per benchmark and rival: change from the rival's polyline to PLPHP, percent, mean over the benchmark's
    score columns and over PLPHP's settings within the polyline."""
    saved = sources.table1_saved
    results = saved.results
    ours = _settings(saved, "plphp")
    parts, gaps = [], {}
    for rival in RIVALS:
        theirs = _settings(saved, rival)
        for name in results.benchmarks:
            inside, outside = _within(saved, ours, theirs, name)
            metrics = list(results.headings(name))
            changes = [change(saved, row, theirs, name, metric) for row in inside for metric in metrics]
            label = f"{method_label(rival)} on {name}"
            parts.append(Quantity(label, scaled(average(changes), 100)))
            gaps.setdefault((rival, outside), []).append(name)
    remarks = [
        f"{method_label(rival)} on {', '.join(names)}: {outside}."
        for (rival, outside), names in gaps.items()
        if outside
    ]
    rows = [at for method in ("none", *RIVALS, "plphp") for at in _settings(saved, method)]
    return Measured(tuple(parts), of_cells(results, rows, results.benchmarks), tuple(remarks))


def change(saved: Savings, row: int, rival: Sequence[int], benchmark: str, metric: str) -> Estimate:
    """(score of `row` − polyline) / polyline, the polyline of the rows `rival` read at the share that `row` keeps."""
    results = saved.results
    rival = [at for at in rival if (at, benchmark) in saved.retention]
    kept = [saved.retention[at, benchmark] for at in rival]
    scores = [results.score(at, benchmark, metric) for at in rival]
    ours, own = saved.retention[row, benchmark], results.score(row, benchmark, metric)
    if any(math.isnan(one.value) for one in (*scores, own)):
        return MISSING
    value = interpolate([one.value for one in kept], [one.value for one in scores], ours.value)
    replicates = interpolate([one.replicates for one in kept], [one.replicates for one in scores], ours.replicates)
    line = with_interval(float(value), replicates, results.options.confidence)
    return relative(own, line, results.options.confidence)


def interpolate(kept: Sequence, scores: Sequence, at: float | np.ndarray) -> np.ndarray:
    """The polyline through the K points (kept, score) read at `at`; beyond its ends it stays level.

    Args:
        kept, scores: K numbers, or K arrays (resamples,): a polyline per resample.
        at: a number, or (resamples,).
    Returns: as `at`.
    """
    x, y = np.asarray(kept, dtype=float), np.asarray(scores, dtype=float)
    order = np.argsort(x, axis=0, kind="stable")
    x, y = np.take_along_axis(x, order, axis=0), np.take_along_axis(y, order, axis=0)
    above = np.clip((x <= at).sum(axis=0), 1, len(x) - 1)[None]
    x0, x1, y0, y1 = (np.take_along_axis(line, above - back, axis=0)[0] for line in (x, y) for back in (1, 0))
    width = np.where(x1 > x0, x1 - x0, 1.0)
    return y0 + (y1 - y0) * np.clip((at - x0) / width, 0.0, 1.0)


def _within(saved: Savings, ours: Sequence[int], theirs: Sequence[int], benchmark: str) -> tuple[list[int], str]:
    """PLPHP's settings whose share kept lies within the polyline, interval and all; and why others do not."""
    line = sorted(saved.retention[at, benchmark].value for at in theirs if (at, benchmark) in saved.retention)
    points = [at for at in ours if (at, benchmark) in saved.retention]
    if len(line) < 2 or not points or math.isnan(line[0] + line[-1]):
        return [], "" if not line and not points else "no polyline, or no setting of PLPHP to compare"
    inside, outside = [], []
    for at in points:
        kept = saved.retention[at, benchmark]
        ends = (kept.value, kept.value) if math.isnan(kept.low) else (kept.low, kept.high)
        fits = line[0] <= ends[0] and ends[1] <= line[-1]
        (inside if fits else outside).append(at)
    if not outside:
        return inside, ""
    said = ", ".join(
        f"{saved.results.setting(at)} ({percent(saved.retention[at, benchmark].value, 1, signed=False)})"
        for at in outside
    )
    ends = " to ".join(percent(end, 1, signed=False) for end in (line[0], line[-1]))
    return inside, f"not measured at the vision kept by {said}, outside the rival's {ends}"


def _settings(saved: Savings, method: str) -> list[int]:
    return [at for at, row in enumerate(saved.results.rows) if row.method == method]
