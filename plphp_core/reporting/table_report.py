"""Any table from its file in `configs/table/`: the paper's, the sweep and one's own are made here alike.

COLUMNS, TABLES and CSV are what such a file can name, beside the notes of `table_notes.NOTES`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from plphp_core.analysis.bootstrap import DECODE, EVALUATION, KV, PREFILL
from plphp_core.analysis.results import Results
from plphp_core.config.table_rows import SYMBOLS
from plphp_core.records.errors import ReportError
from plphp_core.reporting import cost_columns, csv_export, notes, score_columns, sweep, table_notes
from plphp_core.reporting.comparison_tables import baseline_table, step_table
from plphp_core.reporting.configured import is_planned
from plphp_core.reporting.request import Report, ReportRequest
from plphp_core.reporting.table_content import TableContent, gather
from plphp_core.reporting.table_layout import TableLayout, table_layout
from plphp_core.reporting.table_model import Table, TableCell, TableColumn, TableRow
from plphp_core.reporting.table_spec import NumberColumn, TableSpec, WordColumn, stacked

Columns = Sequence[NumberColumn | WordColumn]


@dataclass(frozen=True)
class ColumnKind:
    """What a table's file can name as a column. `make`: the columns of one model; `notes`: names of their notes."""

    make: Callable[[TableContent, Results], Columns]
    notes: tuple[str, ...]


def _cost(quantity: str, note: str, *also: str) -> ColumnKind:
    return ColumnKind(lambda content, part: cost_columns.costs(part, quantity), (note, *also))


def _cost_change(quantity: str, note: str, *also: str) -> ColumnKind:
    return ColumnKind(lambda content, part: cost_columns.cost_changes(part, quantity), (note, *also, "unreferenced"))


COLUMNS: Mapping[str, ColumnKind] = {
    "scores": ColumnKind(
        lambda content, part: score_columns.scores(part, content.layout.gains), ("scores", "emphasis", "gains")
    ),
    "average_change": ColumnKind(
        lambda content, part: [score_columns.average_change(part)], ("average", "unreferenced")
    ),
    "vision_kept": ColumnKind(lambda content, part: [score_columns.vision_kept(part)], ("vision_kept",)),
    "kv_saved": ColumnKind(lambda content, part: [score_columns.kv_saved(part)], ("kv_saved",)),
    "kv_cache": _cost(KV, "kv_cache"),
    "kv_cache_change": _cost_change(KV, "kv_cache"),
    "decode": _cost(DECODE, "decode", "times"),
    "decode_change": _cost_change(DECODE, "decode", "times"),
    "prefill": _cost(PREFILL, "prefill", "times"),
    "prefill_change": _cost_change(PREFILL, "prefill", "times"),
    "evaluation": _cost(EVALUATION, "evaluation", "times"),
    "evaluation_change": _cost_change(EVALUATION, "evaluation", "times"),
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
    head, rows = _head(content, part)
    front = (part.title,) if content.several else ()
    return TableSpec(content.title, what, part, columns, (), (), rows, head, None, front, content.layout.emphasis)


def _columns(content: TableContent, part: Results) -> Columns:
    found = [column for name in content.layout.columns for column in COLUMNS[name].make(content, part)]
    inline = content.layout.inline
    return [replace(one, inline=inline and one.spread) if isinstance(one, NumberColumn) else one for one in found]


def _numbers(content: TableContent) -> list[Table]:
    """The table itself, with the paper's own rows."""
    layout, part = content.layout, content.parts[0]
    what = layout.shows.format(model=part.title, benchmark=content.benchmark)
    known = {model: reference for model, reference in content.references.items() if reference}
    made = [
        replace(_spec(content, part, what, _columns(content, part)), reference=known.get(part.model)).numbers()
        for part in content.parts
    ]
    table = stacked(made) if content.several else made[0]
    named = [name for column in layout.columns for name in COLUMNS[column].notes]
    return [replace(table, notes=tuple(table_notes.sentences(content, named)))]


def _intervals(content: TableContent) -> list[Table]:
    file = f"{content.layout.name}{'_relative' * ('changes' in content.layout.csv)}.csv"
    made = [_spec(content, part, "", _columns(content, part)).intervals() for part in content.parts]
    table = stacked(made) if content.several else made[0]
    return [replace(table, notes=tuple(notes.intervals(content.parts, file)))]


def _slots(content: TableContent) -> list[Table]:
    """Slot accuracy, which only the toy's benchmarks have."""
    if not any(map(score_columns.has_slots, content.parts)):
        return []
    made = [_spec(content, part, "slot accuracy", score_columns.slots(part)).numbers() for part in content.parts]
    return [replace(stacked(made) if content.several else made[0], notes=notes.SLOT_ACCURACY)]


def _baselines(content: TableContent) -> list[Table]:
    return [baseline_table(part, content.title, *_head(content, part)) for part in content.parts if part.cells]


def _steps(content: TableContent) -> list[Table]:
    parameters = [name for name in content.layout.head if name != "method"]
    return [step_table(part, content.title, parameters) for part in content.parts if part.cells]


TABLES: Mapping[str, Callable[[TableContent], list[Table]]] = {
    "numbers": _numbers,
    "intervals": _intervals,
    "baselines": _baselines,
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
