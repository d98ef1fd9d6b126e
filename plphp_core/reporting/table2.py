"""Table 2: α × β: what PLPHP's thresholds do to scores, vision tokens and KV cache."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from plphp_core.analysis.comparable import RowSpec
from plphp_core.analysis.paired_contrasts import Contrast
from plphp_core.analysis.results import Results
from plphp_core.reporting import comparison_tables, notes, score_columns
from plphp_core.reporting.table_model import Table, TableCell, TableColumn, TableRow
from plphp_core.reporting.table_spec import TableSpec, where

HEAD = (TableColumn("Method", text=True), TableColumn("α", text=True), TableColumn("β", text=True))
THRESHOLDS = ("alpha", "beta")
DEFAULT = "*"  # beside the thresholds that the profile runs with otherwise


def sheets(
    results: Results, profile: str, defaults: Mapping[str, object], refused: Sequence[str], claim: str = ""
) -> list[Table]:
    """Scores and savings, their intervals, one threshold raised at a time, and each setting against Uncompressed.

    Args:
        defaults: PLPHP's parameters where a table names none.
        refused: combinations that PLPHP does not allow, and why.
        claim: what the paper says of the table.
    """
    title = f"Reproduction of Table 2{where(profile)}"
    rows, pairs = _rows(results, defaults), raised(results)
    spec = TableSpec(
        title,
        f"thresholds α × β, {results.title}",
        results,
        score_columns.table_columns(results, spread=True),
        _notes(results, profile, defaults, refused),
        (*notes.intervals([results], "table2.csv"), notes.SAVED),
        rows,
        HEAD,
    )
    return [
        spec.numbers(),
        spec.intervals(),
        comparison_tables.contrast_table(
            results,
            f"{title}: one threshold raised, the other one held",
            ("raised", "held"),
            pairs,
            [*([comparison_tables.tally(results, pairs)] if pairs else []), *([claim] if claim else [])],
        ),
        comparison_tables.baseline_table(results, title, HEAD, rows),
    ]


def _rows(results: Results, defaults: Mapping[str, object]) -> list[TableRow]:
    """How the rows begin: method, α and β; a rule above each α."""
    found = []
    for index, row in enumerate(results.rows):
        mark = DEFAULT * _is_default(row, defaults)
        values = [TableCell(f"{row.params[name]:g}" if name in row.params else "", mark=mark) for name in THRESHOLDS]
        starts = index == 0 or row.params.get("alpha") != results.rows[index - 1].params.get("alpha")
        found.append(TableRow((TableCell(row.label), *values), rule=starts))
    return found


def _is_default(row: RowSpec, defaults: Mapping[str, object]) -> bool:
    return all(row.params.get(name) == defaults[name] for name in THRESHOLDS)


def raised(results: Results) -> list[Contrast]:
    """Every step from one threshold to the next higher one in the table, the other one held."""
    places = {
        (row.params["alpha"], row.params["beta"]): index
        for index, row in enumerate(results.rows)
        if set(THRESHOLDS) <= set(row.params)
    }
    steps = []
    for at, (symbol, held) in enumerate((("α", "β"), ("β", "α"))):
        for place, base in places.items():
            line = sorted(other[at] for other in places if other[1 - at] == place[1 - at] and other[at] > place[at])
            if line:
                higher = (line[0], place[1]) if at == 0 else (place[0], line[0])
                names = (f"{symbol}: {place[at]:g} → {line[0]:g}", f"{held} = {place[1 - at]:g}")
                first = not any(one.names[0].startswith(symbol) for one in steps)
                steps.append(Contrast(places[higher], base, names, rule=first))
    return steps


def _notes(results: Results, profile: str, defaults: Mapping[str, object], refused: Sequence[str]) -> list[str]:
    """Most important first."""
    parts = [results]
    found = [notes.profile(profile, several=False)]
    found += [*notes.run(parts), *notes.samples(parts), *notes.images(parts), notes.scores(parts)]
    marked = any(_is_default(row, defaults) for row in results.rows)
    own = f"{DEFAULT} the thresholds with which the other tables of this profile are run. " if marked else ""
    found.append(f"{own}r = {defaults['r']:g}, Δr = {defaults['delta_r']:g} throughout.")
    found += [notes.ranking(parts), f"In parentheses behind the scores: {notes.CHANGES[results.options.gains]}."]
    found += [notes.average(parts), notes.COSTS]
    found.append(
        "Neither the values of α and β in the paper's table nor its benchmarks are known here, nor its cells: "
        "configs/table/table2.yaml has a grid around the defaults, tasks=… chooses other benchmarks."
    )
    found += [f"Combinations that the method refuses: {'; '.join(refused)}."] if refused else []
    return found + notes.failures(parts) + notes.gaps(parts)
