"""Figure 6: r × Δr, a panel per benchmark: score over Δr, a line per r. And the claim that Δr > 0 beats Δr = 0."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pandas as pd

from plphp_core.analysis import paired_contrasts
from plphp_core.analysis.bootstrap import MISSING, Estimate, scaled
from plphp_core.analysis.paired_contrasts import Contrast
from plphp_core.analysis.results import Results
from plphp_core.analysis.retention_stats import Savings
from plphp_core.reporting import comparison_tables, notes, score_columns
from plphp_core.reporting.figures import drawing
from plphp_core.reporting.figures.retention_vs_score import metric_of
from plphp_core.reporting.table_model import Table, TableCell, TableColumn, TableRow

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


def draw(saved: Savings, profile: str, benchmarks: Sequence[str], captions: str) -> dict[str, bytes]:
    """The figure as "pdf" and "png".

    Args:
        benchmarks: the panels, in order.
        captions: metric of the caption benchmarks, "cider" or "meteor".
    """
    results = saved.results
    lines = rates(results)
    looks = drawing.shades("plphp", len(lines))
    ticks = sorted({delta for line in lines.values() for delta in line})
    step = DODGE * min((high - low for low, high in pairwise(ticks)), default=0.1)
    with drawing.style():
        figure, axes, place = drawing.panels(len(benchmarks), 1.45, extra=0.45)
        for panel, name in zip(axes, benchmarks, strict=True):
            metric, heading = metric_of(results, name, captions)
            panel.set_title(f"{name} ({heading})", fontsize=8)
            level = scaled(results.score(results.reference, name, metric), 100)
            if not math.isnan(level.value):
                drawing.reference(panel, replace(level, low=math.nan, high=math.nan), "Uncompressed")
            for at, (r, line) in enumerate(lines.items()):
                points = [(delta, interval(results, index, name, metric)) for delta, index in line.items()]
                points = [(delta, score) for delta, score in points if not math.isnan(score.value)]
                x = [delta + step * (at - (len(lines) - 1) / 2) for delta, _ in points]
                for where, (_, score) in zip(x, points, strict=True):
                    drawing.bars(panel, replace(MISSING, value=where), score, looks[at])
                y = [score.value for _, score in points]
                shape = MARKERS[at % len(MARKERS)]
                panel.plot(x, y, color=looks[at], marker=shape, markersize=3, label=f"PLPHP r={r:g}", zorder=3)
            panel.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
            if not any(len(line.get_xdata()) for line in panel.get_lines()):
                drawing.nothing(panel)
        figure.supxlabel("Δr", fontsize=8)
        figure.supylabel("score × 100", fontsize=8)
        drawing.legend(figure, axes, place, f"{results.title}{score_columns.where(profile)}")
        return drawing.files(figure)


def interval(results: Results, index: int, benchmark: str, metric: str) -> Estimate:
    """A row's score ×100, with the interval of its paired change against Uncompressed laid around Uncompressed's score.

    So the bar leaves out the line of Uncompressed exactly if the paired interval leaves out 0.
    """
    score = scaled(results.score(index, benchmark, metric), 100)
    base = 100 * results.score(results.reference, benchmark, metric).value
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


def sheets(saved: Savings, profile: str, picture: str, refused: Sequence[str], claim: str = "") -> list[Table]:
    """What is drawn, its intervals, Δr against 0, and each setting against Uncompressed.

    Args:
        picture: name of the figure's file, for the notes.
        refused: combinations that PLPHP does not allow, and why.
        claim: what the paper says of the figure.
    """
    results = saved.results
    title = f"Figure 6{score_columns.where(profile)}"

    def line(results: Results, index: int) -> list[TableCell]:
        return score_columns.score_line(results, index)

    def spread(results: Results, index: int) -> list[TableCell]:
        return score_columns.saved_interval_line(saved, index)

    rows = _heads(score_columns.rows(results, line), results)
    rows = score_columns.marked(rows, score_columns.score_values(results), results, len(HEAD))
    pairs = against_zero(results)
    kept = (
        "Vision kept: with Δr a layer keeps r + Δr, r or r − Δr by its attention, so that two settings of one r need "
        "not keep equally much; a gain in score at more tokens kept is no gain of Δr itself."
    )
    return [
        Table(
            f"{title}: r × Δr, {results.title}",
            (*HEAD, *score_columns.score_columns(results)),
            tuple(rows),
            tuple(_notes(results, profile, picture, refused)),
        ),
        Table(
            f"{title}: {results.options.confidence:.0%} confidence intervals",
            (*HEAD, *score_columns.score_columns(results)),
            tuple(_heads(score_columns.rows(results, spread), results)),
            (*notes.intervals([results], "figure6.csv"), notes.SAVED),
        ),
        comparison_tables.contrast_table(
            saved,
            f"{title}: Δr > 0 against Δr = 0 at the same r",
            ("r", "Δr"),
            pairs,
            [*([comparison_tables.tally(saved, pairs)] if pairs else []), kept, *([claim] if claim else [])],
        ),
        comparison_tables.baseline_table(results, title, HEAD, _heads(score_columns.rows(results), results)),
    ]


def _heads(rows: Sequence[TableRow], results: Results) -> list[TableRow]:
    """Rows with r and Δr in place of the setting, a rule above each r."""
    found, before = [], None
    for row, spec in zip(rows, results.rows, strict=True):
        values = [f"{spec.params[name]:g}" if name in spec.params else "" for name in ("r", "delta_r")]
        found.append(TableRow((row.cells[0], *map(TableCell, values), *row.cells[2:]), rule=values[0] != before))
        before = values[0]
    return found


def paired_table(saved: Savings) -> pd.DataFrame:
    """Δr > 0 against Δr = 0 at the same r: one line per pair, benchmark and metric, and the average over them."""
    results, lines = saved.results, []
    for one in against_zero(results):
        row = results.rows[one.changed]
        head = {"model": results.model, "r": row.params["r"], "delta_r": row.params["delta_r"]}
        kept = paired_contrasts.kept_points(saved, one)
        head |= {"kept_difference": kept.value, "kept_low": kept.low, "kept_high": kept.high}
        changes = {
            column: (results.change(one.changed, *column, one.base), results.paired(one.changed, one.base, column[0]))
            for column in results.columns()
        }
        whole = results.average_change(one.changed, base=one.base)
        changes["average", "scores"] = (
            whole,
            sum(results.paired(one.changed, one.base, name) for name in results.finished()),
        )
        for (benchmark, metric), (change, shared) in changes.items():
            found = {"relative_to_delta_r_0": change.value, "ci_low": change.low, "ci_high": change.high}
            lines.append({**head, "benchmark": benchmark, "metric": metric, **found, "n_common": shared})
    columns = ["model", "r", "delta_r", "benchmark", "metric", "relative_to_delta_r_0", "ci_low", "ci_high", "n_common",
               "kept_difference", "kept_low", "kept_high"]  # fmt: skip
    return pd.DataFrame(lines, columns=columns)


def _notes(results: Results, profile: str, picture: str, refused: Sequence[str]) -> list[str]:
    """Most important first."""
    parts = [results]
    found = [f"The figure: {picture} and the .pdf beside it; the .csv has every point."]
    found.append(notes.profile(profile, several=False))
    found += [*notes.run(parts), *notes.samples(parts), *notes.images(parts), notes.scores(parts)]
    found.append(
        f"Bars in the figure: {results.options.confidence:.0%} intervals of the change against Uncompressed, paired by "
        "sample, around its line: a bar that does not reach the line differs from it. Points of one Δr are drawn side "
        "by side. Captions are drawn with one of their two metrics; --caption-metric meteor draws the other one."
    )
    found += [notes.ranking(parts), f"In parentheses behind the scores: {notes.CHANGES[results.options.gains]}."]
    found += [notes.average(parts), notes.COSTS]
    found.append(
        "The benchmarks are those of the paper's figure; its values of r and Δr are not known here: "
        "configs/table/figure6.yaml has a grid, tasks=… chooses other benchmarks."
    )
    found += [f"Combinations that the method refuses: {'; '.join(refused)}."] if refused else []
    return found + notes.failures(parts) + notes.gaps(parts)
