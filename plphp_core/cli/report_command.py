"""`plphp report table=table1`: tables, figures, verdicts and the page from what has been run."""

from __future__ import annotations

import io
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from plphp_core.analysis.results import NothingToShow
from plphp_core.claims.claim_finding import headline
from plphp_core.config.locations import PACKAGED
from plphp_core.config.report_settings import ReportSettings, report_settings
from plphp_core.records.atomic import write_atomically
from plphp_core.records.cell_result import CellResult, read_cells
from plphp_core.records.errors import ReportError, RunError
from plphp_core.reporting import terminal
from plphp_core.reporting.reports import COLLECTIONS, make_report, report_names
from plphp_core.reporting.request import ENGINES, LEDGER, THIRD_PARTIES, Report, ReportRequest, asked_suffix

DONE, FAILED, INCOMPLETE = 0, 1, 3
OF_ATTENTION = ("figure1", "figure2", "figure3", "token_maps")  # need no finished cell


def main(arguments: Sequence[str]) -> int:
    """Make what `table=…` names from finished cells. Returns the exit code of `write_reports`. Raises UserError."""
    return write_reports(report_settings(arguments))


def write_reports(options: ReportSettings) -> int:
    """Write a table or figure, or all of them. Returns 0 done, 1 refused, 3 incomplete under report.strict=true."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal without a character shows its number
    names = report_names(options.profile) if options.table in COLLECTIONS else [options.table]
    codes: list[int] = []
    refused: list[tuple[str, str]] = []
    failed: list[tuple[str, str]] = []
    made: list[Report] = []
    try:
        cells, damaged = _cells(options, names)
        asked = ReportRequest(cells, options, PACKAGED)
    except (ReportError, OSError) as error:
        return _complain(error)
    for sentence in damaged.values():
        codes.append(_complain(ReportError(sentence)))
    for name in names:
        if name in (LEDGER, THIRD_PARTIES) and len(names) > 1 and not made and not failed:
            continue  # they judge whatever there is, also nothing
        try:
            report = _naming(make_report(name, asked), damaged)
            made.append(report)
            codes.append(DONE if options.table == "page" else _write(report, options))
        except NothingToShow as error:
            refused.append((name, str(error)))
        except (
            Exception
        ) as error:  # one table or figure must not take the others with it; it is named, and the code says so
            codes.append(_complain(error, f"{name}: " * (len(names) > 1 or not _known(error))))
            failed.append((name, _said(error)))
    for line in asked.said:
        print(f"notice: {line}", file=sys.stderr)
    if not made and not failed:
        return _complain(ReportError("; ".join(f"{name}: {reason}" for name, reason in refused)))
    for name, reason in refused:
        print(f"notice: {name}: {reason}", file=sys.stderr)
    page = None
    if options.table in COLLECTIONS and made:
        page = _write_page(made, asked, [one for one in (*refused, *failed) if one[0] != ENGINES])
        codes.append(FAILED if page is None else DONE)
    lost = [name for name, _ in failed] + ["page"] * (options.table in COLLECTIONS and bool(made) and page is None)
    print(closing_line(made, options.results / options.profile, page, lost, len(damaged)))
    return FAILED if FAILED in codes else max(codes)


def closing_line(
    made: Sequence[Report], folder: Path, page: Path | None, failed: Sequence[str], damaged: int = 0
) -> str:
    """The last line: the verdict, what to open, and what failed.

    Args:
        page: the page of several reports; None: there is none, and the reports' own files are named.
        failed: reports that could not be made; damaged: how many files could not be read.
    """
    found = [one for report in made for one in report.findings]
    said = [". ".join(headline(found))] if found else []
    parts = [part for report in made if report.planned for part in report.parts]
    missing = len({(part.model, part.label(at), name) for part in parts for at, name in part.missing()})
    cells = {cell.path: cell.errors for report in made for part in report.parts for cell in part.cells.values()}
    lost = sum(cells.values())
    if not found and cells:
        said.append(f"{len(cells)} cells{', complete' if not (missing or lost) else ''}.")
    files = [f"{report.name}{report.variant}.md" for report in made[:1]]
    if opened := [str(page)] if page else [str(folder / name) for name in files]:
        said.append(f"Open {opened[0]}")
    wrong = [f"{missing} cell{'s' * (missing != 1)} missing"] * bool(missing)
    wrong += [f"{lost} sample{'s' * (lost != 1)} failed"] * bool(lost)
    wrong += [f"{damaged} file{'s' * (damaged != 1)} damaged"] * bool(damaged)
    wrong += [f"failed: {', '.join(failed)}"] * bool(failed)
    return " ".join(said) + (f" ({'; '.join(wrong)})" if wrong else "")


def _write_page(made: Sequence[Report], asked: ReportRequest, missing: Sequence[tuple[str, str]]) -> Path | None:
    """The page's file; None where it could not be written, which is said."""
    from plphp_core.reporting import page  # a page needs what no table does

    try:
        first, *_ = page.write(made, asked, missing=missing, variant=asked_suffix(asked))
        return first
    except Exception as error:  # what was written before stays; the page is named, and the code says so
        _complain(error, "page: " * (not _known(error)))
        return None


def _naming(report: Report, damaged: Mapping[Path, str]) -> Report:
    """The report with a note on the files that could not be read; without them it may lack some of its numbers."""
    if not damaged or not report.sheets:
        return report
    first, *others = report.sheets
    names = ", ".join(path.name for path in list(damaged)[:4]) + (f" and {len(damaged) - 4} more" * (len(damaged) > 4))
    note = f"Left out, since their files are damaged: {names}. Their places are n/a, although they have been run."
    return replace(report, sheets=[replace(first, notes=(*first.notes, note)), *others])


def _known(error: Exception) -> bool:
    """Whether the message was written for the user; others are the system's, or faults of this program."""
    return isinstance(error, (ReportError, RunError, OSError))


def _said(error: Exception) -> str:
    """What went wrong, in a line; of a fault of this program also where, as nobody sees its traceback."""
    if isinstance(error, (ReportError, RunError)):
        return str(error)
    if isinstance(error, OSError):
        return f"{error.filename or 'report'}: {error.strerror or error}"
    last = traceback.extract_tb(error.__traceback__)[-1]
    message = " ".join(str(error).split())[:200]
    return f"{type(error).__name__}: {message} ({Path(last.filename).name}, line {last.lineno})"


def _complain(error: Exception, front: str = "") -> int:
    print(f"error: {front}{_said(error)}", file=sys.stderr)
    return FAILED


def _cells(options: ReportSettings, names: Sequence[str]) -> tuple[list[CellResult], dict[Path, str]]:
    """The finished cells and what is wrong with files that hold none; nothing where only attention is asked for, or
    only that was read, or cells that lie apart (`measured_apart`)."""
    folder = options.results / options.profile
    others = (folder / "attention").is_dir() or any(folder.glob("batch*/cells"))
    if set(names) <= set(OF_ATTENTION) or (not (folder / "cells").exists() and others):
        return [], {}
    return read_cells(folder / "cells", options.profile)


def _write(report: Report, options: ReportSettings) -> int:
    """Write and print a table. Returns the exit code."""
    folder = options.results / options.profile
    files = report.files()
    for name, text in files.items():
        write_atomically(folder / name, text)
    if not options.quiet:
        terminal.print_tables(report.sheets)
    missing = sum(len(part.missing()) for part in report.parts) if report.planned else 0
    failed = sum(cell.errors for part in report.parts for cell in part.cells.values())
    if missing:
        print(f"notice: {missing} cells of {report.name} are not finished and stay n/a", file=sys.stderr)
    if failed:
        print(
            f"notice: {failed} sample{'s' * (failed != 1)} of {report.name} failed, marked † in the table",
            file=sys.stderr,
        )
    return INCOMPLETE if options.strict and (missing or failed) else DONE
