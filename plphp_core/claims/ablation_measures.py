"""Claims about PLPHP's own parameters: C11 (Figure 6) and C12 (Table 2)."""

from __future__ import annotations

from collections.abc import Sequence

from plphp_core.analysis import paired_contrasts
from plphp_core.analysis.bootstrap import Estimate, average, difference
from plphp_core.analysis.paired_contrasts import Contrast
from plphp_core.analysis.results import Results
from plphp_core.analysis.retention_stats import Savings
from plphp_core.claims.claim_evidence import Measured, Quantity, negative, of_cells
from plphp_core.claims.claim_finding import POINTS
from plphp_core.claims.claim_sources import ClaimSources
from plphp_core.claims.score_measures import per_benchmark, shared
from plphp_core.records.errors import ReportError
from plphp_core.reporting import comparison_tables, table2
from plphp_core.reporting.figures import retention_grid
from plphp_core.reporting.table_model import number


def delta_r(sources: ClaimSources) -> Measured:
    """C11: on each benchmark the change from Δr = 0 to Δr > 0 at the same r, mean over all such pairs."""
    saved = sources.figure6
    results = saved.results
    pairs = retention_grid.against_zero(results)
    if not pairs:
        raise ReportError("the figure has no pair of Δr > 0 and Δr = 0 at the same r")
    parts = []
    for name in results.asked():
        changes = [per_benchmark(results, one.changed, one.base, name) for one in pairs]
        parts.append(Quantity(name, average(changes)))
    evidence = of_cells(results, _rows(pairs), results.asked())
    kept = average([paired_contrasts.kept_points(saved, one) for one in pairs])
    remark = (
        f"Mean over {len(pairs)} pairs. The pairs keep not quite equally many vision tokens: Δr > 0 keeps "
        f"{number(100 * kept.value, signed=True)} points on average."
    )
    return Measured(tuple(parts), evidence, (comparison_tables.tally(saved, pairs), remark))


def thresholds(sources: ClaimSources) -> Measured:
    """C12: what a step of α, or of β, prunes (points of the vision tokens) and what it costs (percent of the score)."""
    saved = sources.table2
    results = saved.results
    steps = table2.raised(results)
    by_name = {symbol: [one for one in steps if one.names[0].startswith(symbol)] for symbol in ("α", "β")}
    if not all(by_name.values()):
        raise ReportError("the table has no step of α, or none of β")
    parts, said = [], []
    for symbol, own in by_name.items():
        both = shared(results, _rows(own), results.asked())
        pruned, cost = _pruned(saved, own, both), _cost(results, own, both)
        parts += [
            Quantity(f"{symbol} raised: vision tokens pruned", average(pruned), POINTS),
            Quantity(f"{symbol} raised: score lost", average(cost)),
        ]
        fewer, worse = (sum(one.value > 0 for one in some) for some in (pruned, cost))
        said.append(f"{symbol}: of {len(own)} steps {fewer} prune more, {worse} cost score as measured.")
    return Measured(tuple(parts), of_cells(results, _rows(steps), results.asked()), tuple(said))


def _pruned(saved: Savings, steps: Sequence[Contrast], benchmarks: Sequence[str]) -> list[Estimate]:
    """How many more vision tokens each step prunes, points, mean over benchmarks."""
    kept = saved.retention
    return [
        average([negative(difference(kept[one.changed, name], kept[one.base, name]), 100) for name in benchmarks])
        for one in steps
    ]


def _cost(results: Results, steps: Sequence[Contrast], benchmarks: Sequence[str]) -> list[Estimate]:
    """What each step loses of the average score, percent."""
    changes = [results.average_change(one.changed, benchmarks, one.base) for one in steps]
    return [negative(one, 100) for one in changes]


def _rows(pairs: Sequence[Contrast]) -> list[int]:
    return sorted({index for one in pairs for index in (one.changed, one.base)})
