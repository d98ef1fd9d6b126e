"""Tables as Markdown and LaTeX (booktabs), and files written whole or not at all. Needs no other package."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from plphp_core.records.record import visible
from plphp_core.reporting.table_model import Table, TableCell

_MARKDOWN = str.maketrans({"&": "&amp;"} | {c: "\\" + c for c in "\\`*_{}[<>|#~$"})
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
    title = [f"## {markdown_escape(table.title)}", ""] if table.title else []
    lines = [*title, _pipes(head)]
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
