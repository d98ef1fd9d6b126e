"""Sheets as Markdown, LaTeX (booktabs) and terminal tables, and files written whole or not at all."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from plphp_core.records.visible import visible
from plphp_core.reporting.table_model import Table, TableCell, TableRow

_MARKDOWN = str.maketrans({"&": "&amp;"} | {c: "\\" + c for c in "\\`*_{}[<>|#~$"})
_NOTE_WIDTH = 120
_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "%": r"\%", "&": r"\&", "_": r"\_", "#": r"\#", "$": r"\$",
        "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"$<$", ">": r"$>$", "|": r"$|$", "−": r"$-$",
        "–": "--", "×": r"$\times$", "±": r"$\pm$", "Δ": r"$\Delta$", "α": r"$\alpha$", "β": r"$\beta$",
        "γ": r"$\gamma$", "†": r"\dag{}", "‡": r"\ddag{}", "…": r"\dots{}",
        "→": r"$\to$", "·": r"$\cdot$", "≤": r"$\le$", "≥": r"$\ge$", "“": "``", "”": "''",
    }
)  # fmt: skip


def markdown_escape(text: str) -> str:
    """Text that Markdown shows as it is, also inside a table."""
    return visible(" ".join(text.translate(_MARKDOWN).split()))


def latex_escape(text: str) -> str:
    """Text that LaTeX shows as it is. Characters unknown to pdfLaTeX's default encoding become their code point, U+…"""
    escaped = visible(" ".join(text.split())).translate(_LATEX)
    return "".join(c if c.isascii() else f"U+{ord(c):04X}" for c in escaped)


def markdown(tables: Sequence[Table]) -> str:
    """The tables one below the other as GitHub-flavoured Markdown; best in bold, second in <u>…</u>."""
    return "\n\n".join(_markdown_table(table) for table in tables) + "\n"


def _markdown_table(table: Table) -> str:
    head = [markdown_escape(f"{column.group} {column.label}".strip()) for column in table.columns]
    lines = [f"## {markdown_escape(table.title)}", "", _pipes(head)]
    lines.append(_pipes([":---" if column.text else "---:" for column in table.columns]))
    lines += [_pipes([_markdown_cell(cell) for cell in row.cells]) for row in table.rows]
    if table.notes:
        lines += [""] + [f"- {markdown_escape(note)}" for note in table.notes]
    return "\n".join(lines)


def _pipes(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _markdown_cell(cell: TableCell) -> str:
    text = markdown_escape(cell.text)
    text = {"best": f"**{text}**", "second": f"<u>{text}</u>"}.get(cell.emphasis, text)
    mark = f"<sup>{markdown_escape(cell.mark)}</sup>" if cell.mark else ""
    return text + mark + (f" ({markdown_escape(cell.detail)})" if cell.detail else "")


def latex(tables: Sequence[Table]) -> str:
    r"""The tables as table* environments; best in \textbf, second in \underline. Needs booktabs and graphicx."""
    head = "% Needs \\usepackage{booktabs} and \\usepackage{graphicx}.\n"
    return head + "\n".join(_latex_table(table) for table in tables)


def _latex_table(table: Table) -> str:
    align = "".join("l" if column.text else "r" for column in table.columns)
    groups, rules, at = [], [], 1
    for group, members in groupby(table.columns, key=lambda column: column.group):
        width = len(list(members))
        groups.append(rf"\multicolumn{{{width}}}{{c}}{{{latex_escape(group)}}}")
        if group:
            rules.append(rf"\cmidrule(lr){{{at}-{at + width - 1}}}")
        at += width
    lines = [r"\begin{table*}[t]", r"\centering", rf"\caption{{{latex_escape(table.title)}}}"]
    lines += [r"\resizebox{\textwidth}{!}{%", rf"\begin{{tabular}}{{{align}}}", r"\toprule"]
    if rules:
        lines += [" & ".join(groups) + r" \\", " ".join(rules)]
    lines.append(" & ".join(latex_escape(column.label) for column in table.columns) + r" \\")
    lines.append(r"\midrule")
    for index, row in enumerate(table.rows):
        if row.rule and index:
            lines.append(r"\midrule")
        lines.append(" & ".join(_latex_cell(cell) for cell in row.cells) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}}"]
    if table.notes:
        lines += [r"\par\medskip\begin{minipage}{\textwidth}\footnotesize\raggedright"]
        lines += [latex_escape(note) + r"\par" for note in table.notes]
        lines.append(r"\end{minipage}")
    return "\n".join([*lines, r"\end{table*}", ""])


def _latex_cell(cell: TableCell) -> str:
    text = latex_escape(cell.text)
    text = {"best": rf"\textbf{{{text}}}", "second": rf"\underline{{{text}}}"}.get(cell.emphasis, text)
    if text.startswith("["):
        text = "{}" + text  # after \\ a bracket would be read as that command's optional length
    mark = rf"\textsuperscript{{{latex_escape(cell.mark)}}}" if cell.mark else ""
    return text + mark + (f" ({latex_escape(cell.detail)})" if cell.detail else "")


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


def _blocks(table: Table, width: int) -> list[Table]:
    """The table cut into tables no wider than `width` where possible, each with all text columns in front."""
    head = [at for at, column in enumerate(table.columns) if column.text]
    blocks: list[list[int]] = []
    for at in (at for at, column in enumerate(table.columns) if not column.text):
        if blocks and _natural_width(_pick(table, [*blocks[-1], at]), plain=False) <= width:
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
    for column in table.columns:
        label = f"{column.group}\n{column.label}".strip()
        printed.add_column(Text(label), justify="left" if column.text else "right", no_wrap=True)
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
