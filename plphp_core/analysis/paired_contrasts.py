"""One row against another one of the same table, paired by sample: what a change of one parameter does."""

from __future__ import annotations

from dataclasses import dataclass

from plphp_core.analysis.bootstrap import Estimate, difference
from plphp_core.analysis.estimates import RETENTION
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
