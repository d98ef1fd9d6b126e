"""The figures of a comparison at equal cost, a line per method through its budgets: scores over what the methods spend,
benchmark by benchmark; and on average over what the prefill computes and what the cache holds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from plphp_core.analysis.bootstrap import Estimate, exactly, scaled
from plphp_core.analysis.method_style import is_control, method_style
from plphp_core.records.cell_result import ENTERED, FLOPS
from plphp_core.reporting.cost_comparison import CostComparison, cost_of
from plphp_core.reporting.figures import drawing
from plphp_core.reporting.table_spec import where

AVERAGE = "average"
ACROSS = 3  # panels of a line
DOTTED = ":"  # the second setting of a method
# what is measured of what is spent, its heading, and what it is multiplied by
HELD = ("kv_share", "KV bytes held (% of the prompt's)", 100.0)
AXES = {"kv_bytes": HELD, "tokens": (ENTERED, "vision tokens that come into attention, mean over layers", 1.0)}
FRONT_AXES = ((FLOPS, "prefill, GFLOPs", 1e-9), HELD)
Points = Mapping[int, tuple[float, Estimate]]  # row → what it spends, change of its scores in percent


def pictures(shown: CostComparison) -> dict[str, bytes]:
    """File type → the figure over what the methods spend."""
    with drawing.style():
        return drawing.files(draw(shown))


def front_picture(shown: CostComparison) -> bytes | None:
    """A PNG of the second figure; None where nothing has all that it shows."""
    if not any(_front_points(shown, quantity, scale) for quantity, _, scale in FRONT_AXES):
        return None
    with drawing.style():
        return drawing.files(draw_front(shown))["png"]


def draw(shown: CostComparison) -> Figure:
    """A panel for the average and one per benchmark; bars are the intervals of the paired changes."""
    names = [AVERAGE, *shown.results.finished()]
    lines, none = -(-len(names) // ACROSS), method_style("none")
    figure = drawing.blank(1.9 * lines + 1.1, 2 * drawing.COLUMN)
    places = list(figure.subplots(lines, min(len(names), ACROSS), squeeze=False).flat)
    for axes, name in zip(places, names, strict=False):
        axes.set_title(name if name == AVERAGE else f"{name} ({', '.join(shown.results.headings(name).values())})")
        axes.axhline(0, color=none.colour, linewidth=0.9, label=none.label, zorder=1.8)
        _lines(axes, shown, {at: _point(shown, at, name) for at in range(1, len(shown.results.rows))})
    for axes in places[len(names) :]:
        axes.axis("off")
    figure.supxlabel(AXES[shown.kind.name][1])
    figure.supylabel("change of the scores (%)")
    return _with_legend(figure, shown)


def draw_front(shown: CostComparison) -> Figure:
    """A panel per cost; controls are dashed, and the front, of methods that no other one outdoes, is grey."""
    figure = drawing.blank(3.4, 2 * drawing.COLUMN)
    for axes, (quantity, heading, scale) in zip(figure.subplots(1, len(FRONT_AXES)), FRONT_AXES, strict=True):
        points = _front_points(shown, quantity, scale)
        if 0 in points:
            none, (cost, change) = method_style("none"), points[0]
            axes.plot(cost, change.value, color=none.colour, marker="*", linestyle="none", label=none.label)
        _lines(axes, shown, points)
        rivals = [at for at in points if at == 0 or not is_control(shown.places[at - 1][1].name)]
        if best := front([(points[at][0], points[at][1].value) for at in rivals]):
            steps = {"color": "#999999", "linewidth": 3.0, "alpha": 0.5, "zorder": 1}
            axes.step(*zip(*best, strict=True), where="post", label="Pareto front, controls apart", **steps)
        axes.set_xlabel(heading)
    figure.supylabel("average change of the scores (%)")
    return _with_legend(figure, shown)


def front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Those of (cost, score) that no other one outdoes: none costs as little or less and scores more; by cost."""
    found: list[tuple[float, float]] = []
    for cost, score in sorted(points, key=lambda point: (point[0], -point[1])):
        if not found or score > found[-1][1]:
            found.append((cost, score))
    return found


def _point(shown: CostComparison, index: int, name: str) -> tuple[float, Estimate]:
    """What a row spends, and the change of its scores in percent, on a benchmark or on average."""
    quantity, _, scale = AXES[shown.kind.name]
    if name == AVERAGE:
        return scale * shown.cost(index, quantity), scaled(shown.change(index), 100)
    cell = shown.results.cells.get((index, name))
    held = math.nan if cell is None else scale * cost_of(cell, quantity)
    return held, scaled(shown.results.average_change(index, [name]), 100)


def _front_points(shown: CostComparison, quantity: str, scale: float) -> Points:
    """Of the rows that have both, without intervals; Uncompressed is row 0. Nothing where there is a single one."""
    found = {}
    for index in range(len(shown.results.rows)):
        cost, change = scale * shown.cost(index, quantity), 0.0 if index == 0 else 100 * shown.change(index).value
        if not math.isnan(cost + change):
            found[index] = cost, exactly(change)
    return found if len(found) > 1 else {}


def _lines(axes: Axes, shown: CostComparison, points: Points) -> None:
    """A line per method through its budgets, with bars where there are intervals."""
    seen: list[str] = []
    for one in shown.equal.contenders:
        look = method_style(one.name)
        line = DOTTED if one.name in seen else look.line
        seen.append(one.name)
        own = [points[at] for at, (_, other) in enumerate(shown.places, start=1) if other is one and at in points]
        own = [(cost, change) for cost, change in own if not math.isnan(cost + change.value)]
        for cost, change in own:
            if not math.isnan(change.low):
                axes.vlines(cost, change.low, change.high, color=look.colour, linewidth=0.6, alpha=0.5, zorder=2)
        if own:
            places = zip(*((cost, change.value) for cost, change in own), strict=True)
            label = f"{look.label} {one.setting}".strip()
            axes.plot(*places, color=look.colour, marker=look.marker, linestyle=line, label=label)


def _with_legend(figure: Figure, shown: CostComparison) -> Figure:
    handles: dict[str, Artist] = {}
    for axes in figure.axes:
        handles |= {label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    title = f"{shown.results.title}{where(shown.profile)}"
    figure.legend(handles.values(), handles.keys(), title=title, loc="outside upper center", ncols=4)
    return figure
