"""Claims about scores and savings of whole models: C1 to C4 (Table 1), C9 and C10 (Table 3)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from plphp_core.analysis.bootstrap import MISSING, Estimate, average, scaled
from plphp_core.analysis.estimates import KV_SAVED
from plphp_core.analysis.method_style import method_style
from plphp_core.analysis.results import Results
from plphp_core.claims.claim_evidence import ClaimEvidence, evidence_of_rows
from plphp_core.claims.claim_finding import SAVED, ClaimMeasurement, ClaimPart
from plphp_core.claims.claim_sources import BENCHMARKS, MULTI_IMAGE, ClaimSources
from plphp_core.records.errors import ReportError
from plphp_core.reporting.table_model import bounds, percent


def against_uncompressed(sources: ClaimSources, benchmarks: Sequence[str] = BENCHMARKS) -> ClaimMeasurement:
    """C1, C4: average change of PLPHP at its defaults."""
    results = sources.table1
    return _average_change(results, sources.default(results), benchmarks)


def multi_image(sources: ClaimSources) -> ClaimMeasurement:
    """C4."""
    return against_uncompressed(sources, MULTI_IMAGE)


def above(sources: ClaimSources, rival: str) -> ClaimMeasurement:
    """C2, C3: PLPHP at its defaults against every setting of `rival`, averaged over them."""
    results = sources.table1
    ours, settings = sources.default(results), [at for at, row in enumerate(results.rows) if row.method == rival]
    if not settings:
        raise ReportError(f"the table has no row of {method_style(rival).label}")
    run = [at for at in settings if any(index == at for index, _ in results.cells)]
    both = shared(results, [ours, *run], BENCHMARKS)
    changes = {at: results.average_change(ours, both, base=at) for at in run}
    said = [f"{results.setting(at)} {percent(change.value)}" for at, change in changes.items()]
    remarks = [f"Against its single settings: {', '.join(said)}."] if said else []
    known = {at: change for at, change in changes.items() if not math.isnan(change.value)}
    if known:
        best = min(known, key=lambda at: known[at].value)
        interval = bounds(known[best].low, known[best].high, signed=True)
        remarks.append(f"Against the best of them, {results.setting(best)}: {percent(known[best].value)} {interval}.")
    return ClaimMeasurement(
        (ClaimPart("average change", scaled(average(list(changes.values())), 100)),),
        evidence_of_rows(results, [ours, *settings], BENCHMARKS),
        (*remarks, *_only(both, BENCHMARKS)),
    )


def better_everywhere(sources: ClaimSources) -> ClaimMeasurement:
    """C9a: Qwen2-VL on each benchmark."""
    results = _of_table3(sources, "qwen2_vl")
    return ClaimMeasurement(_per_benchmark(results), _evidence(results))


def qwen_average(sources: ClaimSources) -> ClaimMeasurement:
    """C9b."""
    results = _of_table3(sources, "qwen2_vl")
    return _average_change(results, _plphp(results), _asked(results))


def qwen_saved(sources: ClaimSources) -> ClaimMeasurement:
    """C9c: share of the prompt's KV bytes, mean over benchmarks."""
    results = _of_table3(sources, "qwen2_vl")
    return ClaimMeasurement((ClaimPart("KV saved", scaled(_saved(results), 100), SAVED),), _evidence(results))


def others_saved(sources: ClaimSources) -> ClaimMeasurement:
    """C10a: mean over IDEFICS2 and Mantis of the share of KV bytes saved."""
    models = [_of_table3(sources, name) for name in ("idefics2", "mantis")]
    saved = [_saved(results) for results in models]
    said = ", ".join(
        f"{results.title} {percent(one.value, 1, signed=False)}" for results, one in zip(models, saved, strict=True)
    )
    part = ClaimPart("KV saved", scaled(average(saved), 100), SAVED)
    return ClaimMeasurement((part,), _evidence(*models), (f"{said}.",))


def others_better(sources: ClaimSources) -> ClaimMeasurement:
    """C10b: IDEFICS2 and Mantis on each benchmark."""
    models = [_of_table3(sources, name) for name in ("idefics2", "mantis")]
    parts = {results.title: _per_benchmark(results, f"{results.title} ") for results in models}
    higher = ", ".join(f"{sum(one.estimate.value > 0 for one in own)} for {title}" for title, own in parts.items())
    return ClaimMeasurement(
        sum(parts.values(), ()), _evidence(*models), (f"Higher as measured, whatever the interval: {higher}.",)
    )


def shared(results: Results, rows: Sequence[int], benchmarks: Sequence[str]) -> list[str]:
    """The benchmarks that all rows have finished."""
    return [name for name in benchmarks if all((at, name) in results.cells for at in rows)]


def change_on(results: Results, changed: int, base: int | None, benchmark: str) -> Estimate:
    """Change on one benchmark in percent, mean over its score columns."""
    both = (changed, benchmark) in results.cells and (base, benchmark) in results.cells
    return scaled(results.average_change(changed, [benchmark], base), 100) if both else MISSING


def _average_change(results: Results, row: int, benchmarks: Sequence[str]) -> ClaimMeasurement:
    """The average change of `row` against Uncompressed over the benchmarks that both have finished."""
    rows = _with_uncompressed(results, row)
    both = shared(results, rows, benchmarks)
    part = ClaimPart("average change", scaled(results.average_change(row, both), 100))
    return ClaimMeasurement((part,), evidence_of_rows(results, rows, benchmarks), _only(both, benchmarks))


def _per_benchmark(results: Results, front: str = "") -> tuple[ClaimPart, ...]:
    row, base = _plphp(results), results.reference
    return tuple(ClaimPart(f"{front}{name}", change_on(results, row, base, name)) for name in _asked(results))


def _saved(results: Results) -> Estimate:
    row = _plphp(results)
    both = shared(results, _with_uncompressed(results, row), _asked(results))
    return average([results.value(row, name, KV_SAVED) for name in both])


def _evidence(*models: Results) -> ClaimEvidence:
    """Of PLPHP and Uncompressed on each model; names carry the model where there are several."""
    found = ClaimEvidence()
    for results in models:
        rows = _with_uncompressed(results, _plphp(results))
        found += evidence_of_rows(results, rows, _asked(results), several=len(models) > 1)
    return found


def _asked(results: Results) -> list[str]:
    """The paper's benchmarks that the table asks of the model."""
    return [name for name in results.asked() if name in BENCHMARKS]


def _of_table3(sources: ClaimSources, model: str) -> Results:
    """Raises ReportError if the table does not ask for the model, or asks for no row of PLPHP."""
    for results in sources.table3:
        if results.model == model and any(row.method == "plphp" for row in results.rows):
            return results
    raise ReportError(f"the table has no row of PLPHP for {model}")


def _plphp(results: Results) -> int:
    return next(index for index, row in enumerate(results.rows) if row.method == "plphp")


def _with_uncompressed(results: Results, row: int) -> list[int]:
    """Raises ReportError without an uncompressed row."""
    if results.reference is None:
        raise ReportError("the table has no uncompressed row")
    return [results.reference, row]


def _only(benchmarks: Sequence[str], wanted: Sequence[str]) -> tuple[str, ...]:
    """What the average runs over, where that is not everything."""
    return (f"Averaged over {', '.join(benchmarks)} only.",) if 0 < len(benchmarks) < len(wanted) else ()
