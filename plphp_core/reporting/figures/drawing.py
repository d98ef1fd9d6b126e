"""What all figures share: the width of a paper's column, panels with one legend, intervals, and files that change only
with their data. Colours and markers of methods are in `analysis.method_style`.
"""

from __future__ import annotations

import io
import unicodedata
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text

from plphp_core.records.record import visible
from plphp_core.vision.token_geometry import veiled

COLUMN = 3.35  # inches, of a two-column paper
STYLE: dict[str, Any] = {
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


def style() -> AbstractContextManager[None]:
    """A context in which figures are made and saved."""
    return matplotlib.rc_context(STYLE)


def blank(height: float, width: float = COLUMN) -> Figure:
    """An empty figure in inches, laid out so that nothing overlaps."""
    return Figure(figsize=(width, height), layout="constrained")


def panels(
    names: Sequence[str], draw: Callable[[Axes, str], None], labels: tuple[str, str], title: str, height: float
) -> Figure:
    """A figure of two columns of panels with one legend, headed by `title`, in the place left over or above them.

    Args:
        names: of the panels; `draw` draws each. A panel left empty says n/a.
        labels: of the axes, x and y; height: of a panel, in inches.
    """
    lines, above = -(-len(names) // 2), len(names) % 2 == 0
    figure = blank(lines * height + 0.5 * above)
    places = list(figure.subplots(lines, 2, squeeze=False).flat)
    handles: dict[str, Artist] = {}
    for axes, name in zip(places, names, strict=False):
        axes.use_sticky_edges = False  # a band must not end at the frame
        axes.margins(x=0.07, y=0.08)
        draw(axes, name)
        handles |= {label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
        if not axes.has_data():
            axes.set(xticks=[], yticks=[])
            axes.text(0.5, 0.5, "n/a", transform=axes.transAxes, ha="center", va="center", color="#555555")
    figure.supxlabel(labels[0])
    figure.supylabel(labels[1])
    if above:
        figure.legend(handles.values(), handles.keys(), title=title, loc="outside upper center", ncols=2)
    else:
        places[-1].axis("off")
        legend = places[-1].legend(handles.values(), handles.keys(), title=title.replace(" (", "\n("), loc="center")
        legend.set_in_layout(False)  # the panels' widths are theirs
    return figure


def kept_bar(axes: Axes, more: str = "") -> None:
    """What 1, ½ and 0 of the tokens kept, and no token, look like: on a dark and a bright photo."""
    share = np.repeat([1.0, 0.5, 0.0, np.nan], 128)[None].repeat(24, axis=0)
    photo = np.repeat([[40, 44, 52], [224, 208, 180]], 12, axis=0)[:, None].repeat(512, axis=1)
    axes.imshow(veiled(photo, share), aspect="auto", extent=(0, 4, 0, 1), interpolation="nearest")
    axes.grid(False)
    axes.set(yticks=[], xticks=[0.5, 1.5, 2.5, 3.5], xticklabels=["kept", "half dropped", "dropped", "no token"])
    axes.set_title(f"tokens of a place, on a dark photo and a bright one{more}", fontsize=6.5, pad=2)


def shades(colour: str, number: int) -> list[str]:
    """`number` shades of a colour, from the darkest to the colour itself: a tint would be pale on white."""
    steps = [1 - 0.6 * (number - 1 - at) / max(number - 1, 1) for at in range(number)]
    return [to_hex([step * part for part in to_rgb(colour)]) for step in steps]


def drawable(text: str) -> str:
    """Text as a font can set it: control characters by their number, white space as a space, nothing invisible."""
    kept = (character for character in visible(text) if unicodedata.category(character) != "Cf")
    return "".join(" " if one.isspace() and one != "\n" else one for one in kept)


def files(figure: Figure) -> dict[str, bytes]:
    """The figure as "pdf" and "png" (300 dots per inch), without the date. A character that the font lacks is a box."""
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        text.set_text(drawable(text.get_text()))
    found = {}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph .* missing from")
        for kind, metadata in (("pdf", {"CreationDate": None}), ("png", None)):
            buffer = io.BytesIO()
            figure.savefig(buffer, format=kind, dpi=300, metadata=metadata)
            found[kind] = buffer.getvalue()
    return found
