"""Every table and figure of `scripts/report.py`: from the finished cells to sheets, csv tables and pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import pandas as pd

from plphp_core.analysis.comparable import admits, rows_found
from plphp_core.analysis.results import NothingToShow, Results, evaluate
from plphp_core.config.report_settings import ReportSettings
from plphp_core.records.depth_rule import load_rule, rule_path
from plphp_core.reporting import (
    engine_table,
    engines,
    published,
    sweep,
    table1,
    table2,
    table3,
    table4,
    table5,
    vtw_rule,
)
from plphp_core.reporting.configured import (
    benchmark_configured,
    benchmarks_configured,
    method_configured,
    models_configured,
    refused_configured,
    rows_configured,
)
from plphp_core.reporting.csv_export import cost_table, long_table, relative_table
from plphp_core.reporting.figures import MODULES, figure_report
from plphp_core.reporting.own_table import own_table
from plphp_core.reporting.request import (
    Report,
    ReportRequest,
    joined,
    model_suffix,
    on_benchmarks,
    selection_suffix,
)


def _table1(asked: ReportRequest) -> Report:
    options = asked.options
    rows = rows_configured("table1", asked.profile, options.model)
    tasks = benchmarks_configured(None, "table1")
    results = evaluate(asked.own_cells, rows, asked.of_model, asked.choices, tasks)
    reference = published.load_reference(options.published, "table1")
    rule = load_rule(rule_path(options.results, asked.profile, options.model))
    sheets = table1.sheets(results, asked.profile, reference, vtw_rule.note(rule, results))
    return Report(
        "table1", model_suffix(options) + selection_suffix(asked, [results]), sheets, [results], _scores([results])
    )


def _table2(asked: ReportRequest) -> Report:
    results, _, variant = on_benchmarks("table2", asked)
    defaults = method_configured("plphp", asked.profile, asked.options.model)
    refused = refused_configured("table2", asked.profile, asked.options.model)
    claim = published.claim_quoted(asked.options.published, "C12", asked.profile)
    sheets = table2.sheets(results, asked.profile, defaults, refused, claim)
    return Report("table2", variant, sheets, [results], {"": long_table(results, saved=True)})


def _table3(asked: ReportRequest) -> Report:
    options = asked.options
    models = [name for name in options.models.strip("[]").split(",") if name]
    cells = asked.settled(models or models_configured("table3")[0])
    parts = table3.compare(cells, asked.profile, models, asked.filters, asked.choices)
    references = {part.model: published.load_reference(options.published, "table3", part.model) for part in parts}
    sheets = table3.sheets(parts, asked.profile, references, _claims(options))
    chosen = f".models={'+'.join(models)}" if models else ""
    return Report("table3", chosen + selection_suffix(asked, parts), sheets, parts, _scores(parts))


def _table4(asked: ReportRequest) -> Report:
    results, label, variant = _on_one("table4", asked)
    reference = published.load_reference(asked.options.published, "table4")
    sheets = table4.sheets(results, label, asked.profile, reference)
    return Report("table4", variant, sheets, [results], {"": cost_table(results, label)})


def _table5(asked: ReportRequest) -> Report:
    results, label, variant = _on_one("table5", asked)
    reference = published.load_reference(asked.options.published, "table5")
    sheets = table5.sheets(results, label, asked.profile, reference, _claims(asked.options))
    return Report("table5", variant, sheets, [results], {"": cost_table(results, label)})


def _sweep(asked: ReportRequest) -> Report:
    tasks = asked.options.tasks
    labels = benchmarks_configured(tasks) if tasks else None
    cells = [cell for cell in asked.own_cells if labels is None or cell.benchmark in labels]
    found = [cell.benchmark for cell in cells if admits(asked.of_model, cell)]
    results = evaluate(cells, None, asked.of_model, asked.choices, found)
    variant = (
        model_suffix(asked.options) + (f".tasks={joined(tasks)}" if tasks else "") + selection_suffix(asked, [results])
    )
    sheets = sweep.sheets(results, asked.profile)
    return Report("sweep", variant, sheets, [results], {"": sweep.table(results)}, planned=False, latex=False)


def _engines(asked: ReportRequest) -> Report:
    """Of the rows of Table 1."""
    if asked.filters.engine is not None:
        raise NothingToShow(f"both engines are compared; leave out engine={asked.filters.engine}")
    cells = engines.under_both([cell for cell in asked.cells if admits(asked.of_model, cell)])
    cells = asked.settled(cells=cells, leave=["engine"])
    rows = rows_configured("table1", asked.profile, asked.options.model)
    found = engines.compare(cells, rows or rows_found(cells), asked.of_model, asked.choices)
    variant = model_suffix(asked.options) + selection_suffix(asked, found.parts)
    sheets = engine_table.sheets(found, asked.profile)
    return Report("engines", variant, sheets, found.parts, {"": engine_table.table(found)}, latex=False)


def _ledger(asked: ReportRequest) -> Report:
    from plphp_core import claims

    return claims.report(asked)


def _on_one(name: str, asked: ReportRequest) -> tuple[Results, str, str]:
    """A table's rows on its one benchmark, this one's label, and what its files' names say of it."""
    label = benchmark_configured(asked.options.tasks, name)
    results, _, variant = on_benchmarks(name, asked)
    return results, label, variant


def _scores(parts: Sequence[Results]) -> dict[str, pd.DataFrame]:
    return {"": pd.concat(map(long_table, parts)), "_relative": pd.concat(map(relative_table, parts))}


def _claims(options: ReportSettings) -> list[published.Claim]:
    known = (options.published / "claims.yaml").exists()
    return published.load_claims(options.published) if known else []


# name → what makes it, in the order of `all`
REPORTS: dict[str, Callable[[ReportRequest], Report]] = {
    "table1": _table1,
    "table2": _table2,
    "table3": _table3,
    "table4": _table4,
    "table5": _table5,
    **{name: partial(figure_report, name) for name in MODULES},
    "sweep": _sweep,
    "engines": _engines,
    "claims": _ledger,
}


def report_maker(name: str) -> Callable[[ReportRequest], Report]:
    """What makes a report: one of REPORTS, or the table of one's own that `configs/table` has under this name."""
    return REPORTS.get(name) or partial(own_table, name)
