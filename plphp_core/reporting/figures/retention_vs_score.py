"""Figure 5: vision tokens kept against score, a panel per benchmark, a polyline per method over its settings."""

from __future__ import annotations

import math
from collections.abc import Sequence

from plphp_core.analysis.bootstrap import scaled
from plphp_core.analysis.results import Results
from plphp_core.analysis.retention_stats import Savings
from plphp_core.pruning.method import method_label
from plphp_core.reporting import comparison_tables, notes, score_columns
from plphp_core.reporting.figures import drawing
from plphp_core.reporting.table_model import Table, TableCell, TableColumn, TableRow, bounds, number, percent

HEAD = (TableColumn("Method", text=True), TableColumn("Setting", text=True))


def metric_of(results: Results, benchmark: str, captions: str) -> tuple[str, str]:
    """The metric drawn for a benchmark, and its heading; of two, the one called `captions`."""
    own = results.headings(benchmark)
    metric = captions if captions in own else next(iter(own))
    return metric, own[metric]


def draw(saved: Savings, profile: str, captions: str) -> dict[str, bytes]:
    """The figure as "pdf" and "png".

    Args:
        captions: metric of the caption benchmarks, "cider" or "meteor".
    """
    results = saved.results
    names = results.asked()
    methods = list(dict.fromkeys(row.method for row in results.rows if row.method != "none"))
    with drawing.style():
        figure, axes, place = drawing.panels(len(names), 1.3, extra=0.45)
        for panel, name in zip(axes, names, strict=True):
            metric, heading = metric_of(results, name, captions)
            panel.set_title(f"{name} ({heading})", fontsize=8)
            level = results.score(results.reference, name, metric)
            if not math.isnan(level.value):
                drawing.reference(panel, scaled(level, 100), "Uncompressed")
            for method in methods:
                _polyline(panel, saved, name, metric, method, methods)
            if not panel.has_data():
                drawing.nothing(panel)
        figure.supxlabel("vision tokens kept (%)", fontsize=8)
        figure.supylabel("score × 100", fontsize=8)
        drawing.legend(figure, axes, place, f"{results.title}{score_columns.where(profile)}")
        return drawing.files(figure)


def _polyline(panel, saved: Savings, benchmark: str, metric: str, method: str, methods: Sequence[str]) -> None:
    """A method's settings in the order of what they keep, with their intervals."""
    points = []
    for index, row in enumerate(saved.results.rows):
        kept, score = saved.retention.get((index, benchmark)), saved.results.score(index, benchmark, metric)
        if row.method == method and kept is not None and not math.isnan(kept.value + score.value):
            points.append((scaled(kept, 100), scaled(score, 100)))
    points.sort(key=lambda point: point[0].value)
    look = drawing.colour(method, methods)
    for kept, score in points:
        drawing.bars(panel, kept, score, look)
    if points:
        x, y = ([one.value for one in some] for some in zip(*points, strict=True))
        shape = drawing.marker(method, methods)
        panel.plot(x, y, color=look, marker=shape, markersize=3, label=method_label(method), zorder=3)


def sheets(saved: Savings, profile: str, picture: str, captions: str) -> list[Table]:
    """What is drawn, in numbers, the intervals, and each setting against Uncompressed and the best baseline.

    Args:
        picture: name of the figure's file, for the notes.
    """
    results = saved.results
    title = f"Figure 5{score_columns.where(profile)}"
    drawn = [(name, *metric_of(results, name, captions)) for name in results.asked()]
    columns = [
        column for name, _, heading in drawn for column in (TableColumn("kept", name), TableColumn(heading, name))
    ]

    def line(results: Results, index: int) -> list[TableCell]:
        return [entry for name, metric, _ in drawn for entry in _point(saved, index, name, metric)]

    def spread(results: Results, index: int) -> list[TableCell]:
        return [entry for name, metric, _ in drawn for entry in _spread(saved, index, name, metric)]

    rows: list[TableRow] = score_columns.rows(results, line)
    heading = f"{results.options.confidence:.0%} confidence intervals, in percent and ×100"
    return [
        Table(
            f"{title}: vision kept and score, {results.title}",
            (*HEAD, *columns),
            tuple(rows),
            tuple(_notes(results, profile, picture)),
        ),
        Table(
            f"{title}: {heading}",
            (*HEAD, *columns),
            tuple(score_columns.rows(results, spread)),
            tuple(notes.intervals([results], "figure5.csv")),
        ),
        comparison_tables.baseline_table(results, title, HEAD, score_columns.rows(results)),
    ]


def _point(saved: Savings, index: int, benchmark: str, metric: str) -> tuple[TableCell, TableCell]:
    cell = saved.results.cells.get((index, benchmark))
    if cell is None:
        return TableCell(), TableCell()
    score = 100 * saved.results.score(index, benchmark, metric).value
    mark = f"†{cell.errors}" if cell.errors else ""
    return TableCell(percent(saved.retention[index, benchmark].value, 1, signed=False)), TableCell(
        number(score), mark=mark
    )


def _spread(saved: Savings, index: int, benchmark: str, metric: str) -> tuple[TableCell, TableCell]:
    kept, score = saved.retention.get((index, benchmark)), saved.results.score(index, benchmark, metric)
    if kept is None:
        return TableCell(), TableCell()
    return TableCell(bounds(kept.low, kept.high)), TableCell(bounds(score.low, score.high))


def _notes(results: Results, profile: str, picture: str) -> list[str]:
    """Most important first."""
    parts = [results]
    found = [f"The figure: {picture} and the .pdf beside it; the .csv has every point, both metrics of the captions."]
    found.append(notes.profile(profile, several=False))
    if profile == "toy":
        found[-1] += " Layer numbers K of FastV and VTW are scaled to the toy's depth."
    found += [*notes.run(parts), *notes.samples(parts), *notes.images(parts), notes.scores(parts)]
    found.append(
        "Kept: share of the vision tokens in the cache, mean over layers and samples (the paper's RR). Bars: intervals "
        "of the two numbers, and the band that of Uncompressed; rows share their samples, so that overlapping bars may "
        "still differ: paired comparisons are below and in the .csv."
    )
    found.append("Captions are drawn with one of their two metrics; --caption-metric meteor draws the other one.")
    return found + notes.failures(parts) + notes.gaps(parts)
