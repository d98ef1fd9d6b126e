"""The command line of `scripts/report.py`: options, files written, exit codes."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

from plphp_core.reporting import published, render, table1, table1_layout
from plphp_core.reporting.cells import ReportError, load_cells
from plphp_core.reporting.selection import Filters, rows_configured

DONE, FAILED, INCOMPLETE = 0, 1, 3  # argparse itself exits with 2
OPTIONS = ("profile", "results", "published", "model", "checkpoint", "revision", "dtype", "attn-implementation",
           "protocol", "limit", "limit-seed", "rank", "average", "gains", "seed")  # fmt: skip


def main(argv: Sequence[str], root: Path) -> int:
    """Run one report and return its exit code: 0 done, 1 refused, 2 wrong usage, 3 incomplete under --strict.

    `root` is the repository: where configs/ and results/ lie. `name=value` means `--name value`, as in
    `scripts/run.py`.
    """
    options = _parser(root).parse_args(_as_options(argv, OPTIONS))
    try:
        return _table1(options, root)
    except ReportError as error:
        print(f"error: {error}", file=sys.stderr)
    except OSError as error:
        print(f"error: {error.filename or 'report'}: {error.strerror or error}", file=sys.stderr)
    return FAILED


def _as_options(argv: Sequence[str], names: Collection[str]) -> list[str]:
    """`name=value` as `--name=value` for the options in `names`; `limit=` and `limit=null` (no limit) become "full"."""
    found = []
    for argument in argv:
        name, equals, value = argument.removeprefix("--").partition("=")
        name = name.replace("_", "-")
        if equals and name in names:
            found.append(f"--{name}={'full' if name == 'limit' and value in ('', 'null') else value}")
        else:
            found.append(argument)
    return found


def _parser(root: Path) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="report.py",
        description="Tables from finished cells. name=value is short for --name value, e.g. profile=toy.",
    )
    tables = parser.add_subparsers(dest="table", required=True, metavar="TABLE")
    one = tables.add_parser(
        "table1", help="methods × benchmarks: table1.csv, table1_relative.csv, table1.md, table1.tex"
    )
    one.add_argument("--profile", default="paper", help="whose cells to read: paper (default) or toy")
    one.add_argument(
        "--results", type=Path, default=root / "results", help="results folder (default: the repository's)"
    )
    one.add_argument(
        "--published",
        type=Path,
        default=root / "results" / "paper" / "published",
        help="folder of the paper's own numbers",
    )
    one.add_argument("--strict", action="store_true", help="exit with 3 if a cell is missing or has failed samples")
    one.add_argument("--quiet", action="store_true", help="write the files, print no table")
    pick = one.add_argument_group("which cells, where several are finished")
    pick.add_argument("--model", default="llava_onevision")
    for name in ("checkpoint", "revision", "dtype", "attn-implementation", "protocol"):
        pick.add_argument(f"--{name}")
    pick.add_argument("--limit", help="full, or the number of samples per benchmark")
    pick.add_argument("--limit-seed", type=int)
    pick.add_argument("--param", action="append", default=[], metavar="METHOD.NAME=VALUE", help="e.g. plphp.alpha=0.25")
    pick.add_argument("--exclude", action="append", default=[], metavar="PATTERN", help="cell files to leave out")
    show = one.add_argument_group("choices the paper leaves open")
    show.add_argument("--rank", choices=("compressed", "all"), default="compressed", help="rows that compete for bold")
    show.add_argument(
        "--average", choices=("columns", "benchmarks"), default="columns", help="what the average runs over"
    )
    show.add_argument(
        "--gains", choices=("relative", "points"), default="relative", help="PLPHP's gains in parentheses"
    )
    show.add_argument("--seed", type=int, default=0, help="seed of the bootstrap")
    return parser


def _table1(options: argparse.Namespace, root: Path) -> int:
    if not re.fullmatch(r"[A-Za-z0-9_-]+", options.profile):
        raise ReportError(f"profile {options.profile!r} is not a name")
    folder = options.results / options.profile
    cells = load_cells(folder / "cells", options.profile)
    shared = ("model", "checkpoint", "revision", "dtype", "attn_implementation", "protocol", "limit", "limit_seed")
    chosen = {name: getattr(options, name) for name in shared}
    filters = Filters(**chosen, params=_params(options.param), exclude=tuple(options.exclude))
    rows = rows_configured(root / "configs", "table1", options.profile, options.model)
    choices = table1.Options(rank=options.rank, average=options.average, gains=options.gains, seed=options.seed)
    results = table1.evaluate(cells, rows, filters, choices)
    sheets = table1_layout.sheets(results, options.profile, published.load_reference(options.published, "table1"))
    files = {
        "table1.csv": table1.long_table(results).to_csv(index=False, na_rep="n/a", float_format="%.8g"),
        "table1_relative.csv": table1.relative_table(results).to_csv(index=False, na_rep="n/a", float_format="%.8g"),
        "table1.md": render.markdown(sheets),
        "table1.tex": render.latex(sheets),
    }
    for name, text in files.items():
        render.write_atomically(folder / name, text)
    if not options.quiet:
        render.print_sheets(sheets)
    print(f"written to {folder}: {', '.join(files)}")
    missing, failed = len(results.missing()), sum(cell.errors for cell in results.cells.values())
    if missing:
        print(f"notice: {missing} cells of the table are not finished and stay n/a", file=sys.stderr)
    if failed:
        print(f"notice: {failed} samples failed, marked † in the table", file=sys.stderr)
    return INCOMPLETE if options.strict and (missing or failed) else DONE


def _params(arguments: Sequence[str]) -> dict[tuple[str, str], str]:
    found = {}
    for argument in arguments:
        match = re.fullmatch(r"(\w+)\.(\w+)=(.+)", argument)
        if not match:
            raise ReportError(f"--param {argument!r}: expected METHOD.NAME=VALUE, for example plphp.alpha=0.25")
        found[match[1], match[2]] = match[3]
    return found
