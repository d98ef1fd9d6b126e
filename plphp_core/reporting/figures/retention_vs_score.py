"""Figure 5: vision tokens kept against score, a panel per benchmark, a polyline per method over its settings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from plphp_core.analysis.bootstrap import scaled
from plphp_core.analysis.estimates import RETENTION
from plphp_core.analysis.method_style import method_style
from plphp_core.analysis.results import Results
from plphp_core.reporting import comparison_tables, notes, score_columns
from plphp_core.reporting.csv_export import long_table
from plphp_core.reporting.figures import drawing
from plphp_core.reporting.figures.figure_spec import FigureSpec, Page, Shown
from plphp_core.reporting.request import ReportRequest, on_benchmarks
from plphp_core.reporting.table_model import Table, TableColumn, number
from plphp_core.reporting.table_spec import HEAD, NumberColumn, TableSpec, fronts, share

CAPTIONS = "Captions are drawn with one of their two metrics; report.caption_metric=meteor draws the other one."


@dataclass(frozen=True, eq=False)
class ScorePanels:
    """What Figures 5 and 6 show: scores and vision kept on benchmarks, a panel each.

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


def gather(asked: ReportRequest) -> Shown[ScorePanels]:
    """The rows of Table 1 on all benchmarks, or those that were asked for."""
    results, _, variant = on_benchmarks("figure5", asked)
    content = ScorePanels(results, results.asked(), asked.options.caption_metric)
    return Shown(content, variant, [results])


def draw(content: ScorePanels, page: Page) -> Figure:
    """A panel per benchmark."""
    results = content.results
    figure, panels, place = drawing.panels(len(content.benchmarks), 1.3, extra=0.45)
    for axes, name in zip(panels, content.benchmarks, strict=True):
        metric, heading = content.metric(name)
        axes.set_title(f"{name} ({heading})")
        level = results.value(results.reference, name, metric)
        if not math.isnan(level.value):
            drawing.reference(axes, scaled(level, 100))
        for method in dict.fromkeys(row.method for row in results.rows if row.method != "none"):
            _polyline(axes, content, name, method)
        if not axes.has_data():
            drawing.nothing(axes)
    figure.supxlabel("vision tokens kept (%)")
    figure.supylabel("score × 100")
    drawing.legend(figure, panels, place, f"{results.title}{page.where}")
    return figure


def _polyline(axes: Axes, content: ScorePanels, benchmark: str, method: str) -> None:
    """A method's settings in the order of what they keep, with their intervals."""
    points, look = [], method_style(method)
    for index, row in enumerate(content.results.rows):
        kept = content.results.value(index, benchmark, RETENTION)
        score = content.results.value(index, benchmark, content.metric(benchmark)[0])
        if row.method == method and not math.isnan(kept.value + score.value):
            points.append((scaled(kept, 100), scaled(score, 100)))
    points.sort(key=lambda point: point[0].value)
    for kept, score in points:
        drawing.bars(axes, kept, score, look.colour)
    if points:
        x, y = ([one.value for one in some] for some in zip(*points, strict=True))
        axes.plot(x, y, color=look.colour, marker=look.marker, label=look.label, zorder=3)


def tables(content: ScorePanels, page: Page) -> list[Table]:
    """What is drawn, in numbers, the intervals, and each setting against Uncompressed and the best baseline."""
    results = content.results
    columns = [column for name in content.benchmarks for column in _columns(content, name)]
    said = notes.intervals([results], "figure5.csv")
    what = f"vision kept and score, {results.title}"
    spec = TableSpec(page.title, what, results, columns, _notes(results, page), said)
    intervals = replace(
        spec.intervals(),
        title=f"{page.title}: {results.options.confidence:.0%} confidence intervals, in percent and ×100",
    )
    return [spec.numbers(), intervals, comparison_tables.baseline_table(results, page.title, HEAD, fronts(results))]


def _columns(content: ScorePanels, benchmark: str) -> list[NumberColumn]:
    """Vision tokens kept and the score that is drawn."""
    results, (metric, heading) = content.results, content.metric(benchmark)
    kept = NumberColumn(
        TableColumn("kept", benchmark),
        lambda index: results.value(index, benchmark, RETENTION),
        share,
        ends=number,
    )
    score = NumberColumn(
        TableColumn(heading, benchmark),
        lambda index: results.value(index, benchmark, metric),
        mark=lambda index: score_columns.failed(results, index, benchmark),
    )
    return [kept, score]


def _notes(results: Results, page: Page) -> list[str]:
    """Most important first."""
    parts = [results]
    scaled_depth = " Layer numbers K of FastV and VTW are scaled to the toy's depth." if page.profile == "toy" else ""
    return [
        page.files,
        notes.profile(page.profile, several=False) + scaled_depth,
        *notes.run(parts),
        *notes.samples(parts),
        *notes.images(parts),
        notes.scores(parts),
        "Kept: share of the vision tokens in the cache, mean over layers and samples (the paper's RR). Bars: intervals "
        "of the two numbers, and the band that of Uncompressed; rows share their samples, so that overlapping bars may "
        "still differ: paired comparisons are below and in the .csv.",
        CAPTIONS,
        *notes.failures(parts),
        *notes.gaps(parts),
    ]


FIGURE = FigureSpec(
    "figure5",
    gather,
    tables,
    {"": draw},
    "the .csv has every point, both metrics of the captions",
    {"": lambda content: long_table(content.results)},
)
