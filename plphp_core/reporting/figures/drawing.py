"""What all figures share: the width of a paper's column, panels, legends, intervals, and files that change only with
their data. Colours and markers of methods are in `reporting.method_style`.
"""

from __future__ import annotations

import io
import math
import unicodedata
import warnings
from collections.abc import Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text

from plphp_core.analysis.bootstrap import Estimate
from plphp_core.analysis.comparable import RowSpec
from plphp_core.analysis.method_style import method_style
from plphp_core.records.visible import visible

COLUMN = 3.35  # inches, of a two-column paper
DASHES = ("-", "--", ":", "-.")  # rows of one method
STYLE = {
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.titlesize": 8,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.5,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "figure.labelsize": 8,
    "figure.titlesize": 8,
    "legend.fontsize": 7,
    "legend.title_fontsize": 8,
    "legend.frameon": False,
    "legend.handlelength": 1.8,
    "legend.columnspacing": 1.2,
    "legend.labelspacing": 0.35,
    "lines.linewidth": 1.1,
    "lines.markersize": 3,
    "pdf.fonttype": 42,  # text stays text
    "text.parse_math": False,  # a dollar sign in an answer is no formula
}


def style():
    """A context in which figures are made and saved."""
    return matplotlib.rc_context(STYLE)


def blank(height: float, width: float = COLUMN) -> Figure:
    """An empty figure in inches, laid out so that nothing overlaps."""
    return Figure(figsize=(width, height), layout="constrained")


def panels(count: int, height: float, extra: float = 0.0) -> tuple[Figure, list[Axes], Axes | None]:
    """A figure of two columns of panels, `height` inches each, and the place left over for a legend, if there is one.

    Without such a place the legend goes above the panels, into `extra` inches.
    """
    lines = -(-count // 2)
    figure = blank(lines * height + extra * (count % 2 == 0))
    axes = list(figure.subplots(lines, 2, squeeze=False).flat)
    for one in axes:
        one.use_sticky_edges = False  # a band must not end at the frame
        one.margins(x=0.07, y=0.08)
    if count % 2 == 0:
        return figure, axes, None
    axes[count].axis("off")
    return figure, axes[:count], axes[count]


def legend(figure: Figure, panels: Sequence[Axes], place: Axes | None, title: str) -> None:
    """One legend for all panels, headed by the figure's title, at `place`, otherwise above the panels."""
    pairs = [pair for axes in panels for pair in zip(*axes.get_legend_handles_labels(), strict=True)]
    entries = {label: handle for handle, label in pairs}
    if place is None:
        figure.legend(entries.values(), entries.keys(), title=title, loc="outside upper center", ncols=2)
    else:
        narrow = title.replace(" (", "\n(")
        drawn = place.legend(entries.values(), entries.keys(), title=narrow, loc="center")
        drawn.set_in_layout(False)  # the panels' widths are theirs


def bars(axes: Axes, x: Estimate, y: Estimate, colour: str) -> None:
    """The intervals of a point, as thin bars on both axes where they exist."""
    thin = {"color": colour, "linewidth": 0.7, "zorder": 2}
    if not math.isnan(y.low):
        axes.vlines(x.value, y.low, y.high, **thin)
    if not math.isnan(x.low):
        axes.hlines(y.value, x.low, x.high, **thin)


def reference(axes: Axes, level: Estimate, band: bool = True) -> None:
    """Uncompressed as a horizontal line, with the band of its interval."""
    look = method_style("none")
    axes.axhline(level.value, color=look.colour, linewidth=0.9, label=look.label, zorder=1.8)  # above the grid
    if band and not math.isnan(level.low):
        axes.axhspan(level.low, level.high, color=look.colour, alpha=0.1, linewidth=0, zorder=0)


def nothing(axes: Axes) -> None:
    """Say that a panel has nothing to show, rather than leave it blank with a scale that means nothing."""
    axes.set(xticks=[], yticks=[])
    axes.text(0.5, 0.5, "n/a", transform=axes.transAxes, ha="center", va="center", color="#555555")


def tints(colour: str, number: int) -> list[str]:
    """`number` tints of a colour, the last one pure."""
    steps = [1 - 0.55 * (number - 1 - at) / max(number - 1, 1) for at in range(number)]
    return [to_hex([1 - step * (1 - part) for part in to_rgb(colour)]) for step in steps]


def row_lines(rows: Sequence[RowSpec]) -> list[dict]:
    """How each row is drawn: its method's colour and marker, rows of one method told apart by their dashes."""
    names = [row.method for row in rows]
    dashes = [DASHES[names[:at].count(name) % len(DASHES)] for at, name in enumerate(names)]
    looks = map(method_style, names)
    return [
        {"color": look.colour, "marker": look.marker, "linestyle": dash}
        for look, dash in zip(looks, dashes, strict=True)
    ]


def drawable(text: str) -> str:
    """Text as a font can set it: control characters by their number, white space as a space, nothing invisible."""
    kept = (character for character in visible(text) if unicodedata.category(character) != "Cf")
    return "".join(" " if one.isspace() and one != "\n" else one for one in kept)


def files(figure: Figure) -> dict[str, bytes]:
    """The figure as "pdf" and "png" (300 dots per inch), without the date. A character that the font lacks is a box."""
    for text in figure.findobj(Text):
        text.set_text(drawable(text.get_text()))
    found = {}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph .* missing from")
        for kind, metadata in (("pdf", {"CreationDate": None}), ("png", None)):
            buffer = io.BytesIO()
            figure.savefig(buffer, format=kind, dpi=300, metadata=metadata)
            found[kind] = buffer.getvalue()
    return found
