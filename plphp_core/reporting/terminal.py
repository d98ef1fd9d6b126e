"""Tables in a terminal, or in a log."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import replace

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from plphp_core.records.record import visible
from plphp_core.reporting.table_model import Table, TableCell, TableRow

_NOTE_WIDTH = 120
_LONG = 24  # characters of an entry, beyond which its column may be wrapped


def print_tables(tables: Sequence[Table], console: Console | None = None) -> None:
    """Print to the terminal, in blocks of columns that fit it.

    Into a pipe or log: in one block however wide, with ¹ and ² in place of bold and underlined.
    """
    console = console or Console(highlight=False)
    plain = not console.is_terminal
    for table in tables:
        if plain:
            console.width = max(_NOTE_WIDTH, _natural_width(table, plain))
        for block in [table] if plain else _blocks(table, console.width):
            console.print(_rich_table(block, plain))
        if plain and any(cell.emphasis for row in table.rows for cell in row.cells):
            console.print(f"  {table.marks}")
        for note in table.notes:
            lines = textwrap.wrap(visible(note), max(20, min(_NOTE_WIDTH, console.width) - 4), break_long_words=False)
            marked = [("    " if at else "  - ") + line for at, line in enumerate(lines)]
            console.print(Text("\n".join(marked), style="dim"))
        console.print()


def _natural_width(table: Table, plain: bool) -> int:
    return Console(width=10_000).measure(_rich_table(table, plain)).maximum


def _smallest_width(table: Table) -> int:
    """With the columns of long texts wrapped as far as they can be."""
    return Console(width=10_000).measure(_rich_table(table, plain=False)).minimum


def _blocks(table: Table, width: int) -> list[Table]:
    """The table cut into tables no wider than `width` where possible, each with all text columns in front."""
    head = [at for at, column in enumerate(table.columns) if column.text]
    blocks: list[list[int]] = []
    for at in (at for at, column in enumerate(table.columns) if not column.text):
        if blocks and _smallest_width(_pick(table, [*blocks[-1], at])) <= width:
            blocks[-1].append(at)
        else:
            blocks.append([*head, at])
    found = [_pick(table, block) for block in blocks] or [table]
    return [found[0], *(replace(block, title="") for block in found[1:])]


def _pick(table: Table, columns: Sequence[int]) -> Table:
    rows = tuple(TableRow(tuple(row.cells[at] for at in columns), row.rule) for row in table.rows)
    return Table(table.title, tuple(table.columns[at] for at in columns), rows)


def _rich_table(table: Table, plain: bool) -> RichTable:
    title = Text(visible(table.title)) if table.title else None
    printed = RichTable(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    for at, column in enumerate(table.columns):
        label = f"{column.group}\n{column.label}".strip()
        longest = max((len(row.cells[at].text) for row in table.rows), default=0)
        wraps = column.text and longest > _LONG and not plain
        side = "left" if column.text else "right"
        printed.add_column(
            Text(label), justify=side, no_wrap=not wraps, min_width=12 if wraps else None, overflow="fold"
        )
    for index, row in enumerate(table.rows):
        if row.rule and index:
            printed.add_section()
        printed.add_row(*[_rich_cell(cell, plain) for cell in row.cells])
    return printed


def _rich_cell(cell: TableCell, plain: bool) -> Text:
    text = Text()  # the emphasis is the number's alone, a style of the whole text would underline its padding too
    text.append(visible(cell.text), style={"best": "bold", "second": "underline"}.get(cell.emphasis, ""))
    if plain:
        text.append({"best": "¹", "second": "²"}.get(cell.emphasis, ""))
    text.append(f" {cell.mark}" if cell.mark else "", style="yellow")
    text.append(f"\n({visible(cell.detail)})" if cell.detail else "", style="dim")
    return text
