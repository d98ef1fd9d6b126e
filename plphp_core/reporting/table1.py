"""Table 1: four methods in ten settings on seven benchmarks, LLaVA-OneVision."""

from __future__ import annotations

from collections.abc import Sequence

from plphp_core.analysis.results import Results
from plphp_core.reporting import notes, score_columns
from plphp_core.reporting.comparison_tables import baseline_table
from plphp_core.reporting.table_model import Table
from plphp_core.reporting.table_spec import HEAD, Reference, TableSpec, fronts, where


def sheets(results: Results, profile: str, reference: Reference, depth: Sequence[str] = ()) -> list[Table]:
    """The paper's layout first, then intervals, then what the rows are worth against each other, then the toy profile's
    slot accuracy.

    Args:
        reference: published scores, `published.load_reference`.
        depth: what VTW's own rule says of its K, `vtw_rule.note`.
    """
    title = f"Reproduction of Table 1{where(profile)}"
    spec = TableSpec(
        title,
        f"methods × benchmarks, {results.title}",
        results,
        score_columns.table_columns(results),
        _score_notes(results, profile, bool(reference), depth),
        notes.intervals([results], "table1_relative.csv"),
        reference=reference,
    )
    found = [spec.numbers(), spec.intervals(), baseline_table(results, title, HEAD, fronts(results))]
    if score_columns.has_slots(results):
        slots = TableSpec(title, "slot accuracy", results, score_columns.slots(results), notes.SLOT_ACCURACY)
        found.append(slots.numbers())
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
