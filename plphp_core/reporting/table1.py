"""Table 1: four methods in ten settings on seven benchmarks, LLaVA-OneVision."""

from __future__ import annotations

from collections.abc import Sequence

from plphp_core.reporting import layout, notes
from plphp_core.reporting.comparison import Results
from plphp_core.reporting.sheet import Column, Row, Sheet, emphasise

HEAD = (Column("Method", text=True), Column("Setting", text=True))


def sheets(results: Results, profile: str, reference: layout.Reference) -> list[Sheet]:
    """The paper's layout first, then intervals, then the toy profile's slot accuracy.

    Args:
        reference: published scores, `published.load_reference`.
    """
    title = f"Reproduction of Table 1{layout.where(profile)}"
    rows = _marked(layout.rows(results, layout.score_line), layout.score_values(results), results)
    rows += layout.published_rows(reference) or [layout.nothing_published()]
    scores = Sheet(
        f"{title}: methods × benchmarks, {results.title}",
        (*HEAD, *layout.SCORE_COLUMNS),
        tuple(rows),
        tuple(_score_notes(results, profile, bool(reference))),
    )
    intervals = Sheet(
        f"{title}: {results.options.confidence:.0%} confidence intervals",
        (*HEAD, *layout.INTERVAL_COLUMNS),
        tuple(layout.rows(results, layout.interval_line)),
        tuple(notes.intervals([results], "table1")),
    )
    if not layout.has_slots(results):
        return [scores, intervals]
    rows = _marked(layout.rows(results, layout.slot_line), layout.slot_values(results), results)
    return [
        scores,
        intervals,
        Sheet(f"{title}: slot accuracy", (*HEAD, *layout.SLOT_COLUMNS), tuple(rows), notes.SLOT_ACCURACY),
    ]


def _marked(rows: list[Row], columns: Sequence[Sequence[float]], results: Results) -> list[Row]:
    """Best and second of each column among the rows that compete."""
    eligible = [results.options.rank == "all" or row.method != "none" for row in results.rows]
    for at, values in enumerate(columns, start=len(HEAD)):
        rows = emphasise(rows, at, values, eligible)
    return rows


def _score_notes(results: Results, profile: str, published: bool) -> list[str]:
    """Most important first."""
    options, parts = results.options, [results]
    found = [notes.profile(profile, several=False)]
    if profile == "toy":
        found[0] += " Layer numbers K of FastV and VTW are scaled to the toy's depth."
    found += [*notes.run(parts), *notes.samples(parts), *notes.images(parts), notes.scores(parts)]
    among = "the compressed rows (the uncompressed row is not ranked)" if options.rank == "compressed" else "all rows"
    found.append(f"Bold: best of a column among {among}; underlined: second. Values that print alike share their mark.")
    found.append(f"In parentheses behind PLPHP's scores: {notes.CHANGES[options.gains]}.")
    found += [notes.average(parts), notes.COSTS]
    if not published:
        found.append(notes.UNPUBLISHED)
    return found + notes.failures(parts) + notes.gaps(parts)
