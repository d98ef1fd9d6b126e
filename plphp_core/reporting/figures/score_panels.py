"""Figures 5 and 6, a panel per benchmark: scores over the vision tokens kept, a line per method; over Δr, a line per r,
with the claim that Δr > 0 beats Δr = 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from plphp_core.analysis.bootstrap import MISSING, RETENTION, Estimate, scaled
from plphp_core.analysis.method_style import method_style
from plphp_core.analysis.paired_contrasts import against_zero, kept_points, rates
from plphp_core.analysis.results import Results
from plphp_core.reporting import comparison_tables, notes, score_columns
from plphp_core.reporting.configured import refused_configured
from plphp_core.reporting.csv_export import long_table
from plphp_core.reporting.figures import drawing
from plphp_core.reporting.figures.figure_spec import FigureSpec, Page, Shown
from plphp_core.reporting.published import claims_quoted
from plphp_core.reporting.request import ReportRequest, on_benchmarks
from plphp_core.reporting.table_model import Table, TableColumn, TableRow, number
from plphp_core.reporting.table_spec import HEAD, NumberColumn, TableSpec, competing, fronts, interval_title, share

GRID_HEAD = (TableColumn("Method", text=True), TableColumn("r", text=True), TableColumn("Δr", text=True))
MARKERS = "sovD^P"  # of the rates, in rising order
LINES = ("-", "--", "-.", ":")
DODGE = 0.14  # of the smallest step in Δr, between the points of neighbouring rates
CAPTIONS = "Captions are drawn with one of their two metrics; report.caption_metric=meteor draws the other one."


@dataclass(frozen=True, eq=False)
class ScorePanels:
    """What both figures show.

    Attributes:
        captions: metric of the caption benchmarks, "cider" or "meteor".
        refused: combinations of parameters that the method does not allow, and why; claim: what the paper says.
    """

    results: Results
    benchmarks: Sequence[str]
    captions: str = "cider"
    refused: Sequence[str] = ()
    claim: str = ""

    def metric(self, benchmark: str) -> tuple[str, str]:
        """The metric drawn for a benchmark, and its heading."""
        own = self.results.headings(benchmark)
        metric = self.captions if self.captions in own else next(iter(own))
        return metric, own[metric]


@dataclass(frozen=True)
class ScoreCurve:
    """A line of a panel: its points (x, score ×100) with their intervals."""

    label: str
    colour: str
    marker: str
    line: str
    points: list[tuple[Estimate, Estimate]]


def gather_methods(asked: ReportRequest) -> Shown[ScorePanels]:
    """The rows of Table 1 on all benchmarks, or those that were asked for."""
    results, _, variant = on_benchmarks("figure5", asked)
    return Shown(ScorePanels(results, results.asked(), asked.options.caption_metric), variant, [results])


def gather_grid(asked: ReportRequest) -> Shown[ScorePanels]:
    """The configured grid on the paper's benchmarks, or those that were asked for."""
    results, benchmarks, variant = on_benchmarks("figure6", asked)
    refused = refused_configured("figure6", asked.profile, asked.options.model)
    claim = " ".join(claims_quoted(asked.options.published, ["C11"], asked.profile))
    return Shown(ScorePanels(results, benchmarks, asked.options.caption_metric, refused, claim), variant, [results])


def method_curves(results: Results, benchmark: str, metric: str) -> Iterator[ScoreCurve]:
    """Figure 5: each method's settings over what they keep (percent of the vision tokens)."""
    for method in dict.fromkeys(row.method for row in results.rows if row.method != "none"):
        own = [index for index, row in enumerate(results.rows) if row.method == method]
        kept, scores = ([scaled(results.value(at, benchmark, name), 100) for at in own] for name in (RETENTION, metric))
        look = method_style(method)
        yield ScoreCurve(look.label, look.colour, look.marker, look.line, list(zip(kept, scores, strict=True)))


def rate_curves(results: Results, benchmark: str, metric: str) -> Iterator[ScoreCurve]:
    """Figure 6: each r over Δr, in shades of one colour; points of one Δr stand side by side."""
    lines = rates(results)
    ticks = _ticks(results)
    step = DODGE * min((high - low for low, high in pairwise(ticks)), default=0.1)
    colours = drawing.shades(method_style("plphp").colour, len(lines))
    for at, (r, line) in enumerate(lines.items()):
        aside = step * (at - (len(lines) - 1) / 2)
        points = [
            (replace(MISSING, value=delta + aside), around_uncompressed(results, index, benchmark, metric))
            for delta, index in line.items()
        ]
        yield ScoreCurve(f"PLPHP r={r:g}", colours[at], MARKERS[at % len(MARKERS)], LINES[at % len(LINES)], points)


def around_uncompressed(results: Results, index: int, benchmark: str, metric: str) -> Estimate:
    """A row's score ×100, with the interval of its paired change against Uncompressed laid around Uncompressed's score.

    So the bar leaves out the line of Uncompressed exactly if the paired interval leaves out 0.
    """
    score = scaled(results.value(index, benchmark, metric), 100)
    base = 100 * results.value(results.reference, benchmark, metric).value
    change = results.change(index, benchmark, metric)
    return replace(score, low=base * (1 + change.low), high=base * (1 + change.high))


def draw_methods(content: ScorePanels, page: Page) -> Figure:
    """Scores over the vision tokens kept, Uncompressed with the band of its interval."""
    return _draw(content, page, method_curves, "vision tokens kept (%)", band=True, height=1.3)


def draw_grid(content: ScorePanels, page: Page) -> Figure:
    """Scores over Δr."""
    return _draw(content, page, rate_curves, "Δr", band=False, height=1.45, ticks=_ticks(content.results))


def _draw(
    content: ScorePanels,
    page: Page,
    curves: Callable[[Results, str, str], Iterator[ScoreCurve]],
    xlabel: str,
    band: bool,
    height: float,
    ticks: Sequence[float] | None = None,
) -> Figure:
    results, none = content.results, method_style("none")
    thin: dict[str, Any] = {"linewidth": 0.7, "zorder": 2}

    def panel(axes: Axes, benchmark: str) -> None:
        metric, heading = content.metric(benchmark)
        axes.set_title(f"{benchmark} ({heading})")
        level = scaled(results.value(results.reference, benchmark, metric), 100)
        if not math.isnan(level.value):
            axes.axhline(level.value, color=none.colour, linewidth=0.9, label=none.label, zorder=1.8)  # above the grid
        if band and not math.isnan(level.low):
            axes.axhspan(level.low, level.high, color=none.colour, alpha=0.1, linewidth=0, zorder=0)
        for curve in curves(results, benchmark, metric):
            known = [point for point in curve.points if not math.isnan(point[0].value + point[1].value)]
            points = sorted(known, key=lambda point: point[0].value)
            for x, y in points:  # intervals as thin bars, where there are any
                if not math.isnan(y.low):
                    axes.vlines(x.value, y.low, y.high, color=curve.colour, **thin)
                if not math.isnan(x.low):
                    axes.hlines(y.value, x.low, x.high, color=curve.colour, **thin)
            if points:
                look: dict[str, Any] = {"color": curve.colour, "marker": curve.marker, "linestyle": curve.line}
                axes.plot(
                    [x.value for x, _ in points], [y.value for _, y in points], zorder=3, label=curve.label, **look
                )
        if ticks is not None:
            axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])

    title = f"{results.title}{page.where}"
    return drawing.panels(content.benchmarks, panel, (xlabel, "score × 100"), title, height)


def _ticks(results: Results) -> list[float]:
    return sorted({delta for line in rates(results).values() for delta in line})


def method_tables(content: ScorePanels, page: Page) -> list[Table]:
    """What is drawn, in numbers, the intervals, and each setting against Uncompressed and the best baseline."""
    results = content.results
    columns = [column for name in content.benchmarks for column in _columns(content, name)]
    depth = "Layer numbers K of FastV and VTW are scaled to the toy's depth." if page.profile == "toy" else ""
    own = [
        "Kept: share of the vision tokens in the cache, mean over layers and samples (the paper's RR). Bars: intervals "
        "of the two numbers, and the band that of Uncompressed; rows share their samples, so that overlapping bars may "
        "still differ: paired comparisons are below and in the .csv.",
        CAPTIONS,
    ]
    what, rows = f"{page.title}: vision kept and score, {results.title}", fronts(results)
    spec = TableSpec(what, HEAD, rows, columns, _notes(content, page, own, depth))
    title = f"{interval_title(page.title, results)}, in percent and ×100"
    intervals = spec.intervals(title, notes.intervals([results], "figure5.csv"))
    return [spec.numbers(), intervals, comparison_tables.baseline_table(results, page.title, HEAD, rows)]


def _columns(content: ScorePanels, benchmark: str) -> list[NumberColumn]:
    """Vision tokens kept and the score that is drawn."""
    results, (metric, heading) = content.results, content.metric(benchmark)
    return [
        NumberColumn(
            TableColumn("kept", benchmark),
            lambda index: results.value(index, benchmark, RETENTION),
            share,
            ends=number,
        ),
        NumberColumn(
            TableColumn(heading, benchmark),
            lambda index: results.value(index, benchmark, metric),
            scale=results.catalogue[benchmark].scale,
            mark=lambda index: score_columns.failed(results, index, benchmark),
        ),
    ]


def grid_tables(content: ScorePanels, page: Page) -> list[Table]:
    """What is drawn, its intervals, Δr against 0, and each setting against Uncompressed."""
    results, rows = content.results, _grid_rows(content.results)
    own = [
        f"Bars in the figure: {results.options.confidence:.0%} intervals of the change against Uncompressed, paired by "
        "sample, around its line: a bar that does not reach the line differs from it. Points of one Δr are drawn side "
        f"by side. {CAPTIONS}",
        notes.ranking([results]),
        f"In parentheses behind the scores: {notes.CHANGES[results.options.gains]}.",
        f"{notes.average([results])} {notes.unreferenced([results])}".rstrip(),
        notes.VISION_KEPT,
        notes.KV_SAVED,
        "The benchmarks are those of the paper's figure; its values of r and Δr are not known here: "
        "configs/table/figure6.yaml has a grid, tasks=… chooses other benchmarks.",
        *([f"Combinations that the method refuses: {'; '.join(content.refused)}."] if content.refused else []),
    ]
    spec = TableSpec(
        f"{page.title}: r × Δr, {results.title}",
        GRID_HEAD,
        rows,
        score_columns.table_columns(results),
        _notes(content, page, own),
        competing(results),
    )
    pairs = against_zero(results)
    said = [
        *([comparison_tables.tally(results, pairs)] if pairs else []),
        "Vision kept: with Δr a layer keeps r + Δr, r or r − Δr by its attention, so that two settings of one r need "
        "not keep equally much; a gain in score at more tokens kept is no gain of Δr itself.",
        *([content.claim] if content.claim else []),
    ]
    at_zero = f"{page.title}: Δr > 0 against Δr = 0 at the same r"
    return [
        spec.numbers(),
        spec.intervals(interval_title(page.title, results), notes.intervals([results], "figure6.csv")),
        comparison_tables.contrast_table(results, at_zero, ("r", "Δr"), pairs, said),
        comparison_tables.baseline_table(results, page.title, GRID_HEAD, rows),
    ]


def _grid_rows(results: Results) -> list[TableRow]:
    """How the rows begin: method, r and Δr; a rule above each r."""
    found, before = [], None
    for spec in results.rows:
        values = [f"{spec.params[name]:g}" if name in spec.params else "" for name in ("r", "delta_r")]
        found.append(TableRow.of(spec.label, *values, rule=values[0] != before))
        before = values[0]
    return found


def paired_frame(content: ScorePanels) -> pd.DataFrame:
    """Δr > 0 against Δr = 0 at the same r: one line per pair, benchmark and metric, and the average over them."""
    results, lines = content.results, []
    for one in against_zero(results):
        params, kept = results.rows[one.changed].params, kept_points(results, one)
        paired = {name: results.paired(one.changed, one.base, name) for name in results.finished()}
        changes = [(*at, results.change(one.changed, *at, one.base), paired[at[0]]) for at in results.columns()]
        whole = results.average_change(one.changed, base=one.base)
        for benchmark, metric, change, shared in (*changes, ("average", "scores", whole, sum(paired.values()))):
            front = (results.model, params["r"], params["delta_r"], benchmark, metric)
            lines.append((*front, change.value, change.low, change.high, shared, kept.value, kept.low, kept.high))
    columns = ["model", "r", "delta_r", "benchmark", "metric", "relative_to_delta_r_0", "ci_low", "ci_high", "n_common",
               "kept_difference", "kept_low", "kept_high"]  # fmt: skip
    return pd.DataFrame(lines, columns=columns)


def _notes(content: ScorePanels, page: Page, own: Sequence[str], of_profile: str = "") -> list[str]:
    """Most important first; `own` of the figure."""
    parts = [content.results]
    front = (page.files, f"{notes.profile(page.profile, several=False)} {of_profile}".strip())
    return notes.framed(parts, front, (notes.scores(parts), *own))


FIGURE5 = FigureSpec(
    "figure5",
    gather_methods,
    method_tables,
    {"": draw_methods},
    "the .csv has every point, both metrics of the captions",
    "What to look for: how close a method stays to the line of Uncompressed the further left it goes, and which method "
    "is higher at the same number of tokens kept, by more than the bars. Controls are dashed.",
    {"": lambda content: long_table(content.results)},
)
FIGURE6 = FigureSpec(
    "figure6",
    gather_grid,
    grid_tables,
    {"": draw_grid},
    "the .csv has every point",
    "What to look for: whether lines rise from Δr = 0 to the right, by more than the bars; a setting that keeps more "
    "tokens should score more anyway (second table).",
    {"": lambda content: long_table(content.results), "_delta_r": paired_frame},
)
