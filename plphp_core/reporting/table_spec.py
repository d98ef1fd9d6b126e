"""Tables as data: a column says what it estimates and how it is printed; a spec makes the tables of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from plphp_core.analysis.bootstrap import Estimate
from plphp_core.analysis.method_style import method_style
from plphp_core.analysis.results import Results
from plphp_core.reporting.table_model import NA, Table, TableCell, TableColumn, TableRow, emphasised, number, rank

Reference = Mapping[tuple[str, str], Mapping[tuple[str, str], float]]  # published.load_reference
ABOVE = "¹ above the same model uncompressed (bold in the files)"
HEAD = (TableColumn("Method", text=True), TableColumn("Setting", text=True))


def signed_percent(value: float) -> str:
    """A change in percent."""
    text = number(value, signed=True)
    return text if text == NA else f"{text}%"


def share(value: float) -> str:
    """A part of a whole in percent."""
    text = number(value, 1)
    return text if text == NA else f"{text}%"


def nothing(index: int) -> str:
    """What stands beside a number of which there is nothing more to say."""
    return ""


@dataclass(frozen=True)
class NumberColumn:
    """A column of numbers; its functions are asked with the index of a row.

    Attributes:
        estimate: the number and its interval.
        text: prints a number, after it was multiplied by `scale`; `ends` prints those of an interval.
        ranked: whether its best are marked, which are the lowest where `lower` is set.
        spread: whether the table of intervals has the column; `inline`: the interval stands behind the number.
        gain: what stands in parentheses behind the number; `mark`: superscript.
        instead: a word in place of the number; `no_interval`: a word in place of the interval.
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
    instead: Callable[[int], str] = nothing
    no_interval: Callable[[int], str] = nothing
    published: tuple[tuple[str, str], ...] = ()

    def value(self, index: int) -> float:
        """The number as it is printed and ranked."""
        return self.scale * self.estimate(index).value

    def cell(self, index: int) -> TableCell:
        """The number of a row."""
        if word := self.instead(index):
            return TableCell(word)
        value = self.value(index)
        inline = self.inline and not math.isnan(value)
        return TableCell(self.text(value), self.bounds(index) if inline else self.gain(index), self.mark(index))

    def interval(self, index: int) -> TableCell:
        """The interval of a row."""
        return TableCell(self.instead(index) or self.no_interval(index) or self.bounds(index))

    def bounds(self, index: int) -> str:
        """The interval as "[low, high]"; n/a unless both ends are known."""
        found, text = self.estimate(index), self.ends or self.text
        if math.isnan(found.low) or math.isnan(found.high):
            return NA
        return f"[{text(self.scale * found.low)}, {text(self.scale * found.high)}]"

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


@dataclass(frozen=True)
class TableSpec:
    """A table of one model's rows: what it measured, then its intervals.

    Attributes:
        title: of the report; `what`: of the first table, behind it.
        rows: the first cells of each row, `fronts` or others; `head`: their headings.
        notes, interval_notes: printed below the tables.
        reference: published rows, which begin with `front`; None for a table that has none.
        emphasis: what is bold: "best", numbers above the "uncompressed" row's as printed, or "none".
    """

    title: str
    what: str
    results: Results
    columns: Sequence[NumberColumn | WordColumn]
    notes: Sequence[str] = ()
    interval_notes: Sequence[str] = ()
    rows: Sequence[TableRow] | None = None
    head: tuple[TableColumn, ...] = HEAD
    reference: Reference | None = None
    front: tuple[str, ...] = ()
    emphasis: str = "best"

    def numbers(self) -> Table:
        """Every column's numbers, the best ones marked, and the published ones."""
        rows = filled(self._rows(), [column.cell for column in self.columns])
        for at, column in enumerate(self.columns):
            if isinstance(column, NumberColumn) and column.ranked:
                sign = -1 if column.lower else 1
                marks = self._marks([sign * column.value(index) for index in range(len(rows))])
                rows = emphasised(rows, at + len(self.head), marks)
        if self.reference is not None:
            rows += published_rows(self.columns, self.reference, self.front)
        headings = (*self.head, *(column.heading for column in self.columns))
        table = Table(f"{self.title}: {self.what}", headings, tuple(rows), tuple(self.notes))
        return replace(table, marks=ABOVE) if self.emphasis == "uncompressed" else table

    def intervals(self) -> Table:
        """The intervals of the columns that have any."""
        columns = [column for column in self.columns if isinstance(column, NumberColumn) and column.spread]
        return Table(
            f"{self.title}: {self.results.options.confidence:.0%} confidence intervals",
            (*self.head, *(column.heading for column in columns)),
            tuple(filled(self._rows(), [column.interval for column in columns])),
            tuple(self.interval_notes),
        )

    def _rows(self) -> Sequence[TableRow]:
        return fronts(self.results) if self.rows is None else self.rows

    def _marks(self, values: Sequence[float]) -> list[str]:
        """The emphasis of each of a column's numbers."""
        results = self.results
        if self.emphasis == "best":
            return rank(values, [results.options.rank == "all" or row.method != "none" for row in results.rows])
        if self.emphasis == "none" or results.reference is None:
            return [""] * len(values)
        base = round(values[results.reference], 2)
        return ["best" if round(value, 2) > base else "" for value in values]  # nan on either side is above nothing


def stacked(tables: Sequence[Table]) -> Table:
    """Tables of several models below each other as one: a rule above each model and none within."""
    rows = [replace(row, rule=at == 0) for table in tables for at, row in enumerate(table.rows)]
    return replace(tables[0], rows=tuple(rows))


def where(profile: str) -> str:
    """What a title says of the profile."""
    return "" if profile == "paper" else f" ({profile} profile)"


def fronts(results: Results, front: Sequence[str] = ()) -> list[TableRow]:
    """How the model's rows begin: `front`, method, setting; a rule above each method."""
    found = []
    for index, row in enumerate(results.rows):
        starts = index == 0 or results.rows[index - 1].method != row.method
        found.append(TableRow.of(*front, row.label, results.setting(index), rule=starts))
    return found


def filled(rows: Sequence[TableRow], cells: Sequence[Callable[[int], TableCell]]) -> list[TableRow]:
    """The rows with a cell of each column behind what they have."""
    return [replace(row, cells=(*row.cells, *(cell(at) for cell in cells))) for at, row in enumerate(rows)]


def published_rows(
    columns: Sequence[NumberColumn | WordColumn], reference: Reference, front: Sequence[str] = ()
) -> list[TableRow]:
    """The paper's own rows, as far as they are known."""
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
