"""Figure 6: r × Δr, a panel per benchmark: score over Δr, a line per r. And the claim that Δr > 0 beats Δr = 0."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pandas as pd
from matplotlib.figure import Figure

from plphp_core.analysis import paired_contrasts
from plphp_core.analysis.bootstrap import MISSING, Estimate, scaled
from plphp_core.analysis.method_style import method_style
from plphp_core.analysis.paired_contrasts import Contrast
from plphp_core.analysis.results import Results
from plphp_core.reporting import comparison_tables, notes, score_columns
from plphp_core.reporting.configured import refused_configured
from plphp_core.reporting.csv_export import long_table
from plphp_core.reporting.figures import drawing
from plphp_core.reporting.figures.figure_spec import FigureSpec, Page, Shown
from plphp_core.reporting.figures.retention_vs_score import CAPTIONS, ScorePanels
from plphp_core.reporting.published import claims_quoted
from plphp_core.reporting.request import ReportRequest, on_benchmarks
from plphp_core.reporting.table_model import Table, TableColumn, TableRow
from plphp_core.reporting.table_spec import TableSpec

HEAD = (TableColumn("Method", text=True), TableColumn("r", text=True), TableColumn("Δr", text=True))
MARKERS = "sovD^P"  # of the rates, in rising order
DODGE = 0.14  # of the smallest step in Δr, between the points of neighbouring rates


def rates(results: Results) -> dict[float, dict[float, int]]:
    """r → Δr → row index, both rising, of the PLPHP rows."""
    found: dict[float, dict[float, int]] = {}
    for index, row in enumerate(results.rows):
        if {"r", "delta_r"} <= set(row.params):
            found.setdefault(row.params["r"], {})[row.params["delta_r"]] = index
    return {r: dict(sorted(found[r].items())) for r in sorted(found)}


def gather(asked: ReportRequest) -> Shown[ScorePanels]:
    """The configured grid on the paper's benchmarks, or those that were asked for."""
    results, benchmarks, variant = on_benchmarks("figure6", asked)
    refused = refused_configured("figure6", asked.profile, asked.options.model)
    claim = " ".join(claims_quoted(asked.options.published, ["C11"], asked.profile))
    content = ScorePanels(results, benchmarks, asked.options.caption_metric, refused, claim)
    return Shown(content, variant, [results])


def draw(content: ScorePanels, page: Page) -> Figure:
    """A panel per benchmark, a line per r."""
    results, lines = content.results, rates(content.results)
    colours = drawing.tints(method_style("plphp").colour, len(lines))
    ticks = sorted({delta for line in lines.values() for delta in line})
    step = DODGE * min((high - low for low, high in pairwise(ticks)), default=0.1)
    figure, panels, place = drawing.panels(len(content.benchmarks), 1.45, extra=0.45)
    for axes, name in zip(panels, content.benchmarks, strict=True):
        metric, heading = content.metric(name)
        axes.set_title(f"{name} ({heading})")
        level = scaled(results.value(results.reference, name, metric), 100)
        if not math.isnan(level.value):
            drawing.reference(axes, level, band=False)
        for at, (r, line) in enumerate(lines.items()):
            points = {
                delta + step * (at - (len(lines) - 1) / 2): score
                for delta, index in line.items()
                if not math.isnan((score := interval(results, index, name, metric)).value)
            }
            for x, score in points.items():
                drawing.bars(axes, replace(MISSING, value=x), score, colours[at])
            look = {"color": colours[at], "marker": MARKERS[at % len(MARKERS)], "label": f"PLPHP r={r:g}"}
            axes.plot(list(points), [score.value for score in points.values()], zorder=3, **look)
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        if not any(len(line.get_xdata()) for line in axes.get_lines()):
            drawing.nothing(axes)
    figure.supxlabel("Δr")
    figure.supylabel("score × 100")
    drawing.legend(figure, panels, place, f"{results.title}{page.where}")
    return figure


def interval(results: Results, index: int, benchmark: str, metric: str) -> Estimate:
    """A row's score ×100, with the interval of its paired change against Uncompressed laid around Uncompressed's score.

    So the bar leaves out the line of Uncompressed exactly if the paired interval leaves out 0.
    """
    score = scaled(results.value(index, benchmark, metric), 100)
    base = 100 * results.value(results.reference, benchmark, metric).value
    change = results.change(index, benchmark, metric)
    return replace(score, low=base * (1 + change.low), high=base * (1 + change.high))


def against_zero(results: Results) -> list[Contrast]:
    """Every Δr > 0 against Δr = 0 at the same r."""
    return [
        Contrast(index, line[0], (f"r = {r:g}", f"Δr = {delta:g}"), rule=delta == min(set(line) - {0}))
        for r, line in rates(results).items()
        if 0 in line
        for delta, index in line.items()
        if delta > 0
    ]


def tables(content: ScorePanels, page: Page) -> list[Table]:
    """What is drawn, its intervals, Δr against 0, and each setting against Uncompressed."""
    results = content.results
    pairs = against_zero(results)
    kept = (
        "Vision kept: with Δr a layer keeps r + Δr, r or r − Δr by its attention, so that two settings of one r need "
        "not keep equally much; a gain in score at more tokens kept is no gain of Δr itself."
    )
    said = [
        *([comparison_tables.tally(results, pairs)] if pairs else []),
        kept,
        *([content.claim] if content.claim else []),
    ]
    at_zero = f"{page.title}: Δr > 0 against Δr = 0 at the same r"
    spec = TableSpec(
        page.title,
        f"r × Δr, {results.title}",
        results,
        score_columns.table_columns(results),
        _notes(content, page),
        notes.intervals([results], "figure6.csv"),
        _rows(results),
        HEAD,
    )
    return [
        spec.numbers(),
        spec.intervals(),
        comparison_tables.contrast_table(results, at_zero, ("r", "Δr"), pairs, said),
        comparison_tables.baseline_table(results, page.title, HEAD, _rows(results)),
    ]


def _rows(results: Results) -> list[TableRow]:
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
        params, kept = results.rows[one.changed].params, paired_contrasts.kept_points(results, one)
        paired = {name: results.paired(one.changed, one.base, name) for name in results.finished()}
        changes = [(*at, results.change(one.changed, *at, one.base), paired[at[0]]) for at in results.columns()]
        whole = results.average_change(one.changed, base=one.base)
        for benchmark, metric, change, shared in (*changes, ("average", "scores", whole, sum(paired.values()))):
            front = (results.model, params["r"], params["delta_r"], benchmark, metric)
            lines.append((*front, change.value, change.low, change.high, shared, kept.value, kept.low, kept.high))
    columns = ["model", "r", "delta_r", "benchmark", "metric", "relative_to_delta_r_0", "ci_low", "ci_high", "n_common",
               "kept_difference", "kept_low", "kept_high"]  # fmt: skip
    return pd.DataFrame(lines, columns=columns)


def _notes(content: ScorePanels, page: Page) -> list[str]:
    """Most important first."""
    results, parts = content.results, [content.results]
    return [
        page.files,
        notes.profile(page.profile, several=False),
        *notes.run(parts),
        *notes.samples(parts),
        *notes.images(parts),
        notes.scores(parts),
        f"Bars in the figure: {results.options.confidence:.0%} intervals of the change against Uncompressed, paired by "
        "sample, around its line: a bar that does not reach the line differs from it. Points of one Δr are drawn side "
        f"by side. {CAPTIONS}",
        notes.ranking(parts),
        f"In parentheses behind the scores: {notes.CHANGES[results.options.gains]}.",
        f"{notes.average(parts)} {notes.unreferenced(parts)}".rstrip(),
        notes.VISION_KEPT,
        notes.KV_SAVED,
        "The benchmarks are those of the paper's figure; its values of r and Δr are not known here: "
        "configs/table/figure6.yaml has a grid, tasks=… chooses other benchmarks.",
        *([f"Combinations that the method refuses: {'; '.join(content.refused)}."] if content.refused else []),
        *notes.failures(parts),
        *notes.gaps(parts),
    ]


FIGURE = FigureSpec(
    "figure6",
    gather,
    tables,
    {"": draw},
    "the .csv has every point",
    {"": lambda content: long_table(content.results), "_delta_r": paired_frame},
)
