"""One row against another one of the same table, paired by sample: what a change of one parameter does."""

from __future__ import annotations

from dataclasses import dataclass

from plphp_core.analysis.baseline_comparison import OURS
from plphp_core.analysis.bootstrap import RETENTION, Estimate, difference
from plphp_core.analysis.method_style import is_control
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


def controls(results: Results) -> list[Contrast]:
    """Every row of PLPHP against every control with its parameters: the same bytes, sample by sample."""
    found = []
    for index, row in enumerate(results.rows):
        own = [
            (other, control)
            for other, control in enumerate(results.rows)
            if row.method == OURS and is_control(control.method)
            if all(control.params.get(name, value) == value for name, value in row.params.items())
            if {"r", "delta_r"} <= set(control.params)
        ]
        for other, control in own:
            found.append(Contrast(index, other, (results.setting(index), control.label), rule=other == own[0][0]))
    return found


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
