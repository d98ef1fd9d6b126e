"""How figures look: the size of a paper's column, one colour per method, files that change only with their data."""

from __future__ import annotations

import io
from collections.abc import Sequence

import matplotlib
from matplotlib.figure import Figure

from plphp_core.reporting.selection import RowSpec

COLUMN = 3.35  # inches, of a two-column paper
# Okabe and Ito's colours, told apart by everybody; a method keeps its colour in every figure
COLOURS = {"none": "#000000", "fastv": "#E69F00", "vtw": "#009E73", "plphp": "#0072B2"}
OTHERS = ("#CC79A7", "#D55E00", "#56B4E9")  # further methods, by name
DASHES = ("-", "--", ":", "-.")  # rows of one method
STYLE = {
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.5,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "lines.linewidth": 1.1,
    "pdf.fonttype": 42,  # text stays text
}


def colour(method: str, methods: Sequence[str] = ()) -> str:
    """A method's colour; `methods` are all of the figure's, among which further ones are told apart."""
    further = sorted(set(methods) - set(COLOURS) | {method} - set(COLOURS))
    return COLOURS.get(method) or OTHERS[further.index(method) % len(OTHERS)]


def lines(rows: Sequence[RowSpec]) -> list[dict]:
    """Colour and dashes of each row: the method's colour, its rows told apart by their dashes."""
    names = [row.method for row in rows]
    return [
        {"color": colour(name, names), "linestyle": DASHES[names[:at].count(name) % len(DASHES)]}
        for at, name in enumerate(names)
    ]


def blank(height: float) -> Figure:
    """An empty figure of column width and `height` inches, laid out so that nothing overlaps."""
    return Figure(figsize=(COLUMN, height), layout="constrained")


def style():
    """A context in which figures are made and saved."""
    return matplotlib.rc_context(STYLE)


def files(figure: Figure) -> dict[str, bytes]:
    """The figure as "pdf" and "png" (300 dots per inch), without the date."""
    found = {}
    for kind, metadata in (("pdf", {"CreationDate": None}), ("png", None)):
        buffer = io.BytesIO()
        figure.savefig(buffer, format=kind, dpi=300, metadata=metadata)
        found[kind] = buffer.getvalue()
    return found
