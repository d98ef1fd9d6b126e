"""What each claim is measured by: functions from the tables and figures to the claims' numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from plphp_core.analysis.attention_frame import layer_means
from plphp_core.analysis.attention_peaks import DEEP, peaks, rebound
from plphp_core.analysis.bootstrap import (
    DECODE,
    FEWEST,
    KV,
    KV_SAVED,
    MISSING,
    PREFILL,
    RETENTION,
    Estimate,
    Resamples,
    average,
    difference,
    scaled,
    with_interval,
)
from plphp_core.analysis.method_style import method_style
from plphp_core.analysis.paired_contrasts import Contrast, against_zero, kept_points
from plphp_core.analysis.results import Results
from plphp_core.claims.claim_evidence import Place, places
from plphp_core.claims.claim_finding import PERCENT, POINTS, SAVED, TOKENS, ClaimMeasurement, ClaimPart
from plphp_core.claims.claim_sources import BENCHMARKS, LLAVA, ClaimSources, reference, shared
from plphp_core.families import get_family
from plphp_core.records.errors import ReportError
from plphp_core.reporting import comparison_tables, notes
from plphp_core.reporting.attention_results import MODELS
from plphp_core.reporting.table_model import bounds, number, percent


def average_change(
    sources: ClaimSources, models: Sequence[str] = LLAVA, benchmarks: Sequence[str] = BENCHMARKS
) -> ClaimMeasurement:
    """C1, C4, C9b: the average change of PLPHP against Uncompressed over the benchmarks that both have finished."""
    ((results, rows, wanted),) = sources.pruned(models, benchmarks)
    both = shared(results, rows, wanted)
    part = ClaimPart("average change", scaled(results.average_change(rows[1], both), 100))
    return ClaimMeasurement([part], places(results, rows, wanted), _only(both, wanted))


def above(sources: ClaimSources, rival: str) -> ClaimMeasurement:
    """C2, C3: PLPHP at its defaults against every setting of `rival`, averaged over them."""
    ((results, (_, row), _),) = sources.pruned(LLAVA)
    settings = [at for at, one in enumerate(results.rows) if one.method == rival]
    if not settings:
        raise ReportError(f"the table has no row of {method_style(rival).label}")
    run = [at for at in settings if any(index == at for index, _ in results.cells)]
    both = shared(results, [row, *run], BENCHMARKS)
    changes = {at: results.average_change(row, both, base=at) for at in run}
    said = [f"{results.setting(at)} {percent(change.value)}" for at, change in changes.items()]
    remarks = [f"Against its single settings: {', '.join(said)}."] if said else []
    known = {at: change for at, change in changes.items() if not math.isnan(change.value)}
    if known:
        best, least = min(known.items(), key=lambda item: item[1].value)
        interval = bounds(least.low, least.high, percent)
        remarks.append(f"Against the best of them, {results.setting(best)}: {percent(least.value)} {interval}.")
    part = ClaimPart("average change", scaled(average(list(changes.values())), 100))
    rests = places(results, [row, *settings], BENCHMARKS)
    return ClaimMeasurement([part], rests, [*remarks, *_only(both, BENCHMARKS)])


def on_each(sources: ClaimSources, models: Sequence[str]) -> ClaimMeasurement:
    """C9a, C10b: the change of PLPHP against Uncompressed on each benchmark of each model."""
    several, parts, higher, rests = len(models) > 1, [], [], []
    for results, rows, benchmarks in sources.pruned(models):
        changes = {name: _change_on(results, rows[1], rows[0], name) for name in benchmarks}
        front = f"{results.title} " if several else ""
        parts += [ClaimPart(f"{front}{name}", change) for name, change in changes.items()]
        higher.append(f"{sum(change.value > 0 for change in changes.values())} for {results.title}")
        rests += places(results, rows, benchmarks, several)
    said = [f"Higher as measured, whatever the interval: {', '.join(higher)}."] if several else []
    return ClaimMeasurement(parts, rests, said)


def kv_saved(sources: ClaimSources, models: Sequence[str]) -> ClaimMeasurement:
    """C9c, C10a: share of the prompt's KV bytes saved, mean over benchmarks, then over models."""
    several, saved, rests = len(models) > 1, {}, []
    for results, rows, benchmarks in sources.pruned(models):
        own = [results.value(rows[1], name, KV_SAVED) for name in shared(results, rows, benchmarks)]
        saved[results.title] = average(own)
        rests += places(results, rows, benchmarks, several)
    said = ", ".join(f"{title} {percent(share.value, 1, signed=False)}" for title, share in saved.items())
    part = ClaimPart("KV saved", scaled(average(list(saved.values())), 100), SAVED)
    return ClaimMeasurement([part], rests, [f"{said}."] * several)


def _change_on(results: Results, changed: int, base: int, benchmark: str) -> Estimate:
    """Change on one benchmark in percent, mean over its score columns."""
    both = shared(results, [changed, base], [benchmark])
    return scaled(results.average_change(changed, both, base), 100) if both else MISSING


def _only(benchmarks: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """What the average runs over, where that is not everything."""
    return [f"Averaged over {', '.join(benchmarks)} only."] if 0 < len(benchmarks) < len(wanted) else []


def cost_saved(sources: ClaimSources, claim: str) -> ClaimMeasurement:
    """C5, C7a: share of the decode time per token saved; C6, C7b: share of the KV bytes; in percent."""
    results, row, benchmark = _costs(sources, claim)
    timed = claim in ("C5", "C7a")
    name, quantity, unit = ("decode time saved", DECODE, PERCENT) if timed else ("KV bytes saved", KV, SAVED)
    change = results.change(row, benchmark, quantity)
    remarks = [f"{results.label(row)} on {benchmark}."]
    if timed and not math.isnan(change.value):
        remarks.append(f"In tokens per second: {percent(1 / (1 + change.value) - 1)}.")
    rests = places(results, [reference(results), row], [benchmark])
    return ClaimMeasurement(
        [ClaimPart(name, _lost(change), unit)], rests, remarks, _gap(results, row, benchmark, timed)
    )


def prefill_cost(sources: ClaimSources) -> ClaimMeasurement:
    """C8: what PLPHP at its defaults adds to a sample's prefill, in decoded tokens of the same sample uncompressed."""
    results, row, benchmark = _costs(sources, "C5")
    rows = [reference(results), row]
    comparable = shared(results, rows, [benchmark]) and not results.apart(row, benchmark)
    added = added_tokens(results, row, benchmark) if comparable else MISSING
    said = f"{results.label(row)} on {benchmark}, median over samples."
    part, rests = ClaimPart("added to prefill", added, TOKENS), places(results, rows, [benchmark])
    return ClaimMeasurement([part], rests, [said], _gap(results, row, benchmark, timed=True))


def added_tokens(results: Results, row: int, benchmark: str) -> Estimate:
    """Median over samples of (prefill of `row` − prefill of Uncompressed) / (Uncompressed's decode time per token).

    Samples of a batch share their times, so whole batches are drawn; fewer than FEWEST give no interval.
    """
    changed, base = (results.samples(at, benchmark) for at in (row, reference(results)))
    tokens = (changed[PREFILL] - base[PREFILL]) / base[DECODE]
    tokens = tokens[np.isfinite(tokens)].sort_index()  # an answer of a single token has no decode time
    if tokens.empty:
        return MISSING
    options, units = results.options, base.batch[tokens.index].to_numpy()
    draws = Resamples(units, f"{benchmark} batches", options.resamples, options.seed)
    replicates = draws.medians(units, tokens.to_numpy())
    if len(draws.doc_ids) < FEWEST:
        replicates = np.full_like(replicates, math.nan)
    return with_interval(float(tokens.median()), replicates, options.confidence)


def _costs(sources: ClaimSources, claim: str) -> tuple[Results, int, str]:
    """Table 5, the row that a claim is about, and the benchmark. Raises ReportError without the row or Uncompressed."""
    results = sources.table("table5")
    rates = {float(row.params["r"]): at for at, row in enumerate(results.rows) if row.method == "plphp"}
    wanted = {"C5": 0.4, "C6": 0.4}.get(claim, min(rates, default=None))  # C7 is about the lowest rate there is
    row, (benchmark,) = None if wanted is None else rates.get(wanted), results.benchmarks
    if row is None or results.reference is None:
        raise ReportError("the table lacks the row that the claim is about, or the uncompressed one")
    return results, row, benchmark


def _gap(results: Results, row: int, benchmark: str, timed: bool) -> str:
    """Why a cost of finished cells has no number."""
    apart = results.apart(row, benchmark) if timed else ""
    return f"times that cannot be compared with each other ({apart})" if apart else "cells without this measurement"


def _lost(change: Estimate) -> Estimate:
    """A loss in percent, from the change of a fraction."""
    return Estimate(-100 * change.value, -100 * change.replicates, -100 * change.high, -100 * change.low)


def delta_r(sources: ClaimSources) -> ClaimMeasurement:
    """C11: on each benchmark the change from Δr = 0 to Δr > 0 at the same r, mean over all such pairs."""
    results = sources.table("figure6")
    pairs, names = against_zero(results), results.asked()
    if not pairs:
        raise ReportError("the figure has no pair of Δr > 0 and Δr = 0 at the same r")
    changes = {name: [_change_on(results, one.changed, one.base, name) for one in pairs] for name in names}
    kept = average([kept_points(results, one) for one in pairs])
    remark = (
        f"Mean over {len(pairs)} pairs. The pairs keep not quite equally many vision tokens: Δr > 0 keeps "
        f"{number(100 * kept.value, signed=True)} points on average."
    )
    parts = [ClaimPart(name, average(own)) for name, own in changes.items()]
    return ClaimMeasurement(
        parts, places(results, _rows(pairs), names), [comparison_tables.tally(results, pairs), remark]
    )


def thresholds(sources: ClaimSources) -> ClaimMeasurement:
    """C12: what a step of α, or of β, prunes (points of the vision tokens) and what it costs (percent of the score)."""
    results = sources.table("table2")
    steps, parts, said = comparison_tables.steps(results, ("alpha", "beta")), [], []

    def pruned(one: Contrast, benchmark: str) -> Estimate:
        changed, base = (results.value(at, benchmark, RETENTION) for at in (one.changed, one.base))
        return _lost(difference(changed, base))

    for symbol in ("α", "β"):
        own = [one for one in steps if one.names[0].startswith(symbol)]
        if not own:
            raise ReportError("the table has no step of α, or none of β")
        both = shared(results, _rows(own), results.asked())
        less = [average([pruned(one, name) for name in both]) for one in own]
        cost = [_lost(results.average_change(one.changed, both, one.base)) for one in own]
        parts += [
            ClaimPart(f"{symbol} raised: vision tokens pruned", average(less), POINTS),
            ClaimPart(f"{symbol} raised: score lost", average(cost)),
        ]
        fewer, worse = (sum(one.value > 0 for one in some) for some in (less, cost))
        said.append(f"{symbol}: of {len(own)} steps {fewer} prune more, {worse} cost score as measured.")
    return ClaimMeasurement(parts, places(results, _rows(steps), results.asked()), said)


def _rows(pairs: Sequence[Contrast]) -> list[int]:
    return sorted({index for one in pairs for index in (one.changed, one.base)})


def rises_again(sources: ClaimSources) -> ClaimMeasurement:
    """C14: per model, the largest rebound of γ in points of all attention."""
    readings = sources.asked.attention()
    if not any(model in readings for model in MODELS):
        raise ReportError("no attention readings of the paper's models")
    parts, marked, rests = [], [], []
    for model in MODELS:
        own = {one.benchmark: one for one in readings.get(model, []) if one.benchmark in BENCHMARKS}
        title = get_family(model).title
        gamma = layer_means(list(own.values()), seed=sources.asked.choices.seed) if own else []
        parts.append(ClaimPart(title, scaled(largest_rebound(gamma), 100), POINTS))
        rests += [Place(title, "", name, own.get(name)) for name in (BENCHMARKS if own else ("",))]
        if own:
            layers = ", ".join(str(peak.layer) for peak in peaks(gamma, [one.n for one in own.values()]))
            marked.append(f"{title} {layers or 'none'}")
    return ClaimMeasurement(parts, rests, [f"Layers that Figure 1 marks: {'; '.join(marked)}. {notes.LAYERS}"])


def largest_rebound(gamma: Sequence[Estimate]) -> Estimate:
    """The largest rebound of any layer beyond the first third; MISSING below three layers."""
    deep = range(max(2, math.ceil(DEEP * len(gamma))), len(gamma))
    return max((rebound(gamma, layer).rebound for layer in deep), key=lambda one: one.value, default=MISSING)
