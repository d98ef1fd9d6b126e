"""Table 3: three more models, each with and without PLPHP, on the benchmarks it can answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from plphp_core.analysis.comparable import same_documents, same_run
from plphp_core.analysis.results import NothingToShow, Results, evaluate
from plphp_core.config.benchmark_catalogue import catalogue
from plphp_core.config.report_choices import Filters, Options
from plphp_core.records.cell_result import CellResult
from plphp_core.records.errors import ReportError
from plphp_core.reporting import notes, score_columns
from plphp_core.reporting.configured import benchmarks_configured, models_configured, rows_configured
from plphp_core.reporting.published import Claim
from plphp_core.reporting.table_model import Table, TableColumn, TableRow, percent
from plphp_core.reporting.table_spec import (
    NumberColumn,
    Reference,
    filled,
    fronts,
    nothing_published,
    published_rows,
    where,
)

HEAD = (TableColumn("Model", text=True), TableColumn("Method", text=True), TableColumn("Setting", text=True))
ONE_FOR_ALL = ("protocol", "prompts", "limit", "limit_seed")  # dtype and checkpoint are each model's own
ABOVE = "¹ above the same model uncompressed (bold in the files)"


def compare(
    cells: Sequence[CellResult], profile: str, models: Sequence[str], filters: Filters, options: Options
) -> list[Results]:
    """The numbers of each model, in the table's order; a model without a finished cell has none.

    Args:
        models: the models to show; none for the table's own.
    Raises:
        NothingToShow: no model has a finished cell.
        ReportError: the choice of cells is ambiguous, or models were run differently.
    """
    configured, skipped = models_configured("table3")
    asked = benchmarks_configured(None, "table3")
    parts = []
    for model in models or configured:
        rows = rows_configured("table3", profile, model)
        if rows is None:
            raise ReportError(f"table3 lists no rows for profile {profile!r}")
        left_out = tuple(label for name, label in skipped if name == model)
        try:
            parts.append(evaluate(cells, rows, replace(filters, model=model), options, asked, left_out))
        except NothingToShow:
            parts.append(Results(model, tuple(rows), options, tuple(catalogue().ordered(asked)), left_out))
    chosen = [cell for part in parts for cell in part.cells.values()]
    if not chosen:
        names = ", ".join(part.model for part in parts)
        raise NothingToShow(f"none of the {len(cells)} finished cells belongs in Table 3 ({names}) with these options")
    same_run(chosen, ONE_FOR_ALL)
    same_documents(chosen)
    return parts


def sheets(
    parts: Sequence[Results],
    profile: str,
    references: Mapping[str, Reference],
    claims: Sequence[Claim] = (),
) -> list[Table]:
    """The paper's layout first, then intervals, then the toy profile's slot accuracy.

    Args:
        references: model → published scores, `published.load_reference`.
        claims: what the paper says of the table in words.
    """
    title = f"Reproduction of Table 3{where(profile)}"
    columns, published = score_columns.table_columns(parts[0]), any(references.values())
    rows: list[TableRow] = []
    for part in parts:
        own = score_columns.table_columns(part)
        rows += _above(own, part)
        rows += [replace(row, rule=False) for row in published_rows(own, references[part.model], [part.title])]
    if not published:
        rows.append(nothing_published(len(columns), ["all models"]))
    said = _score_notes(parts, profile, published, claims)
    found = [_sheet(f"{title}: models with and without PLPHP × benchmarks", columns, rows, said)]
    rows = []
    for part in parts:
        own = [column.interval for column in score_columns.table_columns(part) if column.spread]
        rows += _one_rule(filled(fronts(part, [part.title]), own))
    confidence = f"{title}: {parts[0].options.confidence:.0%} confidence intervals"
    said = notes.intervals(parts, "table3_relative.csv")
    found.append(_sheet(confidence, [column for column in columns if column.spread], rows, said))
    if any(map(score_columns.has_slots, parts)):
        rows = [row for part in parts for row in _above(score_columns.slots(part), part)]
        found.append(_sheet(f"{title}: slot accuracy", score_columns.slots(parts[0]), rows, notes.SLOT_ACCURACY))
    return found


def _sheet(title: str, columns: Sequence[NumberColumn], rows: Sequence[TableRow], said: Sequence[str]) -> Table:
    return Table(title, (*HEAD, *(column.heading for column in columns)), tuple(rows), tuple(said), ABOVE)


def _one_rule(rows: Sequence[TableRow]) -> list[TableRow]:
    """A rule above each model and none within."""
    return [replace(row, rule=at == 0) for at, row in enumerate(rows)]


def _above(columns: Sequence[NumberColumn], part: Results) -> list[TableRow]:
    """A model's rows with every ranked number in bold that is above the uncompressed one, as printed."""
    found = []
    for index, row in enumerate(filled(fronts(part, [part.title]), [column.cell for column in columns])):
        entries = list(row.cells)
        for at, column in enumerate(columns, start=len(HEAD)):
            if not column.ranked or part.reference is None:
                continue
            # nan on either side is above nothing
            if round(column.value(index), 2) > round(column.value(part.reference), 2):
                entries[at] = replace(entries[at], emphasis="best")
        found.append(replace(row, cells=tuple(entries)))
    return _one_rule(found)


def _score_notes(parts: Sequence[Results], profile: str, published: bool, claims: Sequence[Claim]) -> list[str]:
    """Most important first."""
    options = parts[0].options
    found = [notes.profile(profile, several=True)]
    if untrained := [part.title for part in parts if part.untrained]:
        found.append(f"{', '.join(untrained)}: a stand-in that was never trained; its scores mean nothing.")
    found += [*notes.run(parts), *_thresholds(parts), *notes.samples(parts), *notes.images(parts), notes.scores(parts)]
    found.append("Bold: above the same model uncompressed, compared as printed.")
    found.append(f"In parentheses behind PLPHP's scores: {notes.CHANGES[options.gains]}.")
    found += [notes.average(parts), notes.COSTS]
    left_out = [f"{part.title} on {name}" for part in parts for name in part.skipped if name not in part.asked()]
    if left_out:
        found.append(
            "–: left out, as in the paper, which finds that the model cannot follow the instruction: "
            f"{', '.join(left_out)}. table.skip=[] runs them."
        )
    if profile == "paper":
        found += _claimed(claims)
    if not published:
        found.append(notes.UNPUBLISHED)
    return found + notes.failures(parts) + notes.gaps(parts)


def _thresholds(parts: Sequence[Results]) -> list[str]:
    """PLPHP's α and β, which a profile may set for each model."""
    said: dict[str, list[str]] = {}
    for part in parts:
        for row in part.rows:
            if row.method == "plphp" and {"alpha", "beta"} <= set(row.params):
                names = said.setdefault(f"α={row.params['alpha']:g}, β={row.params['beta']:g}", [])
                names += [part.title] * (part.title not in names)
    if not said:
        return []
    listed = "; ".join(f"{values} ({', '.join(names)})" for values, names in said.items())
    return [f"PLPHP's thresholds: {listed}."]


def _claimed(claims: Sequence[Claim]) -> list[str]:
    """What the paper says of this table in words, where it gives a number."""
    unit = {"percent": lambda value: percent(value / 100), "percent_saved": lambda value: f"{value:g}%"}
    numbers = [claim for claim in claims if claim.where == "Table 3" and claim.value is not None]
    said = [f"{claim.text}: {unit[claim.unit](claim.value)} ({claim.id})" for claim in numbers]
    return [f"The paper claims: {'; '.join(said)}."] if said else []
