"""Each row against Uncompressed and against the best baseline, paired by sample.

A baseline is every compressed row of another method than PLPHP. The best one on a benchmark is the one with the highest
mean change relative to Uncompressed over that benchmark's score columns; the best one on average the same over all
score columns. It is chosen on the samples it is then compared on, which flatters it; its interval does not know that it
was chosen.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from plphp_core.reporting import notes
from plphp_core.reporting.bootstrap import Estimate
from plphp_core.reporting.comparison import BENCHMARKS, Results
from plphp_core.reporting.table_model import NA, Table, TableCell, TableColumn, TableRow, bounds, percent

OURS = "plphp"


def baselines(results: Results) -> list[int]:
    """Indices of the rows that PLPHP is compared with."""
    return [index for index, row in enumerate(results.rows) if row.method not in ("none", OURS)]


def best(results: Results, benchmarks: Sequence[str] = BENCHMARKS) -> int | None:
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


def sheet(results: Results, title: str, head: Sequence[TableColumn], rows: Sequence[TableRow]) -> Table:
    """Average change against both with intervals, and in how many score columns the two differ.

    Args:
        head: columns in front, such as method and setting.
        rows: one per row of the results, whose first entries belong below `head`.
    """
    names, top = results.benchmarks(), best(results)
    own = {name: best(results, [name]) for name in names}
    groups = [("vs. Uncompressed", results.reference, dict.fromkeys(names, results.reference))]
    if top is not None:
        groups.append(("vs. best baseline", top, own))
    columns = [TableColumn(name, group) for group, *_ in groups for name in ("change", "interval", "above", "below")]
    lines = []
    for index, row in enumerate(rows):
        entries = list(row.cells[: len(head)])
        for _, base, base_on in groups:
            entries += _against(results, index, base, base_on)
        lines.append(TableRow((*entries, TableCell(_samples(results, index))), row.rule))
    return Table(
        f"{title}: against Uncompressed" + (" and the best baseline" if top is not None else ""),
        (*head, *columns, TableColumn("n", "Samples")),
        tuple(lines),
        tuple(_notes(results, top, own)),
    )


def _against(results: Results, index: int, base: int | None, base_on: Mapping[str, int | None]) -> list[TableCell]:
    """A row against `base` on average, and column by column against the row that `base_on` names for the benchmark."""
    if base is None or not any(at == index for at, _ in results.cells):
        return [TableCell()] * 4
    whole = results.average_change(index, base=base)
    average = [TableCell(percent(whole.value)), TableCell(bounds(whole.low, whole.high, signed=True))]
    columns = [(name, metric) for name, metric in results.columns() if base_on[name] not in (None, index)]
    found = verdicts([results.change(index, name, metric, base_on[name]) for name, metric in columns])
    counts = [TableCell(f"{count} of {found.columns}") for count in (found.above, found.below)]
    nothing = TableCell() if columns else TableCell("")  # no interval, or nothing but itself to compare with
    return [
        *([TableCell("reference"), TableCell("")] if index == base else average),
        *(counts if found.columns else [nothing] * 2),
    ]


def _samples(results: Results, index: int) -> str:
    """How many documents both the row and Uncompressed answered, over all benchmarks."""
    if results.reference is None:
        return NA
    return str(sum(results.paired(index, results.reference, name) for name in results.benchmarks()) or NA)


def _notes(results: Results, top: int | None, own: dict[str, int | None]) -> list[str]:
    options = results.options
    found = [
        (
            "Average change: unweighted mean over the score columns of the change relative to the row named above, "
            f"with its {options.confidence:.0%} interval: both rows are drawn on the same samples in each of "
            f"{options.resamples:,} resamples. n: samples that the row and Uncompressed both answered, all benchmarks."
            f"{notes.unreferenced([results])}"
        ),
        (
            "Above, below: score columns in which the interval of the change lies wholly above or below 0. The "
            "intervals are not widened for their number: of twenty comparisons of equals about one looks different."
        ),
    ]
    if top is not None:
        names = {index: ", ".join(name for name, at in own.items() if at == index) for index in own.values()}
        each = "; ".join(f"{results.label(index)} on {on}" for index, on in names.items() if index is not None)
        found.append(
            "Best baseline: the setting of FastV, VTW or another rival in this table with the highest mean change "
            f"relative to Uncompressed; on average {results.label(top)}. Above and below are counted against the best "
            f"one on each benchmark: {each}. It was chosen on the very samples it is compared on, which favours it."
        )
    return found
