"""Milliseconds per token against the batch size, the roofline beneath."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from plphp_core.analysis.method_style import method_style
from plphp_core.records.atomic import write_atomically
from plphp_core.reporting.figures.drawing import files, tints


def plot_speed(rows: Sequence[dict], device: str, stem: Path) -> list[Path]:
    """One figure per model and length, a panel per backend, as png and pdf; returns the files.

    Args:
        stem: path without suffix; `-<model>-<vision tokens>` is added.
    """
    paths = []
    measured = [row for row in rows if row["ms_per_token"] is not None]
    for model, vision in dict.fromkeys((row["model"], row["vision_tokens"]) for row in measured):
        chosen = [row for row in measured if (row["model"], row["vision_tokens"]) == (model, vision)]
        figure = _figure(chosen, f"{model}, {vision} vision tokens of {chosen[0]['prompt_tokens']}; {device}")
        for kind, content in files(figure).items():
            paths.append(stem.with_name(f"{stem.name}-{model}-{vision}.{kind}"))
            write_atomically(paths[-1], content)
    return paths


def _figure(rows: list[dict], title: str):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    backends = list(dict.fromkeys(row["backend"] for row in rows))
    batches = sorted({row["batch"] for row in rows})
    figure = Figure(figsize=(3.4 * len(backends) + 2.2, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(backends), sharey=True, squeeze=False)[0]
    for axis, backend in zip(panels, backends, strict=True):
        for series, look in _looks(rows).items():
            points = [row for row in rows if (row["backend"], row["method"], row["params"]) == (backend, *series)]
            if points:
                _draw(axis, sorted(points, key=lambda row: row["batch"]), " ".join(series).strip(), *look)
        axis.set(title=backend, xlabel="batch size", xscale="log", yscale="log")
        axis.set_xticks(batches, [str(batch) for batch in batches])
        axis.minorticks_off()
        axis.grid(True, which="both", linewidth=0.4, alpha=0.5)
    panels[0].set_ylabel("ms per token")
    panels[-1].plot([], [], color="black", linestyle=":", label="roofline of the same colour")
    values = [row[name] for row in rows for name in ("ms_q1", "ms_q3", "roofline_ms_measured")]
    steps = [digit * 10.0**power for power in range(-4, 7) for digit in (1, 2, 5)]  # less than a decade may show
    inside = [step for step in steps if min(values) / 1.6 <= step <= max(values) * 1.6]
    panels[0].set_yticks(inside, [f"{step:g}" for step in inside])
    figure.legend(*panels[-1].get_legend_handles_labels(), loc="outside right upper", frameon=False, fontsize=8)
    figure.suptitle(title, fontsize=9)
    return figure


def _looks(rows: list[dict]) -> dict[tuple[str, str], tuple[str, str]]:
    """Colour and marker per method and parameters: a method's own, its rows in tints."""
    series = list(dict.fromkeys((row["method"], row["params"]) for row in rows))
    found = {}
    for method in dict.fromkeys(method for method, _ in series):
        own, look = [each for each in series if each[0] == method], method_style(method)
        for each, tint in zip(own, tints(look.colour, len(own)), strict=True):
            found[each] = (tint, look.marker or "x")
    return found


def _draw(axis, points: list[dict], label: str, colour: str, mark: str) -> None:
    batch = [row["batch"] for row in points]
    middle = [row["ms_per_token"] for row in points]
    below = [row["ms_per_token"] - row["ms_q1"] for row in points]
    above = [row["ms_q3"] - row["ms_per_token"] for row in points]
    style = {"color": colour, "linewidth": 1.4, "markersize": 4}
    axis.errorbar(batch, middle, yerr=[below, above], marker=mark, capsize=2, label=label, **style)
    axis.plot(batch, [row["roofline_ms_measured"] for row in points], linestyle=":", marker=".", **style)
