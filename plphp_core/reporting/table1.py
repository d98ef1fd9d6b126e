"""Table 1: four methods in ten settings on seven benchmarks, LLaVA-OneVision."""

from __future__ import annotations

from collections.abc import Sequence

from plphp_core.reporting import layout, notes, rivals
from plphp_core.reporting.comparison import Results
from plphp_core.reporting.table_model import Table, TableColumn

HEAD = (TableColumn("Method", text=True), TableColumn("Setting", text=True))


def sheets(results: Results, profile: str, reference: layout.Reference, depth: Sequence[str] = ()) -> list[Table]:
    """The paper's layout first, then intervals, then what the rows are worth against each other, then the toy profile's
    slot accuracy.

    Args:
        reference: published scores, `published.load_reference`.
        depth: what VTW's own rule says of its K, `vtw_rule.note`.
    """
    title = f"Reproduction of Table 1{layout.where(profile)}"
    rows = layout.marked(layout.rows(results, layout.score_line), layout.score_values(results), results, len(HEAD))
    rows += layout.published_rows(reference) or [layout.nothing_published()]
    scores = Table(
        f"{title}: methods × benchmarks, {results.title}",
        (*HEAD, *layout.score_columns()),
        tuple(rows),
        tuple(_score_notes(results, profile, bool(reference), depth)),
    )
    intervals = Table(
        f"{title}: {results.options.confidence:.0%} confidence intervals",
        (*HEAD, *layout.interval_columns()),
        tuple(layout.rows(results, layout.interval_line)),
        tuple(notes.intervals([results], "table1_relative.csv")),
    )
    found = [scores, intervals, rivals.sheet(results, title, HEAD, layout.rows(results))]
    if layout.has_slots(results):
        rows = layout.marked(layout.rows(results, layout.slot_line), layout.slot_values(results), results, len(HEAD))
        found.append(Table(f"{title}: slot accuracy", (*HEAD, *layout.SLOT_COLUMNS), tuple(rows), notes.SLOT_ACCURACY))
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
