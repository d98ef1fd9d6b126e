"""Each row against Uncompressed and against the best baseline, paired by sample.

A baseline is every compressed row of another method than PLPHP that is no control. The best one on a benchmark is the
one with the highest mean change relative to Uncompressed over that benchmark's score columns; the best one on average
the same over all score columns. It is chosen on the samples it is then compared on, which flatters it; its interval
does not know that it was chosen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from plphp_core.analysis.bootstrap import Estimate
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
