"""Claims about scores and savings of whole models: C1 to C4 (Table 1), C9 and C10 (Table 3)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from plphp_core.analysis.bootstrap import MISSING, Estimate, average, scaled
from plphp_core.analysis.results import Results
from plphp_core.analysis.retention_stats import savings
from plphp_core.claims.claim_evidence import ClaimEvidence, Measured, Quantity, of_cells
from plphp_core.claims.claim_finding import SAVED
from plphp_core.claims.claim_sources import ClaimSources
from plphp_core.pruning.method import method_label
from plphp_core.records.errors import ReportError
from plphp_core.reporting.table_model import bounds, percent


def against_uncompressed(sources: ClaimSources, group: str = "") -> Measured:
    """C1, C4: average change of PLPHP at its defaults, on all benchmarks of Table 1 or those of a group."""
    results = sources.table1
    benchmarks = results.catalogue.group(group, results.benchmarks) if group else results.benchmarks
    row = sources.default(results)
    found, both = of_cells(results, _rows(results, row), benchmarks), shared(results, _rows(results, row), benchmarks)
    change = results.average_change(row, both)
    return Measured((Quantity("average change", scaled(change, 100)),), found, _only(both, benchmarks))


def multi_image(sources: ClaimSources) -> Measured:
    """C4."""
    return against_uncompressed(sources, "multi_image")


def above(sources: ClaimSources, rival: str) -> Measured:
    """C2, C3: PLPHP at its defaults against every setting of `rival`, averaged over them."""
    results = sources.table1
    ours, settings = sources.default(results), [at for at, row in enumerate(results.rows) if row.method == rival]
    if not settings:
        raise ReportError(f"the table has no row of {method_label(rival)}")
    found = of_cells(results, [ours, *settings], results.benchmarks)
    run = [at for at in settings if any(index == at for index, _ in results.cells)]
    both = shared(results, [ours, *run], results.benchmarks)
    changes = {at: results.average_change(ours, both, base=at) for at in run}
    said = [f"{results.setting(at)} {percent(change.value)}" for at, change in changes.items()]
    remarks = [f"Against its single settings: {', '.join(said)}."] if said else []
    known = {at: change.value for at, change in changes.items() if not math.isnan(change.value)}
    if known:
        best = min(known, key=known.__getitem__)
        span = bounds(changes[best].low, changes[best].high, signed=True)
        remarks.append(f"Against the best of them, {results.setting(best)}: {percent(known[best])} {span}.")
    return Measured(
        (Quantity("average change", scaled(average(list(changes.values())), 100)),),
        found,
        (*remarks, *_only(both, results.benchmarks)),
    )


def better_everywhere(sources: ClaimSources) -> Measured:
    """C9a: Qwen2-VL on each benchmark."""
    results = _model(sources, "qwen2_vl")
    return Measured(tuple(_per_benchmark(results)), _evidence(results))


def qwen_average(sources: ClaimSources) -> Measured:
    """C9b."""
    results = _model(sources, "qwen2_vl")
    both = shared(results, _both(results), results.asked())
    change = results.average_change(_plphp(results), both)
    return Measured(
        (Quantity("average change", scaled(change, 100)),), _evidence(results), _only(both, results.asked())
    )


def qwen_saved(sources: ClaimSources) -> Measured:
    """C9c: share of the prompt's KV bytes, mean over benchmarks."""
    results = _model(sources, "qwen2_vl")
    return Measured((Quantity("KV saved", scaled(_saved(results), 100), SAVED),), _evidence(results))


def others_saved(sources: ClaimSources) -> Measured:
    """C10a: mean over IDEFICS2 and Mantis of the share of KV bytes saved."""
    parts = [_model(sources, name) for name in ("idefics2", "mantis")]
    saved = [_saved(part) for part in parts]
    single = ", ".join(
        f"{part.title} {percent(one.value, 1, signed=False)}" for part, one in zip(parts, saved, strict=True)
    )
    evidence = sum((_evidence(part, several=True) for part in parts), ClaimEvidence())
    return Measured((Quantity("KV saved", scaled(average(saved), 100), SAVED),), evidence, (f"{single}.",))


def others_better(sources: ClaimSources) -> Measured:
    """C10b: IDEFICS2 and Mantis on each benchmark."""
    parts = [_model(sources, name) for name in ("idefics2", "mantis")]
    found = [one for part in parts for one in _per_benchmark(part, f"{part.title} ")]
    higher = ", ".join(
        f"{sum(one.estimate.value > 0 for one in _per_benchmark(part))} for {part.title}" for part in parts
    )
    evidence = sum((_evidence(part, several=True) for part in parts), ClaimEvidence())
    return Measured(tuple(found), evidence, (f"Higher as measured, whatever the interval: {higher}.",))


def shared(results: Results, rows: Sequence[int], benchmarks: Sequence[str]) -> list[str]:
    """The benchmarks that all rows have finished."""
    return [name for name in benchmarks if all((at, name) in results.cells for at in rows)]


def per_benchmark(results: Results, changed: int, base: int, benchmark: str) -> Estimate:
    """Change on one benchmark in percent, mean over its score columns."""
    both = (changed, benchmark) in results.cells and (base, benchmark) in results.cells
    return scaled(results.average_change(changed, [benchmark], base), 100) if both else MISSING


def _per_benchmark(results: Results, front: str = "") -> list[Quantity]:
    row, base = _plphp(results), results.reference
    return [Quantity(f"{front}{name}", per_benchmark(results, row, base, name)) for name in results.asked()]


def _saved(results: Results) -> Estimate:
    both, row = shared(results, _both(results), results.asked()), _plphp(results)
    kv_saved = savings(results).kv_saved
    return average([kv_saved[row, name] for name in both])


def _evidence(results: Results, several: bool = False) -> ClaimEvidence:
    return of_cells(results, _both(results), results.asked(), several)


def _model(sources: ClaimSources, name: str) -> Results:
    """Raises ReportError if the table does not ask for the model, or asks for no row of PLPHP."""
    part = next((part for part in sources.table3 if part.model == name), None)
    if part is None or not any(row.method == "plphp" for row in part.rows):
        raise ReportError(f"the table has no row of PLPHP for {name}")
    return part


def _plphp(results: Results) -> int:
    return next(index for index, row in enumerate(results.rows) if row.method == "plphp")


def _both(results: Results) -> list[int]:
    return _rows(results, _plphp(results))


def _rows(results: Results, row: int) -> list[int]:
    """Uncompressed and `row`. Raises ReportError without the former."""
    if results.reference is None:
        raise ReportError("the table has no uncompressed row")
    return [results.reference, row]


def _only(benchmarks: Sequence[str], wanted: Sequence[str]) -> tuple[str, ...]:
    """What the average runs over, where that is not everything."""
    return (f"Averaged over {', '.join(benchmarks)} only.",) if 0 < len(benchmarks) < len(wanted) else ()
