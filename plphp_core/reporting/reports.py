"""Everything that `plphp report` can make, by name: tables, figures, the comparison of engines, ledgers of claims."""

from __future__ import annotations

from importlib import import_module

from plphp_core.config.hydra_app import options
from plphp_core.config.table_configs import COMPARE, table_config
from plphp_core.reporting import cost_report, engine_comparison
from plphp_core.reporting.configured import has_rows
from plphp_core.reporting.request import ENGINES, LEDGER, THIRD_PARTIES, Report, ReportRequest, report_order
from plphp_core.reporting.table_report import table_report

FIGURES = {  # the figures of the paper → their modules, which import matplotlib and are imported when one is made
    "figure1": "attention_by_layer",
    "figure2": "attention_by_layer",
    "figure3": "attention_by_head",
    "figure5": "score_panels",
    "figure6": "score_panels",
    "figure7": "cost_per_sample",
    "figure8": "answers_side_by_side",
}
COLLECTIONS = ("page", "all")  # options of the group `table` that are several reports


def report_names(profile: str) -> list[str]:
    """What `table=all` makes: every option of the group `table` that has rows for the profile, in order."""
    names = set(options("table")) - set(COLLECTIONS)
    return sorted((name for name in names if has_rows(name, profile)), key=report_order)


def make_report(name: str, asked: ReportRequest) -> Report:
    """A table or figure with all its files. Raises NothingToShow without finished work, ReportError."""
    if name in (LEDGER, THIRD_PARTIES):
        from plphp_core import claims  # which imports this package

        return claims.report(asked) if name == LEDGER else claims.third_parties_report(asked)
    if name == ENGINES:
        return engine_comparison.report(asked)
    if table_config(name).table.get("kind") == COMPARE:
        return cost_report.report(name, asked)
    if name in FIGURES:
        return getattr(import_module(f"plphp_core.reporting.figures.{FIGURES[name]}"), name.upper()).report(asked)
    return table_report(name, asked)
