"""C13: PLPHP against FastV and VTW where all keep equally many vision tokens (Figure 5).

A rival's settings on a benchmark make a polyline of score over the share of vision tokens kept. At the share that a
setting of PLPHP keeps the polyline is read by linear interpolation, resample by resample, never beyond its ends.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from plphp_core.analysis.bootstrap import MISSING, RETENTION, Estimate, average, relative, scaled, with_interval
from plphp_core.analysis.method_style import method_style
from plphp_core.analysis.results import Results
from plphp_core.claims.claim_evidence import places
from plphp_core.claims.claim_finding import ClaimMeasurement, ClaimPart
from plphp_core.claims.claim_sources import BENCHMARKS, ClaimSources
from plphp_core.reporting.table_model import percent

RIVALS = ("fastv", "vtw")


def as_good(sources: ClaimSources) -> ClaimMeasurement:
    """A part per benchmark and rival: change from the rival's polyline to PLPHP, percent, mean over the benchmark's
    score columns and over PLPHP's settings within the polyline."""
    results = sources.table("table1")
    methods = ("none", *RIVALS, "plphp")
    rows = {method: [at for at, row in enumerate(results.rows) if row.method == method] for method in methods}
    parts: list[ClaimPart] = []
    gaps: dict[tuple[str, str], list[str]] = {}
    for rival in RIVALS:
        label = method_style(rival).label
        for name in BENCHMARKS:
            inside, outside = _within(results, rows["plphp"], rows[rival], name)
            metrics = list(results.headings(name))
            changes = [polyline_change(results, row, rows[rival], name, metric) for row in inside for metric in metrics]
            parts.append(ClaimPart(f"{label} on {name}", scaled(average(changes), 100)))
            if outside:
                gaps.setdefault((label, outside), []).append(name)
    remarks = [f"{label} on {', '.join(names)}: {outside}." for (label, outside), names in gaps.items()]
    return ClaimMeasurement(parts, places(results, [at for own in rows.values() for at in own], BENCHMARKS), remarks)


def polyline_change(results: Results, row: int, rival: Sequence[int], benchmark: str, metric: str) -> Estimate:
    """(score of `row` − polyline) / polyline, the polyline of the rows `rival` read at the share that `row` keeps."""
    rival = [at for at in rival if (at, benchmark) in results.cells]
    kept, scores = ([results.value(at, benchmark, name) for at in rival] for name in (RETENTION, metric))
    own = results.value(row, benchmark, metric)
    if any(math.isnan(one.value) for one in (*scores, own)):
        return MISSING
    # (settings, 1 + resamples): the polyline of the values and one per resample
    x, y = (np.stack([np.append(one.value, one.replicates) for one in some]) for some in (kept, scores))
    order = np.argsort(x, axis=0, kind="stable")
    lines = zip(np.take_along_axis(x, order, axis=0).T, np.take_along_axis(y, order, axis=0).T, strict=True)
    share = results.value(row, benchmark, RETENTION)
    at = np.append(share.value, share.replicates)
    value, *replicates = (np.interp(one, *line) for one, line in zip(at, lines, strict=True))
    confidence = results.options.confidence
    return relative(own, with_interval(float(value), np.array(replicates), confidence), confidence)


def _within(results: Results, ours: Sequence[int], theirs: Sequence[int], benchmark: str) -> tuple[list[int], str]:
    """PLPHP's settings whose share kept lies within the polyline, interval and all; and why others do not."""
    points, line = (
        {at: results.value(at, benchmark, RETENTION) for at in rows if (at, benchmark) in results.cells}
        for rows in (ours, theirs)
    )
    shares = [one.value for one in line.values()]
    if len(shares) < 2 or not points or math.isnan(sum(shares)):
        return [], "" if not line and not points else "no polyline, or no setting of PLPHP to compare"
    ends = {at: (one.value, one.value) if math.isnan(one.low) else (one.low, one.high) for at, one in points.items()}
    inside = [at for at, (low, high) in ends.items() if min(shares) <= low and high <= max(shares)]
    beyond = [
        f"{results.setting(at)} ({percent(one.value, 1, signed=False)})"
        for at, one in points.items()
        if at not in inside
    ]
    span = " to ".join(percent(end, 1, signed=False) for end in (min(shares), max(shares)))
    said = f"not measured at the vision kept by {', '.join(beyond)}, outside the rival's {span}"
    return inside, said if beyond else ""
