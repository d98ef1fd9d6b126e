"""Tables that compare rows with each other: with Uncompressed and the best baseline, or with a chosen other row."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial

from plphp_core.analysis.bootstrap import Estimate
from plphp_core.analysis.paired_contrasts import Contrast, Verdicts, best, kept_points, verdicts
from plphp_core.analysis.results import Results
from plphp_core.config.table_rows import SYMBOLS
from plphp_core.reporting import notes
from plphp_core.reporting.table_model import NA, Table, TableCell, TableColumn, TableRow, number
from plphp_core.reporting.table_spec import NumberColumn, TableSpec, WordColumn, change_columns, signed_percent


def baseline_table(results: Results, title: str, head: Sequence[TableColumn], rows: Sequence[TableRow]) -> Table:
    """Average change against both with intervals, and in how many score columns the two differ.

    Args:
        head, rows: how the rows of the results begin, such as method and setting.
    """
    names, top = results.finished(), best(results)
    own = {name: best(results, [name]) for name in names}
    columns = _against(results, "vs. Uncompressed", results.reference, dict.fromkeys(names, results.reference))
    if top is not None:
        columns += _against(results, "vs. best baseline", top, own)
    columns.append(WordColumn(TableColumn("n", "Samples"), lambda index: TableCell(_samples(results, index))))
    title = f"{title}: against Uncompressed" + (" and the best baseline" if top is not None else "")
    return TableSpec(title, head, rows, columns, _notes(results, top, own)).numbers()


def _against(
    results: Results, group: str, base: int | None, base_on: Mapping[str, int | None]
) -> list[NumberColumn | WordColumn]:
    """Each row against `base` on average, and column by column against the row that `base_on` names there."""
    run = {at for at, _ in results.cells}

    @cache
    def compared(index: int) -> Verdicts | None:
        """None: nothing but itself to compare with."""
        places = [(name, metric) for name, metric in results.columns() if base_on[name] not in (None, index)]
        found = verdicts([results.change(index, name, metric, base_on[name]) for name, metric in places])
        return found if places or base is None or index not in run else None

    def counted(index: int, what: str) -> TableCell:
        found = compared(index)
        if found is None:
            return TableCell("")
        return TableCell(f"{getattr(found, what)} of {found.columns}" if found.columns else NA)

    return [
        *change_columns(
            group,
            lambda index: results.average_change(index, base=base),
            lambda index: "reference" if index == base and index in run else None,
        ),
        *(WordColumn(TableColumn(what, group), partial(counted, what=what)) for what in ("above", "below")),
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

    def change(name: str, metric: str) -> Callable[[int], Estimate]:
        return lambda at: results.change(contrasts[at].changed, name, metric, contrasts[at].base)

    def average(at: int) -> Estimate:
        return results.average_change(contrasts[at].changed, base=contrasts[at].base)

    shown = [(TableColumn(label, name), change(name, metric))
             for name, metric, label in results.score_places(results.asked())]  # fmt: skip
    shown.append((TableColumn("change", "Average"), average))
    columns = [NumberColumn(heading, estimate, signed_percent, inline=True) for heading, estimate in shown]
    columns.append(
        NumberColumn(
            TableColumn("points", "Vision kept"),
            lambda at: kept_points(results, contrasts[at]),
            partial(number, signed=True),
            inline=True,
        )
    )
    reading = (
        f"In parentheses {results.options.confidence:.0%} intervals: both settings are drawn on the same samples in "
        f"each of {results.options.resamples:,} resamples. The intervals are not widened for their number."
    )
    rows = [TableRow.of(*one.names, rule=one.rule) for one in contrasts]
    texts = [TableColumn(name, text=True) for name in head]
    return TableSpec(title, texts, rows, columns, (reading, *remarks)).numbers()


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
