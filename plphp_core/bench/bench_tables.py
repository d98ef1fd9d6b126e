"""Rows of a benchmark as a table of reporting, as a page and as csv."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from plphp_core.reporting.render import markdown
from plphp_core.reporting.table_model import NA, Table, TableCell, TableColumn, TableRow, number


@dataclass(frozen=True)
class BenchColumn:
    """A value of a row: its key, its heading on the page ("": only in csv), and how it is written there."""

    name: str
    label: str = ""
    write: Callable[[Any], str] = str


@dataclass(frozen=True)
class BenchResult:
    """What a benchmark found.

    Attributes:
        device: what it was measured on.
        notes: paragraphs of the page, before its tables.
    """

    title: str
    device: str
    rows: list[dict]
    columns: Sequence[BenchColumn]
    notes: Sequence[str]
    tables: Sequence[Table]

    def page(self, command: str, seconds: float) -> str:
        """Markdown."""
        head = [f"# {self.title}", f"Command: `{command}`, {seconds:.0f} s.", *self.notes]
        return "\n\n".join([*head, markdown(self.tables)])

    def csv(self) -> str:
        """All columns, n/a where there is no value."""
        import pandas as pd

        names = list(dict.fromkeys(column.name for column in self.columns))
        return pd.DataFrame(self.rows, columns=names, dtype=object).to_csv(index=False, na_rep=NA)


def file_slug(name: str) -> str:
    """A device's name as part of a file's name."""
    return "-".join("".join(letter if letter.isalnum() else " " for letter in name.lower()).split())


def bench_table(title: str, columns: Iterable[BenchColumn], rows: Sequence[dict], notes: Sequence[str] = ()) -> Table:
    """Rows as a table; a value that is missing or None is n/a."""
    shown = [column for column in columns if column.label]

    def cell(row: dict, column: BenchColumn) -> TableCell:
        value = row.get(column.name)
        return TableCell() if value is None else TableCell(column.write(value))

    heads = tuple(TableColumn(column.label, text=column.write is str) for column in shown)
    lines = tuple(TableRow(tuple(cell(row, column) for column in shown)) for row in rows)
    return Table(title, heads, lines, tuple(notes))


def decimals(digits: int) -> Callable[[float], str]:
    return partial(number, decimals=digits)


def times(value: float) -> str:
    return f"{number(value)}×"


def share(value: float, decimals: int = 1) -> str:
    return f"{number(100 * value, decimals)} %"


def megabytes(value: float) -> str:
    return number(value / 1e6, 1)
