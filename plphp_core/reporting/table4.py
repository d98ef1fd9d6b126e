"""Table 4: what the methods score on one benchmark and what they cost there: cache, decode time, evaluation time."""

from __future__ import annotations

from dataclasses import replace

from plphp_core.analysis.comparable import one_protocol
from plphp_core.analysis.estimates import DECODE, EVALUATION, FEWEST, KV, RETENTION
from plphp_core.analysis.results import Results
from plphp_core.reporting import cost_columns, notes, score_columns
from plphp_core.reporting.table_model import Table
from plphp_core.reporting.table_spec import Reference, TableSpec, nothing, where


def sheets(results: Results, label: str, profile: str, reference: Reference) -> list[Table]:
    """Scores and costs, then their intervals.

    Args:
        label: the benchmark.
        reference: published numbers, `published.load_reference`.
    """
    title = f"Reproduction of Table 4{where(profile)}"
    columns = [
        *[replace(column, gain=nothing) for column in score_columns.scores(results, [label])],
        cost_columns.retention(results, label),
        cost_columns.size(results, label),
        cost_columns.saved(results, label),
        cost_columns.decode(results, label),
        cost_columns.change(results, label, DECODE, "Decode"),
        cost_columns.seconds(results, label),
        cost_columns.change(results, label, EVALUATION, "Evaluation"),
    ]
    what, said = f"scores and costs on {label}, {results.title}", _notes(results, label, profile, bool(reference))
    spec = TableSpec(title, what, results, columns, said, _interval_notes(results, label), reference=reference)
    return [spec.numbers(), spec.intervals()]


def _notes(results: Results, label: str, profile: str, published: bool) -> tuple[str, ...]:
    """Most important first."""
    parts = [results]
    found = cost_columns.conditions(results, profile)
    if profile == "toy":
        found[0] += " Layer numbers K of FastV and VTW are scaled to the toy's depth."
    captions = one_protocol(label)
    found.append(f"Scores ×100: CIDEr (C) and METEOR (M).{notes.undefined(parts)}" if captions else notes.scores(parts))
    among = "the compressed rows" if results.options.rank == "compressed" else "all rows"
    found.append(f"Bold and underlined: best and second score among {among}. Costs are not ranked.")
    found += cost_columns.measures(results, label, RETENTION, KV, DECODE, EVALUATION)
    found.append("The paper's settings of FastV and VTW in this table are not known here: the middle ones of Table 1.")
    found.append("As published: in the units the paper prints." if published else notes.UNPUBLISHED)
    return (*found, *cost_columns.unfinished(results))


def _interval_notes(results: Results, label: str) -> tuple[str, ...]:
    options = results.options
    return (
        f"Scores and KV cache: percentile bootstrap over samples, {options.resamples:,} resamples, seed "
        f"{options.seed}, shared by all rows.",
        cost_columns.times(results, label)[0],
        f"n/a: fewer than two samples (for times {FEWEST}, or {FEWEST} batches), scores that are all alike, or "
        "nothing to compare with.",
    )
