"""The rule of the ledger: from intervals and a statement to an outcome. docs/claims.md says it in words.

One rule serves claims about one number, about all of several parts and about some of them: the claim says that the
statement holds of at least `needed` of the m parts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from plphp_core.analysis.bootstrap import Estimate
from plphp_core.config.report_choices import CONFIDENCE

TAIL = (1 - CONFIDENCE) / 2  # what an interval leaves out at either end


class RuleOutcome(StrEnum):
    """What the rule says of numbers, wherever they come from."""

    AS_CLAIMED = "as claimed"
    NOT_AS_CLAIMED = "not as claimed"
    UNDECIDED = "undecided"


class Verdict(StrEnum):
    """What the ledger says of a claim."""

    REPRODUCED = "reproduced"
    CONTRADICTED = "contradicted"
    INCONCLUSIVE = "inconclusive"
    NOT_COMPARABLE = "not comparable"
    NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Statement:
    """That a quantity lies between `low` and `high`, which already contain the tolerance; the ends decide nothing."""

    low: float = -math.inf
    high: float = math.inf

    def holds(self, low: float, high: float) -> bool:
        """Whether an interval lies wholly inside; False if it does not exist."""
        return self.low < low and high < self.high

    def fails(self, low: float, high: float) -> bool:
        """Whether an interval lies wholly outside; False if it does not exist."""
        return high < self.low or low > self.high


def outcomes(estimates: Sequence[Estimate], statement: Statement, needed: int | None = None) -> list[RuleOutcome]:
    """What the rule says of each part, at the levels that `overall` needs.

    To conclude that the statement holds of at least u of m parts, u intervals must lie inside that leave out
    TAIL/(m−u+1) at either end; to conclude that it does not, m−u+1 must lie outside that leave out TAIL/u (Bonferroni's
    partial conjunction, Benjamini and Heller 2008; parts may depend on each other). So "all" needs every usual interval
    inside, and one part widened for their number refutes it; of a single part both are the usual interval.

    Args:
        needed: how many parts must hold; None for all.
    """
    needed = len(estimates) if needed is None else needed
    inside, outside = TAIL / (len(estimates) - needed + 1), TAIL / needed
    found = []
    for one in estimates:
        if statement.holds(*interval(one, inside)):
            found.append(RuleOutcome.AS_CLAIMED)
        elif statement.fails(*interval(one, outside)):
            found.append(RuleOutcome.NOT_AS_CLAIMED)
        else:
            found.append(RuleOutcome.UNDECIDED)
    return found


def overall(parts: Sequence[RuleOutcome], needed: int | None = None) -> RuleOutcome:
    """The outcome of the claim from those of its parts (`outcomes`); a part that is missing counts as undecided."""
    needed = len(parts) if needed is None else needed
    if parts.count(RuleOutcome.AS_CLAIMED) >= needed > 0:
        return RuleOutcome.AS_CLAIMED
    if parts.count(RuleOutcome.NOT_AS_CLAIMED) > len(parts) - needed:
        return RuleOutcome.NOT_AS_CLAIMED
    return RuleOutcome.UNDECIDED


def interval(one: Estimate, tail: float = TAIL) -> tuple[float, float]:
    """The percentile interval that leaves out `tail` at either end; nan where the estimate has none."""
    if math.isnan(one.value) or math.isnan(one.low) or math.isnan(one.high):
        return math.nan, math.nan
    low, high = np.quantile(one.replicates, [tail, 1 - tail])
    return float(low), float(high)
