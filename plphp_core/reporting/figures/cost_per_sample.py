"""Figure 7: decode time per token and KV cache, sample by sample, one curve per row of Table 4."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from plphp_core.analysis.bootstrap import DECODE, KV, Estimate, exactly
from plphp_core.analysis.comparable import RowSpec
from plphp_core.analysis.method_style import is_control, method_style
from plphp_core.analysis.results import NothingToShow, Results
from plphp_core.config.locations import measured_apart
from plphp_core.config.table_configs import table_config
from plphp_core.records.cell_result import CellResult, load_cells
from plphp_core.reporting import cost_columns, notes
from plphp_core.reporting.configured import benchmark_configured
from plphp_core.reporting.csv_export import sample_table
from plphp_core.reporting.figures import drawing
from plphp_core.reporting.figures.figure_spec import FigureSpec, Page, Shown
from plphp_core.reporting.request import ReportRequest, on_benchmarks
from plphp_core.reporting.table_model import Table, TableColumn
from plphp_core.reporting.table_spec import HEAD, NumberColumn, TableSpec, fronts

RAW = 150  # samples up to which curves go through every one; of more, a running median over faint points
# points as pixels: twenty thousand of them would make a heavy PDF
SINGLE = {"linestyle": "none", "marker": ".", "markersize": 1.2, "markeredgewidth": 0, "alpha": 0.15,
          "rasterized": True}  # fmt: skip
DASHES = ("-", "--", ":", "-.")  # rows of one method; of a control, from the second on
QUANTILES = {"5%": 0.05, "median": 0.5, "95%": 0.95}


@dataclass(frozen=True, eq=False)
class SampleCosts:
    """What the figure shows. frame: `sample_table`, one line per row and document, in the data set's order."""

    results: Results
    benchmark: str
    frame: pd.DataFrame

    @property
    def cells(self) -> dict[int, CellResult]:
        """Row index → finished cell."""
        return self.results.on(self.benchmark)

    @property
    def samples(self) -> int:
        """Documents that any row answered."""
        return int(self.frame.position.max())

    @property
    def ceiling(self) -> float:
        """Where the decode axis ends: above the 99th percentile of every row, so that one outlier does not flatten all.

        nan where no time was measured.
        """
        return 1.15 * pd.Series([self.of_row(index)[DECODE].quantile(0.99) for index in self.cells]).max()

    def of_row(self, index: int) -> pd.DataFrame:
        """The lines of one row, which are together."""
        cells = self.cells
        rows = np.repeat(list(cells), [cell.n for cell in cells.values()])
        return self.frame[rows == index]


def gather(asked: ReportRequest) -> Shown[SampleCosts]:
    """The costs of the rows of Table 4 on its benchmark, or the one that was asked for, one sample at a time.

    Raises NothingToShow where samples were answered in batches, ReportError.
    """
    benchmark = benchmark_configured(asked.options.tasks, "figure7")
    config = table_config("figure7", asked.profile)
    folder = measured_apart(asked.folder, config.table.batch_size, config.profile.batch_size)
    again = f"make reproduce-figure7 PROFILE={asked.profile}"
    if folder != asked.folder:
        if not (folder / "cells").is_dir():
            raise NothingToShow(f"no sample has been answered alone, outside of a batch; {again}")
        asked = replace(asked, cells=load_cells(folder / "cells", asked.profile))
    results, _, variant = on_benchmarks("figure7", asked)
    if shared := {cell.batch_size for cell in results.on(benchmark).values()} - {1, None}:
        raise NothingToShow(
            f"answered in batches of {max(shared)}, whose samples share one time, not one at a time; {again} "
            "RESULTS=another folder"
        )
    return Shown(SampleCosts(results, benchmark, sample_table(results, benchmark)), variant, [results])


def draw(content: SampleCosts, page: Page) -> Figure:
    """Decode time above, KV cache below, over the samples in the data set's order."""
    results, cells = content.results, content.cells
    unit, scale = cost_columns.kv_unit(results, content.benchmark)
    figure = drawing.blank(3.2 + 0.14 * math.ceil(len(cells) / 2))
    latency, cache = figure.subplots(2, 1, sharex=True)
    many, every = content.samples > RAW, max(1, content.samples // 12)
    for at, (index, look) in enumerate((index, row_lines(results.rows)[index]) for index in cells):
        lines = content.of_row(index)
        for axes, values in ((latency, lines[DECODE]), (cache, lines[KV] / scale)):
            if many:
                axes.plot(lines.position, values, **look | SINGLE)
                values = running_median(values)
            where = (at * every // len(cells), every)  # markers of different rows beside each other
            axes.plot(lines.position, values, label=results.label(index), markevery=where, zorder=3, **look)
    latency.set(ylabel="decode (ms/token)", title=f"{results.title}{page.where}")
    if content.ceiling > 0:
        latency.set_ylim(top=content.ceiling)
    for axes in (latency, cache):
        axes.set_ylim(bottom=0)
    cache.set(ylabel=f"KV cache ({unit})", xlabel=f"sample of {content.benchmark}", xlim=(0.5, content.samples + 0.5))
    cache.xaxis.get_major_locator().set_params(integer=True)
    handles, labels = latency.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2)
    return figure


def row_lines(rows: Sequence[RowSpec]) -> list[dict[str, Any]]:
    """How each row is drawn: its method's colour and marker, rows of one method told apart by their dashes."""
    names = [row.method for row in rows]
    dashes = [DASHES[(names[:at].count(name) + is_control(name)) % len(DASHES)] for at, name in enumerate(names)]
    looks = map(method_style, names)
    return [
        {"color": look.colour, "marker": look.marker or "D", "linestyle": dash, "linewidth": 0.8}
        for look, dash in zip(looks, dashes, strict=True)
    ]


def window(samples: int) -> int:
    """Odd width of the running median: about a fortieth of the samples."""
    return 2 * (samples // 80) + 1


def running_median(values: pd.Series) -> pd.Series:
    """Median of the values around each one (fewer at the ends), nan left out."""
    return values.rolling(window(len(values)), center=True, min_periods=1).median()


def tables(content: SampleCosts, page: Page) -> list[Table]:
    """What the curves show, in numbers."""
    results, parts = content.results, [content.results]
    unit, scale = cost_columns.kv_unit(results, content.benchmark)

    def column(heading: TableColumn, quantity: str, unit: float, q: float) -> NumberColumn:
        def estimate(index: int) -> Estimate:
            return exactly((content.of_row(index)[quantity] / unit).quantile(q))

        return NumberColumn(heading, estimate, scale=1)

    columns = [
        column(TableColumn(name, group), quantity, by, q)
        for group, quantity, by in (("Decode ms/token", DECODE, 1.0), (f"KV cache {unit}", KV, float(scale)))
        for name, q in QUANTILES.items()
    ]
    drawn = "Measured one sample at a time: samples of a batch would share its time. "
    drawn += f"Curves over the samples in the data set's order; 5% to 95%: of the {content.samples} samples."
    if content.samples > RAW:
        most = max(window(cell.n) for cell in content.cells.values())
        drawn += f" Points: every sample; curves: running median of {most}."
    above = int((content.frame[DECODE] > content.ceiling).sum()) if content.ceiling > 0 else 0
    own = [
        cost_columns.SENTENCES[DECODE],
        cost_columns.SENTENCES[KV],
        *cost_columns.times(parts, page.profile),
        drawn,
        *([f"Not drawn: {above} samples whose decode time lies above the axis."] if above else []),
        *filter(None, [notes.unreferenced(parts)]),
    ]
    said = notes.framed(parts, (page.files, notes.profile(page.profile, several=False)), own)
    title = f"{page.title}: costs sample by sample, {results.title} on {content.benchmark}"
    return [TableSpec(title, HEAD, fronts(results), columns, said).numbers()]


FIGURE7 = FigureSpec(
    "figure7",
    gather,
    tables,
    {"": draw},
    "the .csv has every point",
    "What to look for: whether a method's curve lies below that of Uncompressed throughout, or only where prompts are "
    "long; below, how much less it holds of each sample.",
    {"": lambda content: content.frame},
)
