"""Figure 2: how attention to an image divides among five spatial groups of its tokens, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.figure import Figure

from plphp_core.analysis.attention_frame import NO_PLACE, group_frame
from plphp_core.analysis.results import NothingToShow
from plphp_core.records.attention_result import AttentionResult
from plphp_core.reporting.figures import drawing
from plphp_core.reporting.figures.attention_notes import GAMMA, chosen, conditions, layer_ticks
from plphp_core.reporting.figures.figure_spec import FigureSpec, Page, Shown
from plphp_core.reporting.request import ReportRequest
from plphp_core.reporting.table_model import Table, TableColumn, TableRow, number, percent

DASHES = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)))
DEFINITIONS = {
    "bands": "five horizontal bands of equal height, top to bottom, by the middle of a token's place on the image",
    "centre": "the middle quarter of the image's area, and the four quadrants of the rest (of an odd number of rows or "
    "columns the middle one goes below, or to the right)",
    "order": "five equal runs of the image's token sequence, as the decoder reads it",
}


@dataclass(frozen=True)
class RegionAttention:
    """What the figure shows: the `group_frame` of `models`; left_out: models whose tokens cannot be cut so."""

    models: Mapping[str, Sequence[AttentionResult]]
    cut: str
    frame: pd.DataFrame
    left_out: Sequence[str] = ()

    def groups(self, model: str) -> list[tuple[str, pd.DataFrame]]:
        """Each group of the cut, then NO_PLACE, with its lines, layer by layer."""
        return list(self.frame[self.frame.model == model].groupby("group", sort=False))


def region_attention(models: Mapping[str, Sequence[AttentionResult]], cut: str) -> RegionAttention:
    """The models whose tokens can be cut so: any by order, otherwise those whose tokens have places of their own.

    Raises NothingToShow if there is none.
    """
    fit = {model: parts for model, parts in models.items() if cut == "order" or parts[0].located}
    if not fit:
        raise NothingToShow(f"no model's tokens have places of their own; report.cut=order draws {', '.join(models)}")
    left_out = [parts[0].title for model, parts in models.items() if model not in fit]
    return RegionAttention(fit, cut, group_frame(fit, cut), left_out)


def gather(asked: ReportRequest) -> Shown[RegionAttention]:
    """The models that were asked for, cut as asked for."""
    (models, variant), cut = chosen(asked), asked.options.cut
    return Shown(region_attention(models, cut), variant + ("" if cut == "bands" else f".cut={cut}"))


def draw(content: RegionAttention, page: Page) -> Figure:
    """A panel per model, a curve per group; at the right end each group's share of the tokens."""
    figure, panels, place = drawing.panels(len(content.models), 1.45, extra=0.55)
    end = {"marker": "<", "markersize": 3.5, "linestyle": "none"}
    for axes, (model, parts) in zip(panels, content.models.items(), strict=True):
        groups = [group for group in content.groups(model) if group[0] != NO_PLACE]
        colours = colormaps["viridis"](np.linspace(0, 0.9, len(groups)))
        for (name, lines), colour, dashes in zip(groups, colours, DASHES, strict=True):
            axes.plot(lines.layer, lines.share, color=colour, linestyle=dashes, label=name)
            axes.fill_between(lines.layer, lines.low, lines.high, color=colour, alpha=0.15)
            axes.plot(lines.layer.max() + 0.5, lines.token_share.iloc[0], color=colour, **end)
        axes.plot([], [], color="#888888", label="share of the tokens", **end)
        axes.set_ylim(bottom=0)
        axes.set(title=parts[0].title, xticks=layer_ticks(lines.layer.max()))
    figure.supxlabel("layer")
    figure.supylabel("share of attention")
    drawing.legend(figure, panels, place, page.title)
    return figure


def tables(content: RegionAttention, page: Page) -> list[Table]:
    """Shares of every group and layer, per model, beside its share of the tokens."""
    deepest = content.frame.layer.max()
    columns = (
        TableColumn("Model", text=True),
        TableColumn("Group", text=True),
        TableColumn("of tokens", "Share"),
        *(TableColumn(str(at + 1), "Share of attention in layer") for at in range(deepest)),
    )
    rows = []
    for model, parts in content.models.items():
        for at, (name, lines) in enumerate(content.groups(model)):
            values = [number(100 * share, 1) for share in lines.share]
            share = percent(lines.token_share.iloc[0], 1, signed=False)
            rest = ["–"] * (deepest - len(values))
            rows.append(TableRow.of(parts[0].title, name, share, *values, *rest, rule=at == 0))
    notes = [
        page.files,
        GAMMA,
        f"Groups ({content.cut}): {DEFINITIONS[content.cut]}. The paper draws five groups and does not say how they "
        "are cut; report.cut=bands, centre or order draws any.",
        "Shares of γ in percent, summed over the images of a sample. Where nothing but their number matters, a group "
        "gets its share of the tokens (the marks at the right; equal ones hide each other). Tokens of the whole image "
        "and of its tiles count where they lie.",
        f"{NO_PLACE}: tokens that end a row of tiles, and tokens on what was padded; not drawn.",
        "Means over benchmarks of means over samples; bands of the curves: 95 % percentile bootstrap of the samples.",
        *conditions(content.models, page.profile),
    ]
    if content.left_out:
        notes.append(f"Left out: {', '.join(content.left_out)}, whose tokens are latents that look at the whole image.")
    title = f"{page.title}: attention to five groups of an image's tokens"
    return [Table(title, columns, tuple(rows), tuple(notes))]


FIGURE = FigureSpec(
    "figure2",
    gather,
    tables,
    {"": draw},
    "the .csv has every share with its interval",
    {"": lambda content: content.frame},
    from_cells=False,
    latex=False,
)
