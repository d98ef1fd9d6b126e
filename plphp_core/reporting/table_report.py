"""Any table from its file in `configs/table/`: the paper's, the sweep and one's own are made here alike.

COLUMNS, TABLES and CSV are what such a file can name, beside the notes of `table_notes.NOTES`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from plphp_core.analysis.bootstrap import TIMES
from plphp_core.analysis.paired_contrasts import controls
from plphp_core.analysis.results import Results
from plphp_core.config.table_rows import SYMBOLS
from plphp_core.records.errors import ReportError
from plphp_core.reporting import cost_columns, csv_export, notes, score_columns, sweep, table_notes
from plphp_core.reporting.comparison_tables import baseline_table, contrast_table, step_table, tally
from plphp_core.reporting.configured import is_planned
from plphp_core.reporting.request import Report, ReportRequest
from plphp_core.reporting.table_content import TableContent, TableLayout, gather, table_layout
from plphp_core.reporting.table_model import Table, TableCell, TableColumn, TableRow
from plphp_core.reporting.table_spec import (
    ABOVE,
    Columns,
    NumberColumn,
    TableSpec,
    competing,
    interval_title,
    published_rows,
    stacked,
)


@dataclass(frozen=True)
class ColumnKind:
    """What a table's file can name as a column. `make`: the columns of one model; `notes`: names of their notes."""

    make: Callable[[TableContent, Results], Columns]
    notes: tuple[str, ...]


def _of_cost(name: str, quantity: str) -> dict[str, ColumnKind]:
    """A cost, and its change against Uncompressed."""
    notes = (name, "times") if quantity in TIMES else (name,)
    return {
        name: ColumnKind(lambda content, part: cost_columns.costs(part, quantity), notes),
        f"{name}_change": ColumnKind(
            lambda content, part: cost_columns.cost_changes(part, quantity), (*notes, "unreferenced")
        ),
    }


COLUMNS: Mapping[str, ColumnKind] = {
    "scores": ColumnKind(
        lambda content, part: score_columns.scores(part, content.layout.gains), ("scores", "emphasis", "gains")
    ),
    "average_change": ColumnKind(
        lambda content, part: [score_columns.average_change(part)], ("average", "unreferenced")
    ),
    "vision_kept": ColumnKind(lambda content, part: [score_columns.vision_kept(part)], ("vision_kept",)),
    "kv_saved": ColumnKind(lambda content, part: [score_columns.kv_saved(part)], ("kv_saved",)),
    **{kind: made for one in cost_columns.NAMES.items() for kind, made in _of_cost(*one).items()},
    "own_averages": ColumnKind(lambda content, part: sweep.columns(part), ("own_averages", "unreferenced")),
}


def _head(content: TableContent, part: Results) -> tuple[tuple[TableColumn, ...], list[TableRow]]:
    """The headings of what names a model's rows, and how these begin; a rule above each method, or above each value of
    all but the last of several single parameters."""
    single = [name for name in content.layout.head if name not in ("method", "setting", "parameters")]
    varied = [name for name, shown in sweep.parameters(part).items() if shown]
    names = [one for name in content.layout.head for one in (varied if name == "parameters" else [name])]
    titles = {"method": "Method", "setting": "Setting"} | SYMBOLS
    head = [TableColumn(titles.get(name, name), text=True) for name in (*["Model"] * content.several, *names)]
    rows, above = [], None
    for index, row in enumerate(part.rows):
        values = {"method": row.label, "setting": part.setting(index), **row.params}
        mark = table_notes.DEFAULT * (bool(single) and content.is_default(row, single, part))
        cells = [TableCell(part.title)] * content.several
        for name in names:
            value = values.get(name, "")
            text = f"{value:g}" if isinstance(value, float) else str(value)
            cells.append(TableCell(text, mark=mark if name in single else ""))
        group = [row.method, *(row.params.get(name) for name in single[:-1])]
        rows.append(TableRow(tuple(cells), rule=group != above))
        above = group
    return tuple(head), rows


def _spec(content: TableContent, part: Results, what: str, columns: Columns) -> TableSpec:
    """A table of one model's rows."""
    emphasis = content.layout.emphasis
    return TableSpec(
        f"{content.title}: {what}",
        *_head(content, part),
        columns,
        competing=competing(part) if emphasis == "best" else (),
        above=part.reference if emphasis == "uncompressed" else None,
    )


def _together(content: TableContent, make: Callable[[Results], Table], notes: Iterable[str]) -> list[Table]:
    """The tables of all models as one, with these notes."""
    made = [make(part) for part in content.parts]
    return [replace(stacked(made) if content.several else made[0], notes=tuple(notes))]


def _columns(content: TableContent, part: Results) -> Columns:
    found = [column for name in content.layout.columns for column in COLUMNS[name].make(content, part)]
    inline = content.layout.inline
    return [replace(one, inline=inline and one.spread) if isinstance(one, NumberColumn) else one for one in found]


def _numbers(content: TableContent) -> list[Table]:
    """The table itself, with the paper's own rows."""
    layout = content.layout
    what = layout.shows.format(model=content.parts[0].title, benchmark=content.benchmark)
    named = [name for column in layout.columns for name in COLUMNS[column].notes]

    def numbers(part: Results) -> Table:
        spec, front = _spec(content, part, what, _columns(content, part)), [part.title] * content.several
        table, published = spec.numbers(), published_rows(spec.columns, content.references.get(part.model, {}), front)
        table = replace(table, marks=ABOVE) if layout.emphasis == "uncompressed" else table
        return replace(table, rows=(*table.rows, *published))

    return _together(content, numbers, table_notes.sentences(content, named))


def _intervals(content: TableContent) -> list[Table]:
    file = f"{content.layout.name}{'_relative' * ('changes' in content.layout.csv)}.csv"

    def intervals(part: Results) -> Table:
        spec = _spec(content, part, "", _columns(content, part))
        return spec.intervals(interval_title(content.title, part), ())

    return _together(content, intervals, notes.intervals(content.parts, file))


def _slots(content: TableContent) -> list[Table]:
    """Slot accuracy, which only the toy's benchmarks have."""
    if not any(map(score_columns.has_slots, content.parts)):
        return []
    return _together(
        content, lambda part: _spec(content, part, "slot accuracy", score_columns.slots(part)).numbers(),
        notes.SLOT_ACCURACY,
    )  # fmt: skip


def _baselines(content: TableContent) -> list[Table]:
    return [baseline_table(part, content.title, *_head(content, part)) for part in content.parts if part.cells]


def _controls(content: TableContent) -> list[Table]:
    """PLPHP against what has its bytes without one of its choices; nothing where no such row was asked for."""
    title, heads = f"{content.title}: PLPHP against controls at its own bytes", ("PLPHP", "control")
    pairs = [(part, controls(part)) for part in content.parts if part.cells]
    return [contrast_table(part, title, heads, own, [notes.CONTROLS, tally(part, own)]) for part, own in pairs if own]


def _steps(content: TableContent) -> list[Table]:
    parameters = [name for name in content.layout.head if name != "method"]
    return [step_table(part, content.title, parameters) for part in content.parts if part.cells]


TABLES: Mapping[str, Callable[[TableContent], list[Table]]] = {
    "numbers": _numbers,
    "intervals": _intervals,
    "baselines": _baselines,
    "controls": _controls,
    "steps": _steps,
    "slots": _slots,
}


def _cost_table(content: TableContent) -> pd.DataFrame:
    places = [(part, name) for part in content.parts for name in part.finished()]
    return pd.concat([csv_export.cost_table(part, name) for part, name in places])


# name → suffix of the file's name, what it holds
CSV: Mapping[str, tuple[str, Callable[[TableContent], pd.DataFrame]]] = {
    "scores": ("", lambda content: pd.concat(map(csv_export.long_table, content.parts))),
    "changes": ("_relative", lambda content: pd.concat(map(csv_export.relative_table, content.parts))),
    "costs": ("", _cost_table),
    "settings": ("", lambda content: pd.concat(map(sweep.table, content.parts))),
}


def table_report(name: str, asked: ReportRequest) -> Report:
    """The table of `configs/table/<name>.yaml` with all its files.

    Raises:
        NothingToShow: nothing of it is finished.
        ReportError: its file names something that is not known, or its cells cannot be compared.
    """
    layout = table_layout(name)
    _check(layout)
    content = gather(layout, asked)
    sheets = [table for one in layout.tables for table in TABLES[one](content)]
    tables = {suffix: make(content) for suffix, make in (CSV[one] for one in layout.csv)}
    planned = is_planned(name)
    return Report(name, content.variant, sheets, content.parts, tables, planned=planned, latex=layout.latex)


def _check(layout: TableLayout) -> None:
    """See that the layout names what there is. Raises ReportError with the names that there are."""
    known: dict[str, tuple[Sequence[str], Collection[str]]] = {
        "columns": (layout.columns, COLUMNS),
        "tables": (layout.tables, TABLES),
        "csv": (layout.csv, CSV),
        "emphasis": ([layout.emphasis], ("best", "uncompressed", "none")),
        "notes": ([one for one in layout.notes if " " not in one], table_notes.NOTES),
    }
    for key, (names, allowed) in known.items():
        for one in names:
            if one not in allowed:
                raise ReportError(
                    f"configs/table/{layout.name}.yaml: unknown {one!r} in {key}; known: {', '.join(allowed)}"
                )
