"""Figure 1: γ, the share of the last prompt token's attention that goes to vision, per layer and model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from plphp_core.analysis import attention_peaks
from plphp_core.analysis.bootstrap import Estimate
from plphp_core.records.attention_result import AttentionResult
from plphp_core.reporting import score_columns
from plphp_core.reporting.attention_results import layer_means
from plphp_core.reporting.figures import drawing
from plphp_core.reporting.table_model import NA, Table, TableCell, TableColumn, TableRow, number

BAND = (0.1, 0.9)  # quantiles of the samples
LINE = "#0072B2"
PEAK = "#D55E00"
Thresholds = Mapping[str, tuple[float, float]]  # model → α, β of its PLPHP


def draw(
    models: Mapping[str, Sequence[AttentionResult]], thresholds: Thresholds, profile: str, seed: int = 0
) -> dict[str, bytes]:
    """The figure as "pdf" and "png": a panel per model."""
    with drawing.style():
        figure, panels, place = drawing.panels(len(models), 1.45, extra=0.55)
        for axes, (model, parts) in zip(panels, models.items(), strict=True):
            gamma = layer_means(parts, seed=seed)
            layers = np.arange(1, len(gamma) + 1)
            low, high = band(parts)
            axes.fill_between(layers, low, high, color=LINE, alpha=0.2, linewidth=0, label="10–90 % of the samples")
            axes.plot(layers, [one.value for one in gamma], color=LINE, label="mean γ", zorder=3)
            if found := attention_peaks.peaks(gamma, [one.n for one in parts]):
                at = [peak.layer for peak in found]
                axes.plot(
                    layers[at],
                    [gamma[layer].value for layer in at],
                    linestyle="none",
                    marker="v",
                    markersize=4.5,
                    color=PEAK,
                    label="re-attention peak",
                    zorder=4,
                )
            if model in thresholds:
                for name, level, dashes in zip(("α", "β"), thresholds[model], ("--", ":"), strict=True):
                    axes.axhline(level, color="#666666", linewidth=0.7, linestyle=dashes, label=name, zorder=1.9)
            axes.set_title(parts[0].title, fontsize=8)
            axes.set_ylim(0, 1)
            axes.set_xticks(ticks(len(gamma)))
        figure.supxlabel("layer", fontsize=8)
        figure.supylabel("attention to vision, γ", fontsize=8)
        drawing.legend(figure, panels, place, f"Figure 1{score_columns.where(profile)}")
        return drawing.files(figure)


def sheets(
    models: Mapping[str, Sequence[AttentionResult]], thresholds: Thresholds, profile: str, png: str, seed: int = 0
) -> list[Table]:
    """Peaks per model, then γ per layer with intervals."""
    head = (
        TableColumn("Model", text=True),
        TableColumn("Samples"),
        TableColumn("Peaks (layer)", text=True),
        TableColumn("Valley (layer)", text=True),
        TableColumn("γ at peak"),
        TableColumn("Rebound"),
        TableColumn("interval"),
        TableColumn("of samples", "Rise in"),
    )
    rows, deepest = [], max(parts[0].vision_attention.shape[1] for parts in models.values())
    means = {model: layer_means(parts, seed=seed) for model, parts in models.items()}
    for model, parts in models.items():
        found = attention_peaks.peaks(means[model], [part.n for part in parts])
        n = str(sum(part.n for part in parts))
        for peak in found:
            rows.append(
                TableRow(
                    (
                        TableCell(parts[0].title),
                        TableCell(n),
                        TableCell(str(peak.layer + 1)),
                        TableCell(str(peak.valley + 1)),
                        TableCell(number(means[model][peak.layer].value, 3)),
                        TableCell(number(peak.rebound.value, 3, True)),
                        TableCell(_interval(peak.rebound)),
                        TableCell(f"{100 * share_rising(parts, peak):.0f}%"),
                    ),
                    rule=peak is found[0],
                )
            )
        if not found:
            few = min(part.n for part in parts) < attention_peaks.FEWEST
            said = TableCell("too few samples" if few else "none")
            rows.append(TableRow((TableCell(parts[0].title), TableCell(n), said, *[TableCell("–")] * 5), rule=True))
    notes = [
        f"The figure: {png} and the .pdf beside it; the .csv has γ of every layer and benchmark.",
        "γ (equation 8): attention of the last prompt token on all vision tokens, mean over query heads, in fp32 "
        "beside the model's own SDPA or FlashAttention; nothing is pruned. Layers count from 1, as in the paper.",
        "Means over benchmarks of means over samples; band: 10–90 % of all samples; intervals: 95 % percentile "
        "bootstrap of the samples, shared by all layers.",
        f"{attention_peaks.RULE}. The paper shows such layers and gives no rule.",
        *conditions(models, profile),
    ]
    if thresholds:
        listed = ", ".join(f"{models[name][0].title} {a:g} and {b:g}" for name, (a, b) in thresholds.items())
        notes.append(f"Lines: α and β of PLPHP, {listed}.")
    layers = (TableColumn("Model", text=True), *[TableColumn(str(layer + 1), "γ of layer") for layer in range(deepest)])
    lines = []
    for model, parts in models.items():
        values = [TableCell(number(one.value, 3)) for one in means[model]]
        lines.append(TableRow((TableCell(parts[0].title), *values, *[TableCell("–")] * (deepest - len(values)))))
    title = f"Figure 1{score_columns.where(profile)}: attention to vision, layer by layer"
    return [Table(title, head, tuple(rows), tuple(notes)), Table("γ per layer", layers, tuple(lines))]


def table(models: Mapping[str, Sequence[AttentionResult]], seed: int = 0) -> pd.DataFrame:
    """One line per model, benchmark ("all": their mean) and layer, counted from 1."""
    lines = []
    for model, parts in models.items():
        for name, some in [*((part.benchmark, [part]) for part in parts), ("all", parts)]:
            low, high = band(some)
            for layer, one in enumerate(layer_means(some, seed=seed)):
                lines.append(
                    {
                        "model": model,
                        "benchmark": name,
                        "layer": layer + 1,
                        "n": sum(part.n for part in some),
                        "gamma": one.value,
                        "low": one.low,
                        "high": one.high,
                        "q10": low[layer],
                        "q90": high[layer],
                    }
                )
    return pd.DataFrame(lines)


def band(parts: Sequence[AttentionResult]) -> tuple[np.ndarray, np.ndarray]:
    """The quantiles BAND of γ over all samples, `(layers,)` each."""
    low, high = np.quantile(np.concatenate([part.vision_attention for part in parts]), BAND, axis=0)
    return low, high


def share_rising(parts: Sequence[AttentionResult], peak: attention_peaks.AttentionPeak) -> float:
    """Share of all samples in which γ at the peak is above γ in the valley."""
    values = np.concatenate([part.vision_attention for part in parts])
    return float((values[:, peak.layer] > values[:, peak.valley]).mean())


def conditions(models: Mapping[str, Sequence[AttentionResult]], profile: str) -> list[str]:
    """What was read, of which weights, on what."""
    found = []
    if profile != "paper":
        found.append(f"Profile {profile}: small trained models, drawn data; this shows nothing of the paper's models.")
    for parts in models.values():
        names = ", ".join(f"{part.benchmark} {part.n} of {part.population}" for part in parts)
        failed = sum(part.errors for part in parts)
        one = parts[0]
        found.append(
            f"{one.title}: {one.checkpoint}, revision {one.revision[:19]}, {one.dtype}, on {one.hardware}; seeded "
            f"random samples: {names}" + (f"; {failed} more could not be read." if failed else ".")
        )
    return found


def ticks(layers: int) -> list[int]:
    """Which layers an axis names."""
    step = max(1, round(layers / 7))
    return list(range(1, layers + 1, step))


def _interval(one: Estimate) -> str:
    return NA if math.isnan(one.low) else f"[{number(one.low, 3)}, {number(one.high, 3)}]"
