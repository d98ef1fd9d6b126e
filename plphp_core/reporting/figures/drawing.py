"""How figures look: the size of a paper's column, one colour per method, files that change only with their data."""

from __future__ import annotations

import functools
import io
import math
import unicodedata
from collections.abc import Collection, Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.text import Text

from plphp_core.analysis.bootstrap import Estimate
from plphp_core.analysis.comparable import RowSpec

COLUMN = 3.35  # inches, of a two-column paper
BAND = {"color": "#000000", "alpha": 0.10, "linewidth": 0}  # the interval of a reference line
# Okabe and Ito's colours, told apart by everybody; a method keeps its colour in every figure
COLOURS = {"none": "#000000", "fastv": "#E69F00", "vtw": "#009E73", "plphp": "#0072B2"}
OTHERS = ("#CC79A7", "#D55E00", "#56B4E9")  # further methods, by name
DASHES = ("-", "--", ":", "-.")  # rows of one method
MARKERS = {"none": "", "fastv": "s", "vtw": "^", "plphp": "o"}
OTHER_MARKERS = ("D", "v", "P")
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
    "text.parse_math": False,  # a dollar sign in an answer is no formula
}
NO_GLYPH = "\ufffd"  # what stands for a character that cannot be drawn


def colour(method: str, methods: Sequence[str] = ()) -> str:
    """A method's colour; `methods` are all of the figure's, among which further ones are told apart."""
    further = sorted(set(methods) - set(COLOURS) | {method} - set(COLOURS))
    return COLOURS.get(method) or OTHERS[further.index(method) % len(OTHERS)]


def marker(method: str, methods: Sequence[str] = ()) -> str:
    """A method's marker, which tells it apart without colours."""
    further = sorted(set(methods) - set(MARKERS) | {method} - set(MARKERS))
    return MARKERS[method] if method in MARKERS else OTHER_MARKERS[further.index(method) % len(OTHER_MARKERS)]


def shades(method: str, number: int) -> list[str]:
    """`number` tints of a method's colour, the last one pure."""
    pure = to_rgb(colour(method))
    steps = [1 - 0.55 * (number - 1 - at) / max(number - 1, 1) for at in range(number)]
    return [to_hex([1 - step * (1 - part) for part in pure]) for step in steps]


def bars(axes: Axes, x: Estimate, y: Estimate, look: str) -> None:
    """The intervals of a point, as thin bars on both axes where they exist."""
    thin = {"color": look, "linewidth": 0.7, "zorder": 2}
    if not math.isnan(y.low):
        axes.vlines(x.value, y.low, y.high, **thin)
    if not math.isnan(x.low):
        axes.hlines(y.value, x.low, x.high, **thin)


def reference(axes: Axes, level: Estimate, label: str) -> None:
    """A horizontal line with the band of its interval."""
    axes.axhline(level.value, color=COLOURS["none"], linewidth=0.9, label=label, zorder=1.8)  # above the grid
    if not math.isnan(level.low):
        axes.axhspan(level.low, level.high, **BAND, zorder=0)


def nothing(axes: Axes) -> None:
    """Say that a panel has nothing to show, rather than leave it blank with a scale that means nothing."""
    axes.set(xticks=[], yticks=[])
    axes.text(0.5, 0.5, "n/a", transform=axes.transAxes, ha="center", va="center", color="#555555")


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
    look = {"title_fontsize": 8, "handlelength": 1.8, "columnspacing": 1.2}
    if place is None:
        figure.legend(entries.values(), entries.keys(), title=title, loc="outside upper center", ncols=2, **look)
    else:
        narrow = title.replace(" (", "\n(")
        drawn = place.legend(entries.values(), entries.keys(), title=narrow, loc="center", **look)
        drawn.set_in_layout(False)  # the panels' widths are theirs


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


def drawable(text: str, glyphs: Collection[int]) -> str:
    """`text` with nothing in it that a font cannot draw: models answer with any character there is.

    A character without a glyph, a control character and half of a surrogate pair become NO_GLYPH, one for one;
    white space of any kind becomes a space; format characters, which are invisible by nature, go.

    Args:
        glyphs: code points that the font has.
    """
    found = []
    for character in text:
        kind = unicodedata.category(character)
        if character == "\n":
            found.append(character)
        elif character.isspace():
            found.append(" ")
        elif kind != "Cf":
            known = kind not in ("Cc", "Cs") and ord(character) in glyphs
            found.append(character if known else NO_GLYPH if ord(NO_GLYPH) in glyphs else "?")
    return "".join(found)


@functools.lru_cache(maxsize=8)
def _glyphs(font: FontProperties) -> frozenset[int]:
    """The code points of a font, those of the families it falls back on included."""
    found: set[int] = set()
    for family in font.get_family():
        one = font.copy()
        one.set_family(family)
        found.update(get_font(findfont(one)).get_charmap())
    return frozenset(found)


def cannot_draw(text: str) -> bool:
    """Whether a figure shows NO_GLYPH somewhere instead."""
    return drawable(text, _glyphs(FontProperties())).count(NO_GLYPH) > text.count(NO_GLYPH)


def files(figure: Figure) -> dict[str, bytes]:
    """The figure as "pdf" and "png" (300 dots per inch), without the date, every text made `drawable`."""
    for text in figure.findobj(Text):
        text.set_text(drawable(text.get_text(), _glyphs(text.get_fontproperties())))
    found = {}
    for kind, metadata in (("pdf", {"CreationDate": None}), ("png", None)):
        buffer = io.BytesIO()
        figure.savefig(buffer, format=kind, dpi=300, metadata=metadata)
        found[kind] = buffer.getvalue()
    return found
