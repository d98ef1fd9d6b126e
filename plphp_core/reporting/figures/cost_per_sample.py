"""Figure 7: decode time per token and KV cache, sample by sample, one curve per row of Table 4."""

from __future__ import annotations

import math

import numpy as np

from plphp_core.analysis.bootstrap import MISSING
from plphp_core.analysis.costs import DECODE, KV, Costs, per_sample
from plphp_core.reporting import cost_columns, score_columns
from plphp_core.reporting.figures import drawing
from plphp_core.reporting.table_model import Table, TableCell, TableColumn, TableRow, number

HEAD = (TableColumn("Method", text=True), TableColumn("Setting", text=True))
RAW = 150  # samples up to which curves go through every one; of more, a running median over faint points
# points as pixels: twenty thousand of them would make a heavy PDF
SINGLE = {
    "linestyle": "none",
    "marker": ".",
    "markersize": 1.2,
    "markeredgewidth": 0,
    "alpha": 0.15,
    "rasterized": True,
}
QUANTILES = (0.05, 0.5, 0.95)


def draw(costs: Costs, profile: str) -> dict[str, bytes]:
    """The figure as "pdf" and "png": decode time above, KV cache below, over the samples in the data set's order."""
    with drawing.style():
        rows, cells = costs.results.rows, costs.cells()
        unit, scale = cost_columns.kv_unit(costs)
        figure = drawing.blank(3.2 + 0.14 * math.ceil(len(cells) / 2))
        latency, cache = figure.subplots(2, 1, sharex=True)
        position = {doc: at for at, doc in enumerate(_documents(costs), start=1)}
        many = len(position) > RAW
        for index, look in enumerate(drawing.lines(rows)):
            if index not in cells:
                continue
            cell = cells[index]
            order = np.argsort(cell.doc_ids)
            at = np.array([position[doc] for doc in cell.doc_ids[order].tolist()])
            for axes, values in (
                (latency, per_sample(cell, DECODE)[order]),
                (cache, per_sample(cell, KV)[order] / scale),
            ):
                if many:
                    axes.plot(at, values, **look | SINGLE)
                shown = running_median(values, window(len(values))) if many else values
                axes.plot(at, shown, **look, label=costs.results.label(index), zorder=3)
        latency.set_ylabel("decode (ms/token)")
        if (top := ceiling(costs)) is not None:
            latency.set_ylim(top=top)
        latency.set_ylim(bottom=0)
        cache.set_ylabel(f"KV cache ({unit})")
        cache.set_ylim(bottom=0)
        cache.set_xlabel(f"sample of {costs.benchmark}")
        cache.set_xlim(1, max(len(position), 2))
        handles, labels = latency.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=2, columnspacing=1.2, handlelength=1.8)
        latency.set_title(f"{costs.results.title}{score_columns.where(profile)}", fontsize=8)
        return drawing.files(figure)


def sheets(costs: Costs, profile: str, png: str) -> list[Table]:
    """What the curves show, in numbers, and the notes that belong below the figure.

    Args:
        png: name of the picture's file, for the notes.
    """
    unit, scale = cost_columns.kv_unit(costs)
    columns = (
        *HEAD,
        *[TableColumn(name, "Decode ms/token") for name in ("5%", "median", "95%")],
        *[TableColumn(name, f"KV cache {unit}") for name in ("5%", "median", "95%")],
    )

    def line(results, index: int) -> list[TableCell]:
        cell = costs.cell(index)
        if cell is None:
            return [TableCell()] * 6
        return [*_quantiles(per_sample(cell, DECODE)), *_quantiles(per_sample(cell, KV) / scale)]

    found = [f"The figure: {png} and the .pdf beside it; the .csv has every point."]
    found += [*cost_columns.conditions(costs, profile), *cost_columns.measures(costs, DECODE, KV)]
    drawn = f"Curves over the samples in the data set's order; 5% to 95%: of the {len(_documents(costs))} samples."
    if len(_documents(costs)) > RAW:
        most = max(window(cell.n) for cell in costs.cells().values())
        drawn += f" Points: every sample; curves: running median of {most}."
    found.append(drawn)
    if (above := _above(costs)) > 0:
        found.append(f"Not drawn: {above} samples whose decode time lies above the axis.")
    rows: list[TableRow] = score_columns.rows(costs.results, line)
    found += cost_columns.unfinished(costs)
    title = (
        f"Figure 7{score_columns.where(profile)}: costs sample by sample, {costs.results.title} on {costs.benchmark}"
    )
    return [Table(title, columns, tuple(rows), tuple(found))]


def window(samples: int) -> int:
    """Odd width of the running median: about a fortieth of the samples."""
    return 2 * (samples // 80) + 1


def running_median(values: np.ndarray, width: int) -> np.ndarray:
    """Median of the `width` values around each one (fewer at the ends), nan left out."""
    half = width // 2
    around = [values[max(at - half, 0) : at + half + 1] for at in range(len(values))]
    return np.array([np.nan if np.isnan(some).all() else np.nanmedian(some) for some in around])


def ceiling(costs: Costs) -> float | None:
    """Where the decode axis ends: above the 99th percentile of every row, so that one outlier does not flatten all."""
    values = [per_sample(cell, DECODE) for cell in costs.cells().values()]
    tops = [float(np.nanquantile(some, 0.99)) for some in values if not np.isnan(some).all()]
    return 1.15 * max(tops) if tops and max(tops) > 0 else None


def _above(costs: Costs) -> int:
    top = ceiling(costs)
    if top is None:
        return 0
    return sum(int((per_sample(cell, DECODE) > top).sum()) for cell in costs.cells().values())


def _documents(costs: Costs) -> list[int]:
    return sorted({doc for cell in costs.cells().values() for doc in cell.doc_ids.tolist()})


def _quantiles(values: np.ndarray) -> list[TableCell]:
    values = values[~np.isnan(values)]
    return [TableCell(number(float(np.quantile(values, q)) if len(values) else MISSING.value)) for q in QUANTILES]
