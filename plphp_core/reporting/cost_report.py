"""The report of a comparison at equal cost: its sheets, its csv file and its pictures."""

from __future__ import annotations

import pandas as pd

from plphp_core.records.errors import ReportError
from plphp_core.reporting.cost_comparison import CostComparison, cost_of, gather
from plphp_core.reporting.cost_sheets import COSTS, changes_table, control_table, none_table, reached_table
from plphp_core.reporting.csv_export import AGAINST_NONE, VALUE, named
from plphp_core.reporting.difficulty_groups import groups_table
from plphp_core.reporting.request import Report, ReportRequest
from plphp_core.reporting.score_sheet import score_table

AGAINST_RANDOM = ("relative_to_random", "random_low", "random_high")
COLUMNS = ("model", "budget", "method", "setting", "benchmark", "metric", *VALUE, *AGAINST_NONE, *AGAINST_RANDOM,
           *COSTS, "parameters", "not_reached")  # fmt: skip
TABLES = {
    "scores": score_table,
    "changes": changes_table,
    "against_control": control_table,
    "against_none": none_table,
    "groups": groups_table,
    "reached": reached_table,
}  # what `sheets` of a table's file can name
LOOK = (
    "What to look for: which line is higher at the same {same}, by more than the bars, and whether it is above the "
    "dashed lines of the controls; a method that is not above {control} chooses no better than chance at that budget."
)


def frame(own: CostComparison) -> pd.DataFrame:
    """One line per row, benchmark and metric, and per row the average: scores as fractions."""
    results, lines = own.results, []
    for index in range(len(results.rows)):
        budget = 1.0 if index == 0 else own.places[index - 1][0]
        front = {"model": results.model, "budget": budget, "method": results.rows[index].method}
        for name, metric, _ in results.score_places():
            cell = results.cells.get((index, name))
            match = own.match(index, name) if index else None
            line = front | {"setting": own.setting(index, [name]), "benchmark": name, "metric": metric}
            line |= named(results.value(index, name, metric), VALUE)
            line |= named(results.change(index, name, metric), AGAINST_NONE)
            if index:
                line |= named(results.change(index, name, metric, own.against(index)), AGAINST_RANDOM)
            if cell is not None:
                line |= {one: cost_of(cell, one) for one in COSTS}
                line["parameters"] = ", ".join(f"{key}={value}" for key, value in cell.params.items())
            lines.append(line | {"not_reached": match.missing if match is not None else ""})
        line = front | {"setting": own.setting(index), "benchmark": "average", "metric": "scores"}
        line |= named(own.change(index), AGAINST_NONE) | named(own.difference(index), AGAINST_RANDOM)
        lines.append(line | {one: own.cost(index, one) for one in COSTS})
    return pd.DataFrame(lines, columns=list(COLUMNS))


def report(name: str, asked: ReportRequest) -> Report:
    """The comparison with all its files.

    Raises:
        NothingToShow: no cell of it is finished.
        ReportError: the choice of cells is ambiguous, a file is damaged, or the table's file names an unknown sheet.
    """
    from plphp_core.reporting.figures.cost_curves import front_picture, pictures  # matplotlib takes a second to import

    own, variant = gather(name, asked)
    if wrong := [one for one in own.sheets if one not in TABLES]:
        raise ReportError(f"configs/table/{name}.yaml: unknown {wrong[0]!r} in sheets; known: {', '.join(TABLES)}")
    sheets = [sheet for one in own.sheets if (sheet := TABLES[one](own)) is not None]
    look = LOOK.format(same=own.kind.same, control=own.control)
    second = front_picture(own)
    extra = {} if second is None else {f"{name}_front{variant}.png": second}
    return Report(name, variant, sheets, [own.results], {"": frame(own)}, pictures(own), extra, look=look)
