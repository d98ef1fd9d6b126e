"""Figures 1 and 2, layer by layer and model by model: γ, the share of the last prompt token's attention that goes to
vision, and how it divides among five spatial groups of an image's tokens.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from plphp_core.analysis.attention_frame import NO_PLACE, gamma_frame, group_frame, layer_means
from plphp_core.analysis.attention_peaks import FEWEST, RULE, AttentionPeak, peaks
from plphp_core.analysis.results import NothingToShow
from plphp_core.config.report_choices import ANY
from plphp_core.families import get_family
from plphp_core.records.attention_result import AttentionResult
from plphp_core.reporting import notes
from plphp_core.reporting.attention_results import MODELS
from plphp_core.reporting.configured import benchmarks_configured, method_configured
from plphp_core.reporting.figures import drawing
from plphp_core.reporting.figures.figure_spec import FigureSpec, Page, Shown
from plphp_core.reporting.request import ReportRequest, joined
from plphp_core.reporting.table_model import NA, Table, TableColumn, TableRow, number, percent

Models = Mapping[str, Sequence[AttentionResult]]  # name → its results, one per benchmark
LINE, THRESHOLD = "#0072B2", "#666666"
GROUPS = ("#882255", "#0072B2", "#009E73", "#D55E00", "#000000")  # of Figure 2
PEAK: dict[str, Any] = {"color": "#D55E00", "linestyle": "none", "marker": "v", "markersize": 4.5, "zorder": 4}
SHARE: dict[str, Any] = {"marker": "<", "markersize": 3, "linestyle": "none"}  # of the tokens, at the right end
ASIDE = 0.055  # of the layers, between two such marks: equal ones stand side by side
DASHES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)))
MODEL = TableColumn("Model", text=True)
PEAK_COLUMNS = (
    MODEL,
    TableColumn("Samples"),
    TableColumn("Peaks (layer)", text=True),
    TableColumn("Valley (layer)", text=True),
    TableColumn("γ at peak"),
    TableColumn("Rebound"),
    TableColumn("interval"),
    TableColumn("of samples", "Rise in"),
)
GAMMA = (
    "γ (equation 8): attention of the last prompt token on all vision tokens, mean over query heads, in fp32 beside "
    f"the model's own SDPA or FlashAttention; nothing is pruned. {notes.LAYERS}"
)
CUTS = {
    "bands": "five horizontal bands of equal height, top to bottom, by the middle of a token's place on the image",
    "centre": "the middle quarter of the image's area, and the four quadrants of the rest (of an odd number of rows or "
    "columns the middle one goes below, or to the right)",
    "order": "five equal runs of the image's token sequence, as the decoder reads it",
}


@dataclass(frozen=True)
class LayerAttention:
    """What Figure 1 shows. thresholds: model → α, β of its PLPHP; seed: of the resamples."""

    models: Models
    thresholds: Mapping[str, tuple[float, float]]
    seed: int = 0

    @cached_property
    def frame(self) -> pd.DataFrame:
        """γ of every model, benchmark and layer."""
        return gamma_frame(self.models, self.seed)

    @cached_property
    def peaks(self) -> Mapping[str, list[AttentionPeak]]:
        """The re-attention peaks of each model."""
        return {
            name: peaks(layer_means(parts, seed=self.seed), [one.n for one in parts])
            for name, parts in self.models.items()
        }

    def gamma(self, model: str) -> pd.DataFrame:
        """The model's lines over all benchmarks, layer by layer."""
        return self.frame.query("model == @model and benchmark == 'all'").reset_index(drop=True)


@dataclass(frozen=True)
class RegionAttention:
    """What Figure 2 shows: the `group_frame` of `models`; left_out: titles of models that it lacks, and why."""

    models: Models
    cut: str
    frame: pd.DataFrame
    left_out: Mapping[str, str] = field(default_factory=dict)

    def groups(self, model: str) -> list[tuple[str, pd.DataFrame]]:
        """Each group of the cut, then NO_PLACE, with its lines, layer by layer."""
        return list(self.frame[self.frame.model == model].groupby("group", sort=False))


def region_attention(models: Models, cut: str, expected: Sequence[str] = ()) -> RegionAttention:
    """The models whose tokens can be cut so: any by order, otherwise those whose tokens have places of their own.

    Args:
        expected: names of models that are said to be absent where they were not read.

    Raises NothingToShow if there is none.
    """
    fit = {model: parts for model, parts in models.items() if cut == "order" or parts[0].located}
    if not fit:
        raise NothingToShow(f"no model's tokens have places of their own; report.cut=order draws {', '.join(models)}")
    left_out = {parts[0].title: "latents without a place" for model, parts in models.items() if model not in fit}
    left_out |= {get_family(model).title: "not read" for model in expected if model not in models}
    return RegionAttention(fit, cut, group_frame(fit, cut), left_out)


def chosen(asked: ReportRequest) -> tuple[Models, str]:
    """The results of each model, and what files' names say of the choice. Raises NothingToShow."""
    alone = asked.options.table in ("figure1", "figure2")  # `all` chooses models and benchmarks of tables
    names = asked.options.model_names if alone else []
    tasks = asked.options.tasks if alone else None
    labels = benchmarks_configured(tasks) if tasks else []
    found = {
        model: own
        for model, parts in asked.attention().items()
        if (not names or model in names) and (own := [one for one in parts if not labels or one.benchmark in labels])
    }
    if not found:
        raise NothingToShow(f"no attention has been read; make reproduce-figure1 PROFILE={asked.profile}")
    variant = (f".models={'+'.join(names)}" if names else "") + (f".tasks={joined(tasks)}" if tasks else "")
    for name in ("protocol", "prompts"):
        kinds = {getattr(one, name) for parts in found.values() for one in parts}
        variant += "".join(f".{name}={kind}" for kind in sorted(kinds) if kind != "lmms_eval")
    limit = asked.filters.limit
    return found, variant + (f".limit={limit}" if limit not in (ANY, None) else "")


def gather_layers(asked: ReportRequest) -> Shown[LayerAttention]:
    """γ of all models that were asked for, and the thresholds that a run of PLPHP has."""
    models, variant = chosen(asked)
    params = {name: method_configured("plphp", asked.profile, name) for name in models}
    thresholds = {name: (own["alpha"], own["beta"]) for name, own in params.items()}
    return Shown(LayerAttention(models, thresholds, asked.choices.seed), variant)


def gather_regions(asked: ReportRequest) -> Shown[RegionAttention]:
    """The models that were asked for, cut as asked for."""
    (models, variant), cut = chosen(asked), asked.options.cut
    expected = () if ".models=" in variant else MODELS
    return Shown(region_attention(models, cut, expected), variant + ("" if cut == "bands" else f".cut={cut}"))


def draw_layers(content: LayerAttention, page: Page) -> Figure:
    """γ with its range over the samples, the peaks and the thresholds."""

    def curves(axes: Axes, model: str) -> None:
        gamma = content.gamma(model)
        axes.fill_between(gamma.layer, gamma.q10, gamma.q90, color=LINE, alpha=0.2, linewidth=0, label="10–90 % range")
        axes.plot(gamma.layer, gamma.gamma, color=LINE, label="mean γ", zorder=3)
        if at := [peak.layer for peak in content.peaks[model]]:
            axes.plot(gamma.layer[at], gamma.gamma[at], label="re-attention peak", **PEAK)
        for name, level, dashes in zip("αβ", content.thresholds.get(model, ()), ("--", ":"), strict=False):
            axes.axhline(level, color=THRESHOLD, linewidth=0.7, linestyle=dashes, label=name, zorder=1.9)
        axes.set_ylim(0, 1)

    return _panels(content.models, curves, "attention to vision, γ", page)


def draw_regions(content: RegionAttention, page: Page) -> Figure:
    """A curve per group on scales that all panels share; at the right end each group's share of the tokens."""
    drawn = content.frame[content.frame.group != NO_PLACE]
    deepest = drawn.layer.max()
    highest = 1.08 * drawn[["share", "high", "token_share"]].max(axis=None)

    def curves(axes: Axes, model: str) -> None:
        groups = [group for group in content.groups(model) if group[0] != NO_PLACE]
        for at, ((name, lines), colour, dashes) in enumerate(zip(groups, GROUPS, DASHES, strict=True)):
            axes.plot(lines.layer, lines.share, color=colour, linestyle=dashes, label=name)
            axes.fill_between(lines.layer, lines.low, lines.high, color=colour, alpha=0.15, linewidth=0)
            place = lines.layer.max() + (at + 1) * ASIDE * deepest
            axes.plot(place, lines.token_share.iloc[0], color=colour, **SHARE)
        axes.plot([], [], color="#666666", label="share of the tokens", **SHARE)
        axes.set(ylim=(0, highest), xlim=(-0.03 * deepest, (1.03 + len(groups) * ASIDE) * deepest))

    absent = "; ".join(f"{title}: {why}" for title, why in content.left_out.items())
    return _panels(content.models, curves, "share of attention", page, f"not drawn: {absent}" if absent else "")


def _panels(models: Models, curves: Callable[[Axes, str], None], ylabel: str, page: Page, below: str = "") -> Figure:
    """A panel per model, over its layers. below: a line under the title."""

    def panel(axes: Axes, model: str) -> None:
        first = models[model][0]
        layers = first.vision_attention.shape[1]
        curves(axes, model)
        axes.set(title=first.title, xticks=range(0, layers, max(1, round(layers / 7))))

    lines = textwrap.wrap(below, 25 if len(models) % 2 else 64)
    return drawing.panels(list(models), panel, ("layer", ylabel), "\n".join([page.title, *lines]), height=1.45)


def layer_tables(content: LayerAttention, page: Page) -> list[Table]:
    """Peaks per model, then γ per layer."""
    titles = {model: parts[0].title for model, parts in content.models.items()}
    listed = ", ".join(f"{titles[name]} {a:g} and {b:g}" for name, (a, b) in content.thresholds.items())
    said = (
        page.files,
        GAMMA,
        "Means over benchmarks of means over samples; band: 10–90 % of all samples; intervals: 95 % percentile "
        "bootstrap of the samples, shared by all layers.",
        f"{RULE}. The paper shows such layers and gives no rule.",
        *_conditions(content.models, page.profile),
        f"Lines: α and β of PLPHP, {listed}.",
    )
    rows = [row for model in content.models for row in _peak_rows(content, model)]
    frame = content.frame[content.frame.benchmark == "all"]
    frame = frame.assign(model=frame.model.map(titles), gamma=frame.gamma.map(lambda one: number(one, 3)))
    return [
        Table(f"{page.title}: attention to vision, layer by layer", PEAK_COLUMNS, tuple(rows), said),
        _layer_table("γ per layer", frame, {"model": MODEL}, "gamma", "γ of layer"),
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
            str(peak.layer),
            str(peak.valley),
            number(content.gamma(model).gamma[peak.layer], 3),
            number(peak.rebound.value, 3, signed=True),
            NA if math.isnan(low) else f"[{number(low, 3)}, {number(high, 3)}]",
            f"{100 * (every[:, peak.layer] > every[:, peak.valley]).mean():.0f}%",
        )
        rows.append(TableRow.of(*front, *texts, rule=peak is found[0]))
    return rows


def region_tables(content: RegionAttention, page: Page) -> list[Table]:
    """Shares of every group and layer, per model, beside its share of the tokens."""
    titles = {model: parts[0].title for model, parts in content.models.items()}
    said = [
        page.files,
        GAMMA,
        f"Groups ({content.cut}): {CUTS[content.cut]}. The paper draws five groups and does not say how they are cut; "
        "report.cut=bands, centre or order draws any.",
        "Shares of γ in percent, summed over the images of a sample. Where nothing but their number matters, a group "
        "gets its share of the tokens (the marks at the right, side by side). Tokens of the whole image "
        "and of its tiles count where they lie.",
        f"{NO_PLACE}: tokens that end a row of tiles, and tokens on what was padded; not drawn.",
        "Means over benchmarks of means over samples; bands of the curves: 95 % percentile bootstrap of the samples.",
        *_conditions(content.models, page.profile),
    ]
    if content.left_out:
        said.append(f"Not drawn: {'; '.join(f'{title}, {why}' for title, why in content.left_out.items())}.")
    frame = content.frame.assign(
        model=content.frame.model.map(titles),
        token_share=content.frame.token_share.map(lambda one: percent(one, 1, signed=False)),
        share=content.frame.share.map(lambda one: number(100 * one, 1)),
    )
    head = {"model": MODEL, "group": TableColumn("Group", text=True), "token_share": TableColumn("of tokens", "Share")}
    title = f"{page.title}: attention to five groups of an image's tokens"
    return [_layer_table(title, frame, head, "share", "Share of attention in layer", said)]


def _layer_table(
    title: str, frame: pd.DataFrame, head: Mapping[str, TableColumn], value: str, group: str, said: Sequence[str] = ()
) -> Table:
    """The texts of column `value`, a row per combination of those in `head`, a column per layer; – beyond the last."""
    wide = frame.set_index([*head, "layer"])[value].unstack("layer", fill_value="–", sort=False)
    names = wide.index.to_frame().to_numpy()
    starts = [at == 0 or names[at, 0] != names[at - 1, 0] for at in range(len(names))]
    rows = [
        TableRow.of(*front, *texts, rule=start and len(head) > 1)
        for front, texts, start in zip(names, wide.to_numpy(), starts, strict=True)
    ]
    columns = (*head.values(), *(TableColumn(str(layer), group) for layer in wide.columns))
    return Table(title, columns, tuple(rows), tuple(said))


def _conditions(models: Models, profile: str) -> list[str]:
    """What was read, of which weights, on what: a sentence per model."""
    found = [notes.profile(profile, several=True)]
    for parts in models.values():
        one = parts[0]
        names = ", ".join(f"{part.benchmark} {part.n} of {part.population}" for part in parts)
        failed = sum(part.errors for part in parts)
        said = f" {failed} more could not be read." if failed else ""
        found.append(f"{notes.weights(one.title, one)}, on {one.hardware}. Seeded random samples: {names}.{said}")
    return found


FIGURE1 = FigureSpec(
    "figure1",
    gather_layers,
    layer_tables,
    {"": draw_layers},
    "the .csv has γ of every layer and benchmark",
    "What to look for: whether γ falls after the first layers and rises again at some deep ones (marked), where the "
    "model looks back at the images. PLPHP keeps r + Δr of a layer's vision tokens at α or above, r − Δr below β.",
    {"": lambda content: content.frame},
    from_cells=False,
    latex=False,
)
FIGURE2 = FigureSpec(
    "figure2",
    gather_regions,
    region_tables,
    {"": draw_regions},
    "the .csv has every share with its interval",
    "What to look for: a curve that lies off its mark at the right end, where a model looks at a part of the image "
    "more or less than that part's share of the tokens; all panels have the same scales.",
    {"": lambda content: content.frame},
    from_cells=False,
    latex=False,
)
