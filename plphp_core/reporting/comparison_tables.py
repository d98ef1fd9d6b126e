"""Tables that compare rows with each other: with Uncompressed and the best baseline, or with a chosen other row."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from plphp_core.analysis.baseline_comparison import best, verdicts
from plphp_core.analysis.bootstrap import MISSING, Estimate
from plphp_core.analysis.paired_contrasts import Contrast, kept_points
from plphp_core.analysis.results import Results
from plphp_core.config.table_rows import SYMBOLS
from plphp_core.reporting import notes
from plphp_core.reporting.table_model import NA, Table, TableCell, TableColumn, TableRow, bounds, number, percent


def baseline_table(results: Results, title: str, head: Sequence[TableColumn], rows: Sequence[TableRow]) -> Table:
    """Average change against both with intervals, and in how many score columns the two differ.

    Args:
        head: columns in front, such as method and setting.
        rows: one per row of the results, whose first entries belong below `head`.
    """
    names, top = results.finished(), best(results)
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
    return str(sum(results.paired(index, results.reference, name) for name in results.finished()) or NA)


def _notes(results: Results, top: int | None, own: dict[str, int | None]) -> list[str]:
    options = results.options
    found = [
        (
            "Average change: unweighted mean over the score columns of the change relative to the row named above, "
            f"with its {options.confidence:.0%} interval: both rows are drawn on the same samples in each of "
            f"{options.resamples:,} resamples. n: samples that the row and Uncompressed both answered, all benchmarks."
            f" {notes.unreferenced([results])}".rstrip()
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


def contrast_table(
    results: Results, title: str, head: Sequence[str], contrasts: Sequence[Contrast], remarks: Sequence[str] = ()
) -> Table:
    """A line per contrast: relative change of every score, of their average, and of the vision tokens kept, in points.

    Args:
        head: headings of the text columns.
        remarks: printed below the sheet, after how to read it.
    """
    shown = results.score_places(results.asked())
    columns = (
        *[TableColumn(name, text=True) for name in head],
        *[TableColumn(label, group) for group, _, label in shown],
        TableColumn("change", "Average"),
        TableColumn("points", "Vision kept"),
    )
    lines = []
    for one in contrasts:
        changes = [results.change(one.changed, name, metric, one.base) for name, metric, _ in shown]
        changes.append(results.average_change(one.changed, base=one.base))
        kept = kept_points(results, one)
        points = TableCell(number(100 * kept.value, signed=True), "" if kept is MISSING else _points(kept))
        lines.append(TableRow((*map(TableCell, one.names), *map(_relative, changes), points), one.rule))
    reading = (
        f"In parentheses {results.options.confidence:.0%} intervals: both settings are drawn on the same samples in "
        f"each of {results.options.resamples:,} resamples. The intervals are not widened for their number."
    )
    return Table(title, columns, tuple(lines), (reading, *remarks))


def tally(results: Results, contrasts: Sequence[Contrast]) -> str:
    """In how many score columns of how many contrasts the interval lies wholly above or below 0."""
    every = [results.change(one.changed, *column, one.base) for one in contrasts for column in results.columns()]
    changes = [change for change in every if not math.isnan(change.value)]
    found = verdicts(changes)
    higher = sum(change.value > 0 for change in changes)
    lower = sum(change.value < 0 for change in changes)
    return (
        f"Of {len(changes)} comparisons of a score (every line in every score column) {higher} are higher and {lower} "
        f"lower; the interval lies wholly above 0 in {found.above} and wholly below 0 in {found.below}."
    )


def steps(results: Results, parameters: Sequence[str]) -> list[Contrast]:
    """Every step of one of these parameters to its next higher value in the table, the others held."""
    places = {
        tuple(float(row.params[name]) for name in parameters): index
        for index, row in enumerate(results.rows)
        if set(parameters) <= set(row.params)
    }
    found: list[Contrast] = []
    for at, name in enumerate(parameters):
        own: list[Contrast] = []
        for place, base in places.items():
            rest = place[:at] + place[at + 1 :]
            line = [one for one in places if one[at] > place[at] and one[:at] + one[at + 1 :] == rest]
            if line:
                higher = min(line, key=lambda one: one[at])
                others = [f"{_symbol(other)} = {value:g}" for other, value in zip(parameters, place, strict=True)]
                names = (f"{_symbol(name)}: {place[at]:g} → {higher[at]:g}", ", ".join(others[:at] + others[at + 1 :]))
                own.append(Contrast(places[higher], base, names, rule=not own))
        found += own
    return found


def step_table(results: Results, title: str, parameters: Sequence[str]) -> Table:
    """What raising one of these parameters does."""
    pairs = steps(results, parameters)
    remarks = [tally(results, pairs)] if pairs else []
    title = f"{title}: one of {', '.join(map(_symbol, parameters))} raised, the rest held"
    return contrast_table(results, title, ("raised", "held"), pairs, remarks)


def _symbol(parameter: str) -> str:
    return SYMBOLS.get(parameter, parameter)


def _relative(change: Estimate) -> TableCell:
    text = percent(change.value)
    return TableCell(text, "" if text == NA else bounds(change.low, change.high, signed=True))


def _points(kept: Estimate) -> str:
    low, high = (number(100 * end, signed=True) for end in (kept.low, kept.high))
    return NA if NA in (low, high) else f"[{low}, {high}]"
