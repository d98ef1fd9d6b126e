"""Markdown, LaTeX, terminal and files."""

import io
import os
import re

import pytest
from rich.console import Console

from plphp_core.records.atomic import write_atomically
from plphp_core.reporting.render import latex_escape
from plphp_core.reporting.table_model import Table, TableCell, TableColumn, TableRow
from plphp_core.reporting.terminal import print_tables


def test_latex_leaves_no_special_character_and_no_unknown_letter():
    hostile = "50% & a_b #1 $x$ {y} ~ ^ \\cmd < > | − × † Δα 模"
    escaped = latex_escape(hostile)
    assert escaped.isascii()
    assert "U+6A21" in escaped
    commands = re.sub(
        r"\\(textbackslash|textasciitilde|textasciicircum|dag)\{\}|\$\\?[A-Za-z<>|-]+\$|\\[%&_#${}]", "", escaped
    )
    assert not set(commands) & set("%&_#${}~^\\<>|")


def printed(sheet, **console):
    buffer = io.StringIO()
    print_tables([sheet], Console(file=buffer, highlight=False, **console))
    return buffer.getvalue()


def test_a_log_gets_the_whole_width_and_marks_in_letters():
    wide = Table(
        "t",
        (TableColumn("m", text=True), *[TableColumn(str(i)) for i in range(60)]),
        (TableRow((TableCell("x"), TableCell("1.00", "+2%", emphasis="best"), *[TableCell("123.45")] * 59)),),
    )
    lines = printed(wide, force_terminal=False).splitlines()
    assert any(line.count("123.45") == 59 and "1.00¹" in line for line in lines)


@pytest.mark.parametrize("width", [30, 44, 80])
def test_a_narrow_terminal_gets_every_number_in_blocks(width):
    columns = (TableColumn("method", text=True), *[TableColumn(f"c{i}") for i in range(12)])
    numbers = [f"{i}23.45" for i in range(12)]
    out = printed(
        Table("t", columns, (TableRow((TableCell("some-row"), *map(TableCell, numbers))),)),
        force_terminal=True,
        width=width,
    )
    assert all(text in out for text in numbers)
    assert "…" not in out


def test_files_are_replaced_whole_or_left_alone(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "table1.md"
    write_atomically(path, "old Δ")
    assert path.read_text(encoding="utf-8") == "old Δ"

    def full_disk(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, "new")
    assert path.read_text(encoding="utf-8") == "old Δ"
    assert [entry.name for entry in path.parent.iterdir()] == ["table1.md"]


@pytest.mark.parametrize("width", [80, 100])
def test_a_table_with_sentences_fits_the_terminal_and_loses_no_word(width):
    head = [TableColumn(name, text=True) for name in ("Claim", "What the paper says")]
    columns = [*head, *map(TableColumn, "abcdef")]
    said = "a sentence that is much longer than a terminal of eighty columns can show in a line of its own, wrapped"
    row = TableRow.of("C1", said, *(f"{number}.{number}{number}%" for number in range(6)))
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None, highlight=False)
    print_tables([Table("A title", tuple(columns), (row,))], console)
    text = console.file.getvalue()
    assert max(map(len, text.splitlines())) <= width
    assert all(word in text for word in said.split()) and all(cell.text in text for cell in row.cells[2:])
    assert text.count("What the paper") == 1  # one block: what wraps leaves room for the numbers
