"""Figure 1: γ, the share of the last prompt token's attention that goes to vision, per layer and model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from plphp_core.analysis.attention_frame import gamma_frame, layer_means
from plphp_core.analysis.attention_peaks import FEWEST, RULE, AttentionPeak, peaks
from plphp_core.records.attention_result import AttentionResult
from plphp_core.reporting.configured import method_configured
from plphp_core.reporting.figures import drawing
from plphp_core.reporting.figures.attention_notes import GAMMA, chosen, conditions, layer_ticks
from plphp_core.reporting.figures.figure_spec import FigureSpec, Page, Shown
from plphp_core.reporting.request import ReportRequest
from plphp_core.reporting.table_model import NA, Table, TableColumn, TableRow, number

LINE, PEAK, THRESHOLD = "#0072B2", "#D55E00", "#666666"
PEAK_COLUMNS = (
    TableColumn("Model", text=True),
    TableColumn("Samples"),
    TableColumn("Peaks (layer)", text=True),
    TableColumn("Valley (layer)", text=True),
    TableColumn("γ at peak"),
    TableColumn("Rebound"),
    TableColumn("interval"),
    TableColumn("of samples", "Rise in"),
)


@dataclass(frozen=True)
class LayerAttention:
    """What the figure shows. models: name → results; thresholds: model → α, β of its PLPHP; frame: `gamma_frame`."""

    models: Mapping[str, Sequence[AttentionResult]]
    thresholds: Mapping[str, tuple[float, float]]
    frame: pd.DataFrame
    peaks: Mapping[str, list[AttentionPeak]]

    def gamma(self, model: str) -> pd.DataFrame:
        """The model's lines over all benchmarks, layer by layer."""
        return self.frame.query("model == @model and benchmark == 'all'").reset_index(drop=True)


def layer_attention(
    models: Mapping[str, Sequence[AttentionResult]], thresholds: Mapping[str, tuple[float, float]], seed: int = 0
) -> LayerAttention:
    """γ of every layer, and its re-attention peaks."""
    found = {name: peaks(layer_means(parts, seed=seed), [one.n for one in parts]) for name, parts in models.items()}
    return LayerAttention(models, thresholds, gamma_frame(models, seed), found)


def gather(asked: ReportRequest) -> Shown[LayerAttention]:
    """γ of all models that were asked for, and the thresholds that a run of PLPHP has."""
    models, variant = chosen(asked)
    params = {name: method_configured("plphp", asked.profile, name) for name in models}
    thresholds = {name: (own["alpha"], own["beta"]) for name, own in params.items()}
    return Shown(layer_attention(models, thresholds, asked.choices.seed), variant)


def draw(content: LayerAttention, page: Page) -> Figure:
    """A panel per model."""
    figure, panels, place = drawing.panels(len(content.models), 1.45, extra=0.55)
    for axes, (model, parts) in zip(panels, content.models.items(), strict=True):
        gamma = content.gamma(model)
        axes.fill_between(gamma.layer, gamma.q10, gamma.q90, color=LINE, alpha=0.2, linewidth=0, label="10–90 % range")
        axes.plot(gamma.layer, gamma.gamma, color=LINE, label="mean γ", zorder=3)
        if at := [peak.layer for peak in content.peaks[model]]:
            marks = {"linestyle": "none", "marker": "v", "markersize": 4.5, "color": PEAK}
            axes.plot(gamma.layer[at], gamma.gamma[at], label="re-attention peak", zorder=4, **marks)
        if model in content.thresholds:
            for name, level, dashes in zip("αβ", content.thresholds[model], ("--", ":"), strict=True):
                axes.axhline(level, color=THRESHOLD, linewidth=0.7, linestyle=dashes, label=name, zorder=1.9)
        axes.set(title=parts[0].title, ylim=(0, 1), xticks=layer_ticks(len(gamma)))
    figure.supxlabel("layer")
    figure.supylabel("attention to vision, γ")
    drawing.legend(figure, panels, place, page.title)
    return figure


def tables(content: LayerAttention, page: Page) -> list[Table]:
    """Peaks per model, then γ per layer."""
    notes = [
        page.files,
        GAMMA,
        "Means over benchmarks of means over samples; band: 10–90 % of all samples; intervals: 95 % percentile "
        "bootstrap of the samples, shared by all layers.",
        f"{RULE}. The paper shows such layers and gives no rule.",
        *conditions(content.models, page.profile),
    ]
    titles = {model: parts[0].title for model, parts in content.models.items()}
    if content.thresholds:
        listed = ", ".join(f"{titles[name]} {a:g} and {b:g}" for name, (a, b) in content.thresholds.items())
        notes.append(f"Lines: α and β of PLPHP, {listed}.")
    rows = [row for model in content.models for row in _peak_rows(content, model)]
    deepest = content.frame.layer.max()
    columns = (TableColumn("Model", text=True), *(TableColumn(str(at + 1), "γ of layer") for at in range(deepest)))
    lines = []
    for model, title in titles.items():
        values = [number(value, 3) for value in content.gamma(model).gamma]
        lines.append(TableRow.of(title, *values, *["–"] * (deepest - len(values))))
    return [
        Table(f"{page.title}: attention to vision, layer by layer", PEAK_COLUMNS, tuple(rows), tuple(notes)),
        Table("γ per layer", columns, tuple(lines)),
    ]


def _peak_rows(content: LayerAttention, model: str) -> list[TableRow]:
    parts, found = content.models[model], content.peaks[model]
    front = [parts[0].title, str(sum(part.n for part in parts))]
    if not found:
        said = "too few samples" if min(part.n for part in parts) < FEWEST else "none"
        return [TableRow.of(*front, said, *["–"] * 5, rule=True)]
    every = np.concatenate([part.vision_attention for part in parts])
    rows = []
    for peak in found:
        low, high = peak.rebound.low, peak.rebound.high
        texts = (
            *front,
            str(peak.layer + 1),
            str(peak.valley + 1),
            number(content.gamma(model).gamma[peak.layer], 3),
            number(peak.rebound.value, 3, signed=True),
            NA if math.isnan(low) else f"[{number(low, 3)}, {number(high, 3)}]",
            f"{100 * (every[:, peak.layer] > every[:, peak.valley]).mean():.0f}%",
        )
        rows.append(TableRow.of(*texts, rule=peak is found[0]))
    return rows


FIGURE = FigureSpec(
    "figure1",
    gather,
    tables,
    {"": draw},
    "the .csv has γ of every layer and benchmark",
    {"": lambda content: content.frame},
    from_cells=False,
    latex=False,
)
