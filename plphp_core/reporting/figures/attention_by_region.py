"""Figure 2: how attention to an image divides among five spatial groups of its tokens, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib import colormaps

from plphp_core.analysis.bootstrap import Estimate
from plphp_core.records.attention_result import AttentionResult
from plphp_core.reporting import score_columns
from plphp_core.reporting.attention_results import layer_means
from plphp_core.reporting.figures import drawing
from plphp_core.reporting.figures.attention_by_layer import conditions, ticks
from plphp_core.reporting.table_model import Table, TableCell, TableColumn, TableRow, number, percent
from plphp_core.vision.spatial_groups import LABELS

NONE = "no place"  # newline tokens, and tokens that lie on padding
DEFINITIONS = {
    "bands": "five horizontal bands of equal height, top to bottom, by the middle of a token's place on the image",
    "centre": "the middle quarter of the image's area, and the four quadrants of the rest (of an odd number of rows or "
    "columns the middle one goes below, or to the right)",
    "order": "five equal runs of the image's token sequence, as the decoder reads it",
}


def with_places(models: Mapping[str, Sequence[AttentionResult]], cut: str) -> dict[str, list[AttentionResult]]:
    """The models whose tokens can be cut so: any by order, otherwise those whose tokens have places of their own."""
    return {model: list(parts) for model, parts in models.items() if cut == "order" or parts[0].located}


def draw(models: Mapping[str, Sequence[AttentionResult]], cut: str, profile: str) -> dict[str, bytes]:
    """The figure as "pdf" and "png": a panel per model, a curve per group."""
    with drawing.style():
        figure, panels, place = drawing.panels(len(models), 1.45, extra=0.55)
        colours = colormaps["viridis"](np.linspace(0, 0.9, len(LABELS[cut])))
        for axes, parts in zip(panels, models.values(), strict=True):
            shares = group_shares(parts, cut)
            layers = np.arange(1, len(shares[0]) + 1)
            for name, own, look, dashes in zip(LABELS[cut], shares, colours, ["-", "--", "-.", ":", "-"], strict=False):
                axes.plot(layers, [one.value for one in own], color=look, linestyle=dashes, label=name)
                axes.fill_between(layers, [one.low for one in own], [one.high for one in own], color=look, alpha=0.15)
            at_the_end = {"marker": "<", "markersize": 3.5, "linestyle": "none"}
            for own, look in zip(token_shares(parts, cut), colours, strict=False):
                axes.plot(layers[-1] + 0.5, own, color=look, **at_the_end)
            axes.plot([], [], color="#888888", label="share of the tokens", **at_the_end)
            axes.set_title(parts[0].title, fontsize=8)
            axes.set_ylim(bottom=0)
            axes.set_xticks(ticks(len(layers)))
        figure.supxlabel("layer", fontsize=8)
        figure.supylabel("share of attention to vision", fontsize=8)
        drawing.legend(figure, panels, place, f"Figure 2{score_columns.where(profile)}")
        return drawing.files(figure)


def sheets(
    models: Mapping[str, Sequence[AttentionResult]], cut: str, left_out: Sequence[str], profile: str, png: str
) -> list[Table]:
    """Shares of every group and layer, per model, beside its share of the tokens."""
    deepest = max(parts[0].vision_attention.shape[1] for parts in models.values())
    columns = (
        TableColumn("Model", text=True), TableColumn("Group", text=True), TableColumn("of tokens", "Share"),
        *[TableColumn(str(layer + 1), "Share of attention in layer") for layer in range(deepest)],
    )  # fmt: skip
    rows = []
    for parts in models.values():
        tokens = token_shares(parts, cut)
        for at, (name, own) in enumerate(zip((*LABELS[cut], NONE), group_shares(parts, cut), strict=True)):
            values = [TableCell(number(100 * one.value, 1)) for one in own]
            rest = [TableCell("–")] * (deepest - len(values))
            share = TableCell(percent(tokens[at], 1, signed=False))
            rows.append(TableRow((TableCell(parts[0].title), TableCell(name), share, *values, *rest), rule=at == 0))
    notes = [
        f"The figure: {png} and the .pdf beside it; the .csv has every share with its interval.",
        f"Groups ({cut}): {DEFINITIONS[cut]}. The paper draws five groups and does not say how they are cut; "
        "cut=bands, centre or order draws any.",
        "Shares in percent of the last prompt token's attention to vision (mean over query heads, fp32), summed over "
        "the images of a sample. A group with its share of the tokens (the marks at the right; equal ones hide each "
        "other) gets that share of attention where nothing else matters. Tokens of the whole image and of its tiles "
        "count where they lie.",
        f"{NONE}: tokens that end a row of tiles, and tokens on what was padded; not drawn.",
        "Means over benchmarks of means over samples; bands of the curves: 95 % percentile bootstrap of the samples.",
        *conditions(models, profile),
    ]
    if left_out:
        notes.append(f"Left out: {', '.join(left_out)}, whose tokens are latents that look at the whole image.")
    title = f"Figure 2{score_columns.where(profile)}: attention to five groups of an image's tokens"
    return [Table(title, columns, tuple(rows), tuple(notes))]


def table(models: Mapping[str, Sequence[AttentionResult]], cut: str) -> pd.DataFrame:
    """One line per model, group and layer, counted from 1; shares are fractions."""
    lines = []
    for model, parts in models.items():
        tokens = token_shares(parts, cut)
        for at, (name, own) in enumerate(zip((*LABELS[cut], NONE), group_shares(parts, cut), strict=True)):
            for layer, one in enumerate(own):
                lines.append(
                    {
                        "model": model, "cut": cut, "group": name, "layer": layer + 1, "share": one.value,
                        "low": one.low, "high": one.high, "token_share": tokens[at],
                        "n": sum(part.n for part in parts),
                    }
                )  # fmt: skip
    return pd.DataFrame(lines)


def group_shares(parts: Sequence[AttentionResult], cut: str) -> list[list[Estimate]]:
    """Share of γ per group (the five, then none) and layer."""
    return [layer_means(parts, [part.groups[cut][:, :, group] for part in parts]) for group in range(6)]


def token_shares(parts: Sequence[AttentionResult], cut: str) -> np.ndarray:
    """Mean share of the vision tokens in each group, `(6,)`."""
    return np.mean([part.group_tokens[cut].mean(axis=0) for part in parts], axis=0)
