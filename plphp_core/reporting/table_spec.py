"""Tables as data: a column says what it estimates and how it is printed; a spec makes the tables of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from plphp_core.analysis.bootstrap import Estimate
from plphp_core.analysis.method_style import method_style
from plphp_core.analysis.results import Results
from plphp_core.reporting.table_model import (
    NA,
    Table,
    TableCell,
    TableColumn,
    TableRow,
    bounds,
    emphasised,
    number,
    rank,
)

Reference = Mapping[tuple[str, str], Mapping[tuple[str, str], float]]  # published.load_reference
ABOVE = "¹ above the same model uncompressed (bold in the files)"
HEAD = (TableColumn("Method", text=True), TableColumn("Setting", text=True))


def signed_percent(value: float) -> str:
    """A change in percent."""
    text = number(value, signed=True)
    return text if text == NA else f"{text}%"


def share(value: float, decimals: int = 1) -> str:
    """A part of a whole in percent."""
    text = number(value, decimals)
    return text if text == NA else f"{text}%"


def nothing(index: int) -> str:
    """What stands beside a number of which there is nothing more to say."""
    return ""


def never(index: int) -> None:
    """The word in place of a number that every row has."""


@dataclass(frozen=True)
class NumberColumn:
    """A column of numbers; its functions are asked with the index of a row.

    Attributes:
        estimate: the number and its interval.
        text: prints a number, after it was multiplied by `scale`; `ends` prints those of an interval.
        ranked: whether its best are marked, which are the lowest where `lower` is set.
        spread: whether the table of intervals has the column; `inline`: the interval stands behind the number.
        gain: what stands in parentheses behind the number; `mark`: superscript.
        instead: a word in place of the number, and `no_interval` of the interval; None where there is none.
        published: where a row of published numbers has the column's, (benchmark, metric); the first that is known.
    """

    heading: TableColumn
    estimate: Callable[[int], Estimate]
    text: Callable[[float], str] = number
    scale: float = 100.0
    ends: Callable[[float], str] | None = None
    ranked: bool = False
    lower: bool = False
    spread: bool = True
    inline: bool = False
    gain: Callable[[int], str] = nothing
    mark: Callable[[int], str] = nothing
    instead: Callable[[int], str | None] = never
    no_interval: Callable[[int], str | None] = never
    published: tuple[tuple[str, str], ...] = ()

    def value(self, index: int) -> float:
        """The number as it is printed and ranked."""
        return self.scale * self.estimate(index).value

    def cell(self, index: int) -> TableCell:
        """The number of a row."""
        if (word := self.instead(index)) is not None:
            return TableCell(word)
        value = self.value(index)
        inline = self.inline and not math.isnan(value)
        return TableCell(self.text(value), self.bounds(index) if inline else self.gain(index), self.mark(index))

    def interval(self, index: int) -> TableCell:
        """The interval of a row."""
        word = self.instead(index)
        word = self.no_interval(index) if word is None else word
        return TableCell(self.bounds(index) if word is None else word)

    def bounds(self, index: int) -> str:
        """The interval as "[low, high]"; n/a unless both ends are known."""
        found = self.estimate(index)
        return bounds(self.scale * found.low, self.scale * found.high, self.ends or self.text)

    def published_cell(self, known: Mapping[tuple[str, str], float]) -> TableCell:
        """The number of a published row, in the units it prints."""
        return TableCell(self.text(next((known[place] for place in self.published if place in known), math.nan)))


@dataclass(frozen=True)
class WordColumn:
    """A column of words or counts, never ranked: what a row has there."""

    heading: TableColumn
    cell: Callable[[int], TableCell]
    ranked = spread = False

    def published_cell(self, known: Mapping[tuple[str, str], float]) -> TableCell:
        """No published row has it."""
        return TableCell()


Columns = Sequence[NumberColumn | WordColumn]


def change_columns(
    group: str,
    estimate: Callable[[int], Estimate],
    instead: Callable[[int], str | None] = never,
    mark: Callable[[int], str] = nothing,
) -> list[NumberColumn | WordColumn]:
    """A change, a fraction, in percent, and its interval in a column of its own, which a word leaves empty."""
    change = NumberColumn(TableColumn("change", group), estimate, signed_percent, mark=mark, instead=instead)

    def interval(index: int) -> TableCell:
        return TableCell(change.bounds(index) if instead(index) is None else "")

    return [change, WordColumn(TableColumn("interval", group), interval)]


@dataclass(frozen=True)
class TableSpec:
    """A table as data: how its rows begin, and its columns.

    Attributes:
        head: headings of the first cells of each row; `rows`: these cells, such as `fronts`.
        competing: groups of rows, by index; in every ranked column the best and second of each are marked.
        above: the row whose numbers others are bold for exceeding, as printed; then nothing competes.
    """

    title: str
    head: Sequence[TableColumn]
    rows: Sequence[TableRow]
    columns: Columns
    notes: Sequence[str] = ()
    competing: Sequence[Sequence[int]] = ()
    above: int | None = None

    def numbers(self) -> Table:
        """Every column's numbers, with their marks."""
        rows = self._filled([column.cell for column in self.columns])
        for at, column in enumerate(self.columns, len(self.head)):
            if isinstance(column, NumberColumn) and column.ranked:
                rows = emphasised(rows, at, self._marks(column))
        return self._table(self.title, self.columns, rows, self.notes)

    def intervals(self, title: str, notes: Sequence[str]) -> Table:
        """The intervals of the columns that have any."""
        columns = [column for column in self.columns if isinstance(column, NumberColumn) and column.spread]
        return self._table(title, columns, self._filled([column.interval for column in columns]), notes)

    def _filled(self, cells: Sequence[Callable[[int], TableCell]]) -> list[TableRow]:
        """The rows with a cell of each column behind what they have."""
        return [replace(row, cells=(*row.cells, *(cell(at) for cell in cells))) for at, row in enumerate(self.rows)]

    def _table(self, title: str, columns: Columns, rows: Sequence[TableRow], notes: Sequence[str]) -> Table:
        return Table(title, (*self.head, *(column.heading for column in columns)), tuple(rows), tuple(notes))

    def _marks(self, column: NumberColumn) -> list[str]:
        """The emphasis of each of a column's numbers."""
        values = [(-1 if column.lower else 1) * column.value(index) for index in range(len(self.rows))]
        if self.above is not None:
            base = round(values[self.above], 2)
            return ["best" if round(value, 2) > base else "" for value in values]  # nan on either side is above nothing
        found = [""] * len(values)
        for group in self.competing:
            for index, mark in zip(group, rank([values[index] for index in group]), strict=True):
                found[index] = mark
        return found


def competing(results: Results) -> list[list[int]]:
    """The rows of a model's table that compete: all, or the compressed ones."""
    every = results.options.rank == "all"
    return [[index for index, row in enumerate(results.rows) if every or row.method != "none"]]


def interval_title(title: str, results: Results) -> str:
    return f"{title}: {results.options.confidence:.0%} confidence intervals"


def stacked(tables: Sequence[Table]) -> Table:
    """Tables of several models below each other as one: a rule above each model and none within."""
    rows = [replace(row, rule=at == 0) for table in tables for at, row in enumerate(table.rows)]
    return replace(tables[0], rows=tuple(rows))


def where(profile: str) -> str:
    """What a title says of the profile."""
    return "" if profile == "paper" else f" ({profile} profile)"


def fronts(results: Results) -> list[TableRow]:
    """How the model's rows begin: method, setting; a rule above each method."""
    found = []
    for index, row in enumerate(results.rows):
        starts = index == 0 or results.rows[index - 1].method != row.method
        found.append(TableRow.of(row.label, results.setting(index), rule=starts))
    return found


def published_rows(columns: Columns, reference: Reference, front: Sequence[str] = ()) -> list[TableRow]:
    """The paper's own rows, as far as they are known; `front`: what they begin with."""
    return [
        TableRow(
            (
                *map(TableCell, (*front, f"{method_style(method).label}, as published", setting)),
                *(column.published_cell(known) for column in columns),
            ),
            rule=position == 0,
        )
        for position, ((method, setting), known) in enumerate(reference.items())
    ]
