"""Rows of a table against each other, paired by sample: against the best baseline, or one chosen row against another.

A baseline is every compressed row of another method than PLPHP that is no control. The best one on a benchmark is the
one with the highest mean change relative to Uncompressed over that benchmark's score columns; the best one on average
the same over all score columns. It is chosen on the samples it is then compared on, which flatters it; its interval
does not know that it was chosen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from plphp_core.analysis.bootstrap import RETENTION, Estimate, difference
from plphp_core.analysis.method_style import is_control
from plphp_core.analysis.results import Results

OURS = "plphp"


def baselines(results: Results) -> list[int]:
    """Indices of the rows that PLPHP is compared with."""
    rivals = [row.method not in ("none", OURS) and not is_control(row.method) for row in results.rows]
    return [index for index, rival in enumerate(rivals) if rival]


def best(results: Results, benchmarks: Sequence[str] | None = None) -> int | None:
    """Index of the best baseline on `benchmarks` together; None if none has all their score columns."""
    changes = {index: results.average_change(index, benchmarks).value for index in baselines(results)}
    known = {index: change for index, change in changes.items() if not math.isnan(change)}
    return max(known, key=known.__getitem__, default=None)


@dataclass(frozen=True)
class Verdicts:
    """Of `columns` score columns, in how many the interval of the change lies wholly above and wholly below 0."""

    above: int
    below: int
    columns: int


def verdicts(changes: Sequence[Estimate]) -> Verdicts:
    """Changes without an interval are not counted, not even as columns."""
    known = [change for change in changes if not math.isnan(change.low)]
    return Verdicts(sum(one.low > 0 for one in known), sum(one.high < 0 for one in known), len(known))


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
