"""A table before it is written in any format: text with emphasis, marks and notes. No statistics, no mark-up."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

NA = "n/a"


@dataclass(frozen=True)
class TableCell:
    """One table cell: `text`, superscript `mark`, `detail` in parentheses; `emphasis` is "", "best" (bold) or
    "second" (underlined)."""

    text: str = NA
    detail: str = ""
    mark: str = ""
    emphasis: str = ""


@dataclass(frozen=True)
class TableColumn:
    """A column; neighbours with the same `group` share a heading. `text` columns are left-aligned."""

    label: str
    group: str = ""
    text: bool = False


@dataclass(frozen=True)
class TableRow:
    """One line of cells; `rule` draws a line above it."""

    cells: tuple[TableCell, ...]
    rule: bool = False

    @classmethod
    def of(cls, *texts: str, rule: bool = False) -> TableRow:
        """A row of plain texts."""
        return cls(tuple(map(TableCell, texts)), rule)


@dataclass(frozen=True)
class Table:
    """A titled table; `notes` are full sentences printed below it.

    `marks` says what "best" (¹) and "second" (²) mean, for logs that have no bold and no underline.
    """

    title: str
    columns: tuple[TableColumn, ...]
    rows: tuple[TableRow, ...]
    notes: tuple[str, ...] = field(default=())
    marks: str = "¹ best, ² second of its column (bold and underlined in the files)"

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row.cells) != len(self.columns):
                raise ValueError(f"{self.title}: a row has {len(row.cells)} cells for {len(self.columns)} columns")


def rank(values: Sequence[float], decimals: int = 2) -> list[str]:
    """For each value "best", "second" or "" (higher is better), compared as printed with `decimals`.

    Values that print alike tie and share their mark; second is the next lower printed value. A nan gets no mark, and no
    value gets one where nothing is lower: the best of one, or of equals, says nothing.
    """
    printed = [None if math.isnan(value) else round(value, decimals) for value in values]
    levels = sorted({value for value in printed if value is not None}, reverse=True)
    marks = dict(zip(levels, ("best", "second"), strict=False)) if len(levels) > 1 else {}
    return ["" if value is None else marks.get(value, "") for value in printed]


def emphasised(rows: Sequence[TableRow], column: int, marks: Sequence[str]) -> list[TableRow]:
    """`rows` with the emphasis of each of a column's cells."""
    result = []
    for row, emphasis in zip(rows, marks, strict=True):
        cells = list(row.cells)
        cells[column] = replace(cells[column], emphasis=emphasis)
        result.append(replace(row, cells=tuple(cells)))
    return result


def number(value: float, decimals: int = 2, signed: bool = False) -> str:
    """`value` with fixed decimals, "+" in front of gains if `signed`, never "-0.00"; n/a for nan."""
    if math.isnan(value):
        return NA
    rounded = round(value, decimals) + 0.0  # + 0.0 turns -0.0 into 0.0
    return ("+" if signed and rounded > 0 else "") + f"{rounded:.{decimals}f}".replace("-", "−")


def percent(fraction: float, decimals: int = 2, signed: bool = True) -> str:
    """A fraction as a percentage; n/a for nan."""
    text = number(100 * fraction, decimals, signed)
    return text if text == NA else text + "%"


def bounds(low: float, high: float, text: Callable[[float], str] = number) -> str:
    """An interval as "[low, high]", both ends as `text` prints them; n/a unless both are known."""
    return NA if math.isnan(low) or math.isnan(high) else f"[{text(low)}, {text(high)}]"
