"""One answer's layers in a small chart: kept share as bars, γ as dots, and the method's thresholds."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence

from plphp_core.config.run_settings import SYMBOLS
from plphp_core.reporting.figures import drawing

INK = "#8a8f98"  # readable on white and on black
THRESHOLDS = ("alpha", "beta")


def layers_chart(
    method: str, methods: Sequence[str], retention: list[float], gammas: list[float], params: dict | None = None
) -> str:
    """An SVG within a URL, transparent.

    Args:
        methods: all of the page's, among which `method` has its colour.
        retention, gammas: per layer.
        params: the method's parameters; thresholds of γ among them are drawn.
    """
    look = drawing.colour(method, methods)
    bars = look if method != "none" else INK
    with drawing.style():
        figure = drawing.blank(1.15)
        axes = figure.subplots()
        layers = range(len(retention))
        axes.bar(layers, [1.0] * len(retention), color=INK, alpha=0.13, width=0.8, linewidth=0)
        axes.bar(layers, retention, color=bars, width=0.8, linewidth=0, alpha=0.9)
        if not all(map(math.isnan, gammas)):
            axes.plot(layers, gammas, color=INK, linewidth=0.8, marker="o", markersize=2.6, markerfacecolor="white")
        for name in THRESHOLDS if params else ():
            if name in params:
                axes.axhline(params[name], color=INK, linewidth=0.7, linestyle=":")
                axes.text(len(retention) - 0.45, params[name], SYMBOLS[name], color=INK, va="center", fontsize=7)
        axes.set(ylim=(0, 1.04), xlim=(-0.6, len(retention) - 0.4), yticks=(0, 0.5, 1), xlabel="layer")
        axes.set_yticks((0, 0.5, 1), ("0", "", "1"))
        step = max(1, math.ceil(len(retention) / 10))
        axes.set_xticks(range(0, len(retention), step))
        axes.grid(False)
        axes.tick_params(colors=INK, length=2)
        axes.xaxis.label.set_color(INK)
        axes.xaxis.labelpad = 1
        for spine in axes.spines.values():
            spine.set_color(INK)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()
