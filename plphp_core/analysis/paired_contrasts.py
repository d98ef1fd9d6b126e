"""One row against another one of the same table, paired by sample: what a change of one parameter does."""

from __future__ import annotations

from dataclasses import dataclass

from plphp_core.analysis.bootstrap import RETENTION, Estimate, difference
from plphp_core.analysis.results import Results


@dataclass(frozen=True)
class Contrast:
    """Row `changed` against row `base` (indices), called `names` in the text columns; `rule` draws a line above."""

    changed: int
    base: int
    names: tuple[str, ...]
    rule: bool = False


def kept_points(results: Results, one: Contrast) -> Estimate:
    """Difference of the average share of vision tokens kept, a fraction."""
    changed, base = (results.average(index, RETENTION) for index in (one.changed, one.base))
    return difference(changed, base, results.options.confidence)


def rates(results: Results) -> dict[float, dict[float, int]]:
    """r → Δr → row index, both rising, of the PLPHP rows."""
    found: dict[float, dict[float, int]] = {}
    for index, row in enumerate(results.rows):
        if {"r", "delta_r"} <= set(row.params):
            found.setdefault(float(row.params["r"]), {})[float(row.params["delta_r"])] = index
    return {r: dict(sorted(found[r].items())) for r in sorted(found)}


def against_zero(results: Results) -> list[Contrast]:
    """Every Δr > 0 against Δr = 0 at the same r."""
    return [
        Contrast(index, line[0], (f"r = {r:g}", f"Δr = {delta:g}"), rule=delta == min(set(line) - {0}))
        for r, line in rates(results).items()
        if 0 in line
        for delta, index in line.items()
        if delta > 0
    ]
