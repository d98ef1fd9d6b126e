"""Claims about PLPHP's own parameters, C11 (Figure 6) and C12 (Table 2), and about attention, C14 (Figure 1)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from plphp_core.analysis import paired_contrasts
from plphp_core.analysis.attention_frame import layer_means
from plphp_core.analysis.attention_peaks import DEEP, peaks, rebound
from plphp_core.analysis.bootstrap import MISSING, Estimate, average, difference, scaled
from plphp_core.analysis.estimates import RETENTION
from plphp_core.analysis.paired_contrasts import Contrast
from plphp_core.analysis.results import Results
from plphp_core.claims.claim_evidence import ClaimEvidence, evidence, evidence_of_rows
from plphp_core.claims.claim_finding import POINTS, ClaimMeasurement, ClaimPart
from plphp_core.claims.claim_sources import BENCHMARKS, ClaimSources
from plphp_core.claims.score_measures import change_on, shared
from plphp_core.families import get_family
from plphp_core.records.errors import ReportError
from plphp_core.reporting import comparison_tables
from plphp_core.reporting.attention_results import MODELS
from plphp_core.reporting.table_model import number


def delta_r(sources: ClaimSources) -> ClaimMeasurement:
    """C11: on each benchmark the change from Δr = 0 to Δr > 0 at the same r, mean over all such pairs."""
    results = sources.figure6
    pairs = paired_contrasts.against_zero(results)
    if not pairs:
        raise ReportError("the figure has no pair of Δr > 0 and Δr = 0 at the same r")
    parts = tuple(
        ClaimPart(name, average([change_on(results, one.changed, one.base, name) for one in pairs]))
        for name in results.asked()
    )
    kept = average([paired_contrasts.kept_points(results, one) for one in pairs])
    remark = (
        f"Mean over {len(pairs)} pairs. The pairs keep not quite equally many vision tokens: Δr > 0 keeps "
        f"{number(100 * kept.value, signed=True)} points on average."
    )
    found = evidence_of_rows(results, _rows(pairs), results.asked())
    return ClaimMeasurement(parts, found, (comparison_tables.tally(results, pairs), remark))


def thresholds(sources: ClaimSources) -> ClaimMeasurement:
    """C12: what a step of α, or of β, prunes (points of the vision tokens) and what it costs (percent of the score)."""
    results = sources.table2
    steps = comparison_tables.steps(results, ("alpha", "beta"))
    parts, said = [], []
    for symbol in ("α", "β"):
        own = [one for one in steps if one.names[0].startswith(symbol)]
        if not own:
            raise ReportError("the table has no step of α, or none of β")
        both = shared(results, _rows(own), results.asked())
        pruned = [average([_lost(_more_kept(results, one, name)) for name in both]) for one in own]
        cost = [_lost(results.average_change(one.changed, both, one.base)) for one in own]
        parts += [
            ClaimPart(f"{symbol} raised: vision tokens pruned", average(pruned), POINTS),
            ClaimPart(f"{symbol} raised: score lost", average(cost)),
        ]
        fewer, worse = (sum(one.value > 0 for one in some) for some in (pruned, cost))
        said.append(f"{symbol}: of {len(own)} steps {fewer} prune more, {worse} cost score as measured.")
    return ClaimMeasurement(tuple(parts), evidence_of_rows(results, _rows(steps), results.asked()), tuple(said))


def rises_again(sources: ClaimSources) -> ClaimMeasurement:
    """C14: per model, the largest rebound of γ in points of all attention."""
    readings = sources.attention
    if not any(model in readings for model in MODELS):
        raise ReportError("no attention readings of the paper's models")
    parts, marked, found = [], [], ClaimEvidence()
    for model in MODELS:
        own = [one for one in readings.get(model, []) if one.benchmark in BENCHMARKS]
        title = get_family(model).title
        gamma = layer_means(own, seed=sources.asked.choices.seed) if own else []
        parts.append(ClaimPart(title, scaled(largest_rebound(gamma), 100), POINTS))
        if not own:
            found += ClaimEvidence(missing=(title,))
            continue
        by_name = {one.benchmark: one for one in own}
        places = [(title, name, by_name.get(name)) for name in BENCHMARKS]
        found += evidence(places, f"{title} ")
        layers = ", ".join(str(peak.layer + 1) for peak in peaks(gamma, [one.n for one in own]))
        marked.append(f"{title} {layers or 'none'}")
    said = f"Layers that Figure 1 marks, counted from 1: {'; '.join(marked)}."
    return ClaimMeasurement(tuple(parts), found, (said,))


def largest_rebound(gamma: Sequence[Estimate]) -> Estimate:
    """The largest rebound of any layer beyond the first third; MISSING below three layers."""
    deep = range(max(2, math.ceil(DEEP * len(gamma))), len(gamma))
    return max((rebound(gamma, layer).rebound for layer in deep), key=lambda one: one.value, default=MISSING)


def _lost(change: Estimate) -> Estimate:
    """A loss in percent, from the change of a fraction."""
    return Estimate(-100 * change.value, -100 * change.replicates, -100 * change.high, -100 * change.low)


def _more_kept(results: Results, one: Contrast, benchmark: str) -> Estimate:
    changed, base = (results.value(index, benchmark, RETENTION) for index in (one.changed, one.base))
    return difference(changed, base)


def _rows(pairs: Sequence[Contrast]) -> list[int]:
    return sorted({index for one in pairs for index in (one.changed, one.base)})
