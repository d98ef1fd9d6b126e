"""Table 1: four methods in ten settings on seven benchmarks, LLaVA-OneVision."""

from __future__ import annotations

from collections.abc import Sequence

from plphp_core.analysis.results import Results
from plphp_core.reporting import comparison_tables, notes, score_columns
from plphp_core.reporting.table_model import Table, TableColumn

HEAD = (TableColumn("Method", text=True), TableColumn("Setting", text=True))


def sheets(
    results: Results, profile: str, reference: score_columns.Reference, depth: Sequence[str] = ()
) -> list[Table]:
    """The paper's layout first, then intervals, then what the rows are worth against each other, then the toy profile's
    slot accuracy.

    Args:
        reference: published scores, `published.load_reference`.
        depth: what VTW's own rule says of its K, `vtw_rule.note`.
    """
    title = f"Reproduction of Table 1{score_columns.where(profile)}"
    rows = score_columns.marked(
        score_columns.rows(results, score_columns.score_line), score_columns.score_values(results), results, len(HEAD)
    )
    rows += score_columns.published_rows(results, reference) or [
        score_columns.nothing_published(len(score_columns.score_columns(results)))
    ]
    scores = Table(
        f"{title}: methods × benchmarks, {results.title}",
        (*HEAD, *score_columns.score_columns(results)),
        tuple(rows),
        tuple(_score_notes(results, profile, bool(reference), depth)),
    )
    intervals = Table(
        f"{title}: {results.options.confidence:.0%} confidence intervals",
        (*HEAD, *score_columns.interval_columns(results)),
        tuple(score_columns.rows(results, score_columns.interval_line)),
        tuple(notes.intervals([results], "table1_relative.csv")),
    )
    found = [scores, intervals, comparison_tables.baseline_table(results, title, HEAD, score_columns.rows(results))]
    if score_columns.has_slots(results):
        rows = score_columns.marked(
            score_columns.rows(results, score_columns.slot_line), score_columns.slot_values(results), results, len(HEAD)
        )
        found.append(
            Table(
                f"{title}: slot accuracy",
                (*HEAD, *score_columns.slot_columns(results)),
                tuple(rows),
                notes.SLOT_ACCURACY,
            )
        )
    return found


def _score_notes(results: Results, profile: str, published: bool, depth: Sequence[str]) -> list[str]:
    """Most important first."""
    options, parts = results.options, [results]
    found = [notes.profile(profile, several=False)]
    if profile == "toy":
        found[0] += " Layer numbers K of FastV and VTW are scaled to the toy's depth."
    found += [*notes.run(parts), *notes.samples(parts), *notes.images(parts), notes.scores(parts)]
    found.append(notes.ranking(parts))
    found.append(f"In parentheses behind PLPHP's scores: {notes.CHANGES[options.gains]}.")
    found += [notes.average(parts), notes.COSTS, *depth]
    if not published:
        found.append(notes.UNPUBLISHED)
    return found + notes.failures(parts) + notes.gaps(parts)
