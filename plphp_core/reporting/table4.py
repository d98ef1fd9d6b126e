"""Table 4: what the methods score on one benchmark and what they cost there: cache, decode time, evaluation time."""

from __future__ import annotations

import math

from plphp_core.analysis.comparable import one_protocol
from plphp_core.analysis.costs import DECODE, EVALUATION, FEWEST, KV, RETENTION, Costs
from plphp_core.analysis.results import Results
from plphp_core.reporting import cost_columns, notes, score_columns
from plphp_core.reporting.table_model import Table, TableCell, TableColumn, TableRow, bounds, number

HEAD = (TableColumn("Method", text=True), TableColumn("Setting", text=True))
PUBLISHED = ("kv_cache_size", "decode_latency", "evaluation_time")  # metrics of the reference file, besides scores


def sheets(costs: Costs, profile: str, reference: score_columns.Reference) -> list[Table]:
    """Scores and costs, then their intervals.

    Args:
        reference: published numbers, `published.load_reference`.
    """
    results, label = costs.results, costs.benchmark
    title = f"Reproduction of Table 4{score_columns.where(profile)}"
    scored = list(results.headings(label).items())
    columns = (
        *HEAD,
        *[TableColumn(heading, label) for _, heading in scored],
        TableColumn("kept", "Vision"),
        *[TableColumn(name, "KV cache") for name in (cost_columns.kv_unit(costs)[0], "saved")],
        *[TableColumn(name, "Decode") for name in ("ms/token", "change")],
        *[TableColumn(name, "Evaluation") for name in ("s", "change")],
    )

    def line(results: Results, index: int) -> list[TableCell]:
        return [
            *[_score(costs, index, metric) for metric, _ in scored],
            cost_columns.retention(costs, index),
            cost_columns.size(costs, index),
            cost_columns.saved(costs, index),
            cost_columns.decode(costs, index),
            cost_columns.change(costs, index, DECODE),
            cost_columns.seconds(costs, index),
            cost_columns.change(costs, index, EVALUATION),
        ]

    rows = score_columns.rows(results, line)
    values = [[100 * results.score(index, label, metric).value for index in range(len(rows))] for metric, _ in scored]
    rows = score_columns.marked(rows, values, results, len(HEAD))
    own = _published(reference, label, [metric for metric, _ in scored])
    rows += own or [score_columns.nothing_published(len(columns) - len(HEAD))]
    measured = Table(
        f"{title}: scores and costs on {label}, {results.title}",
        columns,
        tuple(rows),
        _notes(costs, profile, bool(own)),
    )
    return [measured, _intervals(costs, title, scored)]


def _score(costs: Costs, index: int, metric: str) -> TableCell:
    cell = costs.cell(index)
    value = costs.results.score(index, costs.benchmark, metric).value
    return TableCell(number(100 * value), mark=f"†{cell.errors}" if cell is not None and cell.errors else "")


def _published(reference: score_columns.Reference, label: str, scored: list[str]) -> list[TableRow]:
    """The paper's rows, as far as they are known, in the units it prints."""
    found = []
    for position, ((method, setting), known) in enumerate(reference.items()):
        entries = [TableCell(number(known.get((label, name), math.nan))) for name in (*scored, *PUBLISHED)]
        *scores, cache, latency, seconds = entries
        line = [*scores, TableCell(), cache, TableCell(), latency, TableCell(), seconds, TableCell()]
        found.append(TableRow((*score_columns.published_head(method, setting), *line), rule=position == 0))
    return found


def _notes(costs: Costs, profile: str, published: bool) -> tuple[str, ...]:
    """Most important first."""
    parts = [costs.results]
    found = cost_columns.conditions(costs, profile)
    if profile == "toy":
        found[0] += " Layer numbers K of FastV and VTW are scaled to the toy's depth."
    captions = one_protocol(costs.benchmark)
    found.append(f"Scores ×100: CIDEr (C) and METEOR (M).{notes.undefined(parts)}" if captions else notes.scores(parts))
    among = "the compressed rows" if costs.results.options.rank == "compressed" else "all rows"
    found.append(f"Bold and underlined: best and second score among {among}. Costs are not ranked.")
    found += cost_columns.measures(costs, RETENTION, KV, DECODE, EVALUATION)
    found.append("The paper's settings of FastV and VTW in this table are not known here: the middle ones of Table 1.")
    found.append("As published: in the units the paper prints." if published else notes.UNPUBLISHED)
    return (*found, *cost_columns.unfinished(costs))


def _intervals(costs: Costs, title: str, scored: list[tuple[str, str]]) -> Table:
    unit, scale = cost_columns.kv_unit(costs)
    columns = (
        *HEAD,
        *[TableColumn(heading, costs.benchmark) for _, heading in scored],
        TableColumn(unit, "KV cache"),
        *[TableColumn(name, "Decode") for name in ("ms/token", "change")],
        TableColumn("change", "Evaluation"),
    )

    def line(results: Results, index: int) -> list[TableCell]:
        scores = [results.score(index, costs.benchmark, metric) for metric, _ in scored]
        reference = index == results.reference and costs.cell(index) is not None
        changes = [costs.change(index, quantity) for quantity in (DECODE, EVALUATION)]
        decode, evaluation = (
            TableCell("reference" if reference else bounds(one.low, one.high, signed=True)) for one in changes
        )
        return [
            *[TableCell(bounds(score.low, score.high)) for score in scores],
            TableCell(cost_columns.span(costs.value(index, KV), 1 / scale)),
            TableCell(cost_columns.span(costs.value(index, DECODE))),
            decode,
            evaluation,
        ]

    options = costs.results.options
    said = (
        f"Scores and KV cache: percentile bootstrap over samples, {options.resamples:,} resamples, seed "
        f"{options.seed}, shared by all rows.",
        cost_columns.times(costs)[0],
        f"n/a: fewer than two samples (for times {FEWEST}, or {FEWEST} batches), scores that are all alike, or "
        "nothing to compare with.",
    )
    heading = f"{title}: {options.confidence:.0%} confidence intervals"
    return Table(heading, columns, tuple(score_columns.rows(costs.results, line)), said)
