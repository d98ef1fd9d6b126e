"""One way to a report, its files and its results in a test: from cell files of `factories.py`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from plphp_core.analysis.comparable import RowSpec
from plphp_core.analysis.results import Results, evaluate
from plphp_core.cli.entry_point import command
from plphp_core.config.report_choices import Filters, Options
from plphp_core.config.report_settings import report_settings
from plphp_core.records.cell_result import load_cells
from plphp_core.reporting.configured import rows_configured
from plphp_core.reporting.reports import make_report
from plphp_core.reporting.request import Report, ReportRequest
from tests.reporting import factories

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT / "results" / "paper" / "published"
ROWS = [RowSpec(method, params, setting) for method, params, setting, *_ in factories.ROWS]
FAST = Options(resamples=200)


def report(folder: Path, name: str, *argv: str, profile="toy", quiet=True) -> int:
    """The exit code of `scripts/report.py`; its files are below `folder`/<profile>."""
    said = ["report.quiet=true"] if quiet else []
    return command("report", [name, f"profile={profile}", f"results={folder}", *said, *argv])


def made(folder: Path, name: str, records, *overrides, profile="toy") -> Report:
    """A report of these cells and those that are there already; its intervals rest on few resamples."""
    factories.write(folder, *records)
    settings = report_settings([f"table={name}", f"profile={profile}", f"results={folder}", *overrides])
    settings = replace(settings, choices=replace(settings.choices, resamples=200))
    cells = load_cells(folder / profile / "cells", profile)
    return make_report(name, ReportRequest(cells, settings, ROOT))


def written(folder: Path, profile="toy") -> set[str]:
    """Names of the files that reports have written."""
    return {path.name for path in (folder / profile).iterdir() if path.is_file()}


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / "toy" / name).read_bytes() for name in written(folder)}


def results_of(folder: Path, records, rows=ROWS, options=FAST, filters=None, profile="toy", benchmarks=None) -> Results:
    """`rows=None`: those of the cells."""
    factories.write(folder, *records)
    cells = load_cells(folder / profile / "cells", profile)
    return evaluate(cells, rows, filters or Filters(), options, benchmarks)


def saved_of(folder: Path, records, table="table2", profile="toy") -> Results:
    """Of a configured table of ablations."""
    rows = rows_configured(table, profile, "llava_onevision")
    return results_of(folder, records, rows, profile=profile, benchmarks=factories.ABLATIONS)


def costs_of(folder: Path, records, table="table4", profile="toy", resamples=200, filters=None) -> Results:
    """Of a configured table of costs, on DetailCaps."""
    rows = rows_configured(table, profile, "llava_onevision")
    options = Options(resamples=resamples)
    return results_of(folder, records, rows, options, filters, profile, ["DetailCaps"])


def without(records, method: str, setting: str, *benchmarks: str) -> list[dict]:
    return [r for r in records if (r["method"], r["setting"]) != (method, setting) or r["benchmark"] not in benchmarks]


def exact(benchmark: str, method: str, score, **changes) -> dict:
    """A cell of four samples whose every metric is `score`, or the list of scores given."""
    scores = np.broadcast_to(score, 4)
    params, setting = (factories.PLPHP, "r=0.4, Δr=0.3") if method == "plphp" else ({}, "")
    return scored(factories.cell(benchmark, method, params, setting, samples=4, **changes), scores)


def scored(record: dict, scores) -> dict:
    """The record with these scores in every metric."""
    for name, old in record["metrics"].items():
        record["metrics"][name] = factories.metric(scores, old["kind"], old["groups"], float(np.mean(scores)))
    return record


def texts(table, row: int) -> list[str]:
    return [entry.text for entry in table.rows[row].cells]


def change(value: float) -> str:
    """A relative change as tables print it."""
    return f"{100 * value:+.2f}%".replace("-", "−")


def lines_of(panel) -> dict:
    """A panel's polylines by label."""
    return {line.get_label(): line for line in panel.lines if not line.get_label().startswith("_")}
