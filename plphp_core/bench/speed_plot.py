"""Milliseconds per token against the batch size, the floor beneath."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from plphp_core.analysis.method_style import method_style
from plphp_core.bench.bench_machine import Machine
from plphp_core.reporting.figures.drawing import tints
from plphp_core.reporting.render import write_atomically


def plot_speed(rows: Sequence[dict], machine: Machine, stem: Path) -> list[Path]:
    """One figure per model and length, a panel per regime, as png and pdf; returns the files.

    Args:
        stem: path without suffix; `-<model>-<vision tokens>` is added.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    files = []
    measured = [row for row in rows if row["ms_per_token"] is not None]
    for model, vision in dict.fromkeys((row["model"], row["vision_tokens"]) for row in measured):
        chosen = [row for row in measured if (row["model"], row["vision_tokens"]) == (model, vision)]
        regimes = list(dict.fromkeys(row["regime"] for row in chosen))
        series = list(dict.fromkeys((row["method"], row["params"]) for row in chosen))
        looks = _looks(series)
        figure = Figure(figsize=(3.4 * len(regimes) + 2.2, 3.6), layout="constrained")
        FigureCanvasAgg(figure)
        panels = figure.subplots(1, len(regimes), sharey=True, squeeze=False)[0]
        for axis, regime in zip(panels, regimes, strict=True):
            for method, params in series:
                points = [
                    row for row in chosen if (row["regime"], row["method"], row["params"]) == (regime, method, params)
                ]
                _draw(
                    axis,
                    sorted(points, key=lambda row: row["batch"]),
                    f"{method} {params}".strip(),
                    *looks[method, params],
                )
            batches = sorted({row["batch"] for row in chosen})
            axis.set(title=regime, xlabel="batch size", xscale="log", yscale="log")
            axis.set_xticks(batches, [str(batch) for batch in batches])
            axis.minorticks_off()
            axis.grid(True, which="both", linewidth=0.4, alpha=0.5)
        panels[0].set_ylabel("ms per token")
        _ticks(panels[0], chosen)
        floor = panels[-1].plot([], [], color="black", linestyle=":", label="floor of the same colour")[0]
        handles = [*panels[-1].get_legend_handles_labels()[0]]
        figure.legend(handles=handles or [floor], loc="outside right upper", frameon=False, fontsize=8)
        prompt = chosen[0]["prompt_tokens"]
        figure.suptitle(
            f"{model}, {vision} vision tokens of {prompt}; {machine.name}, {machine.measured / 1e9:.1f} GB/s measured",
            fontsize=9,
        )
        for suffix in (".png", ".pdf"):
            path = stem.with_name(f"{stem.name}-{model}-{vision}{suffix}")
            picture = io.BytesIO()
            figure.savefig(picture, format=suffix[1:], dpi=150)
            write_atomically(path, picture.getvalue())
            files.append(path)
    return files


def _looks(series: list[tuple[str, str]]) -> dict[tuple[str, str], tuple[str, str]]:
    """Colour and marker per method and parameters: a method's own, its rows in tints."""
    found = {}
    for method in dict.fromkeys(method for method, _ in series):
        own, look = [each for each in series if each[0] == method], method_style(method)
        for each, tint in zip(own, tints(look.colour, len(own)), strict=True):
            found[each] = (tint, look.marker or "x")
    return found


def _draw(axis, points: list[dict], label: str, colour: str, mark: str) -> None:
    if not points:
        return
    batch = [row["batch"] for row in points]
    middle = [row["ms_per_token"] for row in points]
    spread = [
        [row["ms_per_token"] - row["ms_q1"] for row in points],
        [row["ms_q3"] - row["ms_per_token"] for row in points],
    ]
    style = {"color": colour, "linewidth": 1.4}
    axis.errorbar(batch, middle, yerr=spread, marker=mark, markersize=4, capsize=2, label=label, **style)
    axis.plot(batch, [row["floor_ms_measured"] for row in points], linestyle=":", marker=".", markersize=4, **style)


def _ticks(axis, rows: list[dict]) -> None:
    """Round numbers on a logarithmic axis that may span less than a decade."""
    values = [row[name] for row in rows for name in ("ms_q1", "ms_q3", "floor_ms_measured")]
    steps = [digit * 10.0**power for power in range(-4, 7) for digit in (1, 2, 5)]
    inside = [step for step in steps if min(values) / 1.6 <= step <= max(values) * 1.6]
    axis.set_yticks(inside, [f"{step:g}" for step in inside])
