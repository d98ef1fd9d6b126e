"""The figure of a comparison at equal cost: change of the scores over what the methods spend, a line per method."""

from __future__ import annotations

import math
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from plphp_core.analysis.bootstrap import Estimate, scaled
from plphp_core.analysis.method_style import GROUPS, group_of, method_style
from plphp_core.config.equal_cost import Contender
from plphp_core.records.cell_result import ENTERED
from plphp_core.reporting.cost_comparison import CostComparison, cost_of
from plphp_core.reporting.figures import drawing
from plphp_core.reporting.table_spec import where

AVERAGE = "average"
ACROSS = 3  # panels of a line
DOTTED = ":"  # the second setting of a method
FEW = 8  # methods up to which a legend has them as they come
# what is measured of it, its heading, and what it is multiplied by
AXES = {
    "kv_bytes": ("kv_share", "KV bytes held (% of the prompt's)", 100.0),
    "tokens": (ENTERED, "vision tokens that come into attention, mean over layers", 1.0),
}


def pictures(shown: CostComparison) -> dict[str, bytes]:
    """File type → the figure."""
    with drawing.style():
        return drawing.files(draw(shown))


def draw(shown: CostComparison) -> Figure:
    """A panel for the average and one per benchmark; a method's budgets make its line."""
    names = [AVERAGE, *shown.results.finished()]
    wide, lines = min(len(names), ACROSS), -(-len(names) // ACROSS)
    figure = drawing.blank(1.9 * lines + 0.6 + 0.14 * len(shown.equal.contenders) / 2, 2 * drawing.COLUMN)
    places = list(figure.subplots(lines, wide, squeeze=False).flat)
    handles: dict[str, Artist] = {}
    for axes, name in zip(places, names, strict=False):
        _panel(axes, shown, name)
        handles |= {label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    for axes in places[len(names) :]:
        axes.axis("off")
    figure.supxlabel(AXES[shown.kind.name][1])
    figure.supylabel("change of the scores (%)")
    legend(figure, shown, handles)
    return figure


def legend(figure: Figure, shown: CostComparison, handles: dict[str, Artist]) -> None:
    """Above the panels; of many methods in columns, by what they do: `handles` are by label."""
    look: dict[str, Any] = {"title": f"{shown.results.title}{where(shown.profile)}", "loc": "outside upper center"}
    if len(handles) <= FEW:
        figure.legend(handles.values(), handles.keys(), ncols=4, **look)
        return
    groups = {_label(one): group_of(one.name) for one in shown.equal.contenders}
    columns = {group: [name for name in handles if groups.get(name, GROUPS[0]) == group] for group in GROUPS}
    columns = {group: names for group, names in columns.items() if names}
    longest, nothing = max(map(len, columns.values())), Line2D([], [], linestyle="none")
    entries = [
        (handles.get(name, nothing), name)
        for group, names in columns.items()
        for name in (group, *names, *[""] * (longest - len(names)))
    ]
    made = figure.legend(*zip(*entries, strict=True), ncols=len(columns), **look)
    for text in made.get_texts():
        text.set_fontweight("bold" if text.get_text() in columns else "normal")


def _label(one: Contender) -> str:
    return f"{method_style(one.name).label} {one.setting}".strip()


def _panel(axes: Axes, shown: CostComparison, name: str) -> None:
    """A line per method, on a benchmark or on average; bars are the intervals of the paired changes."""
    axes.set_title(name if name == AVERAGE else f"{name} ({', '.join(shown.results.headings(name).values())})")
    axes.axhline(0, color=method_style("none").colour, linewidth=0.9, label=method_style("none").label, zorder=1.8)
    seen: list[str] = []
    for one in shown.equal.contenders:
        look = method_style(one.name)
        line = DOTTED if one.name in seen else look.line
        seen.append(one.name)
        own = [at for at, (_, other) in enumerate(shown.places, start=1) if other is one]
        points = [(held, scaled(change, 100)) for held, change in (_point(shown, at, name) for at in own)]
        points = [(held, change) for held, change in points if not math.isnan(held + change.value)]
        for held, change in points:
            if not math.isnan(change.low):
                axes.vlines(held, change.low, change.high, color=look.colour, linewidth=0.6, alpha=0.5, zorder=2)
        if points:
            style: dict[str, Any] = {"color": look.colour, "marker": look.marker, "linestyle": line}
            axes.plot(*zip(*((held, change.value) for held, change in points), strict=True), label=_label(one), **style)


def _point(shown: CostComparison, index: int, name: str) -> tuple[float, Estimate]:
    """What a row spends, and the change of its scores, on a benchmark or on average."""
    quantity, _, scale = AXES[shown.kind.name]
    if name == AVERAGE:
        return scale * shown.cost(index, quantity), shown.change(index)
    cell = shown.results.cells.get((index, name))
    held = math.nan if cell is None else scale * cost_of(cell, quantity)
    return held, shown.results.average_change(index, [name])
