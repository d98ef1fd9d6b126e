"""The second figure of a comparison at equal cost: scores over what the prefill computes and what the cache holds.

Every method at every budget, and which of them no other one outdoes on both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from plphp_core.analysis.method_style import is_control, method_style
from plphp_core.records.cell_result import FLOPS
from plphp_core.reporting.cost_comparison import CostComparison
from plphp_core.reporting.figures import drawing
from plphp_core.reporting.figures.score_over_cost import DOTTED, legend

# what is measured, its heading, and what it is multiplied by
AXES = ((FLOPS, "prefill, GFLOPs", 1e-9), ("kv_share", "KV bytes held (% of the prompt's)", 100.0))


def picture(shown: CostComparison) -> bytes | None:
    """A PNG; None where nothing has all that it shows."""
    if not any(_points(shown, quantity, scale) for quantity, _, scale in AXES):
        return None
    with drawing.style():
        return drawing.files(draw(shown))["png"]


def draw(shown: CostComparison) -> Figure:
    """A panel per cost; a line joins the budgets of a method, controls are dashed, and the front is grey."""
    figure = drawing.blank(2.9 + 0.14 * len(shown.equal.contenders) / 2, 2 * drawing.COLUMN)
    handles: dict[str, Artist] = {}
    for axes, (quantity, heading, scale) in zip(figure.subplots(1, len(AXES)), AXES, strict=True):
        _panel(axes, shown, _points(shown, quantity, scale))
        axes.set_xlabel(heading)
        handles |= {label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.supylabel("average change of the scores (%)")
    legend(figure, shown, handles)
    return figure


def _points(shown: CostComparison, quantity: str, scale: float) -> dict[int, tuple[float, float]]:
    """Row → cost and change in percent, of the rows that have both; Uncompressed is row 0."""
    found = {}
    for index in range(len(shown.results.rows)):
        change = 0.0 if index == 0 else 100 * shown.change(index).value
        point = scale * shown.cost(index, quantity), change
        if not math.isnan(sum(point)):
            found[index] = point
    return found if len(found) > 1 else {}


def _panel(axes: Axes, shown: CostComparison, points: dict[int, tuple[float, float]]) -> None:
    places, seen = shown.places, list[str]()
    if 0 in points:
        look = method_style("none")
        axes.plot(*points[0], color=look.colour, marker="*", linestyle="none", label=look.label)
    for one in shown.equal.contenders:
        look = method_style(one.name)
        line = DOTTED if one.name in seen else look.line
        seen.append(one.name)
        own = [points[at] for at, (_, other) in enumerate(places, start=1) if other is one and at in points]
        if own:
            label = f"{look.label} {one.setting}".strip()
            axes.plot(*zip(*own, strict=True), color=look.colour, marker=look.marker, linestyle=line, label=label)
    rivals = [point for at, point in points.items() if at == 0 or not is_control(places[at - 1][1].name)]
    best = front(rivals)
    if best:
        steps = {"color": "#999999", "linewidth": 3.0, "alpha": 0.5, "zorder": 1}
        axes.step(*zip(*best, strict=True), where="post", label="Pareto front, controls apart", **steps)


def front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Those of (cost, score) that no other one outdoes: none costs as little or less and scores more; by cost."""
    found: list[tuple[float, float]] = []
    for cost, score in sorted(points, key=lambda point: (point[0], -point[1])):
        if not found or score > found[-1][1]:
            found.append((cost, score))
    return found
