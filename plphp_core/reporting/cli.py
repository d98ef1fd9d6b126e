"""The command line of `scripts/report.py`: options, files written, exit codes."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

from plphp_core.evaluation.settings import PROTOCOL_PROMPTS
from plphp_core.reporting import render
from plphp_core.reporting.cells import Cell, ReportError, load_cells
from plphp_core.reporting.comparison import NothingToShow, Options
from plphp_core.reporting.reports import REPORTS
from plphp_core.reporting.request import MODEL, Report, Request
from plphp_core.reporting.selection import Filters
from plphp_core.spatial_groups import CUTS

DONE, FAILED, INCOMPLETE = 0, 1, 3  # argparse itself exits with 2
OPTIONS = ("profile", "results", "published", "model", "models", "checkpoint", "revision", "dtype",
           "attn-implementation", "protocol", "prompts", "engine", "tasks", "limit", "limit-seed", "rank", "average",
           "gains", "caption-metric", "seed", "cut", "doc", "layer", "image", "cases", "docs")  # fmt: skip
WHAT = {
    "table1": "methods × benchmarks on one model",
    "table2": "α × β: scores, vision kept, KV cache saved",
    "table3": "models with and without PLPHP × benchmarks",
    "table4": "methods on one benchmark: scores, vision kept, KV cache, decode and evaluation time",
    "table5": "several r against none on one benchmark: decode time and KV cache",
    "figure1": "attention to vision per layer, model by model, with its re-attention peaks",
    "figure2": "attention to five spatial groups of an image's tokens per layer",
    "figure3": "where the heads of one layer look on an image, and what PLPHP keeps for them",
    "figure5": "vision kept against score, a polyline per method, the rows of Table 1",
    "figure6": "r × Δr: scores",
    "figure7": "decode time and KV cache sample by sample, the methods of Table 4",
    "figure8": "the same chats answered under each method, the rows of Table 4",
    "sweep": "every setting that has finished cells, one line each",
    "engines": "whether generate and fast answer alike, cell by cell, the rows of Table 1",
    "claims": "every claim of the paper: ours with its interval, and a verdict",
    "all": "every table and figure that has finished cells",
}
DRAWN = [".pdf", ".png"]
FILES = {"table1": ["_relative.csv"], "table3": ["_relative.csv"], "figure1": DRAWN, "figure2": DRAWN,
         "figure3": ["_heads.png", *DRAWN], "figure5": DRAWN, "figure6": ["_delta_r.csv", *DRAWN], "figure7": DRAWN,
         "figure8": DRAWN}  # fmt: skip
ON_TASKS = ("table2", "table4", "table5", "figure3", "figure5", "figure6", "figure7", "figure8", "sweep", "all")
OF_ATTENTION = ("figure1", "figure2", "figure3")  # need no finished cell
LEDGER = "claims"  # comes last
WITHOUT_LATEX = (*OF_ATTENTION, "figure8", "sweep", "engines", "claims")


def main(argv: Sequence[str], root: Path) -> int:
    """Run a report and return its exit code: 0 done, 1 refused, 2 wrong usage, 3 incomplete under --strict.

    `root` is the repository: where configs/ and results/ lie. `name=value` means `--name value`, as in
    `scripts/run.py`.
    """
    options = _parser(root).parse_args(_as_options(argv, OPTIONS))
    names = list(REPORTS) if options.table == "all" else [options.table]
    codes, refused = [], []
    try:
        cells, filters = _cells(options, names), _filters(options)
    except (ReportError, OSError) as error:
        return _complain(error)
    asked = Request(cells, filters, _choices(options), options, root)
    for name in names:
        if name == LEDGER and len(names) > 1 and not codes:
            continue  # it judges whatever there is, also nothing
        try:
            codes.append(_write(REPORTS[name](asked), options))
        except NothingToShow as error:
            refused.append(f"{name}: {error}")
        except (ReportError, OSError) as error:
            codes.append(_complain(error))
    if not codes:
        return _complain(ReportError("; ".join(refused)))
    for reason in refused:
        print(f"notice: {reason}", file=sys.stderr)
    return FAILED if FAILED in codes else max(codes)


def _complain(error: Exception) -> int:
    said = error if isinstance(error, ReportError) else f"{error.filename or 'report'}: {error.strerror or error}"
    print(f"error: {said}", file=sys.stderr)
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
    for name, what in WHAT.items():
        kinds = [*FILES.get(name, ()), ".md", *([".tex"] if name not in WITHOUT_LATEX else [])]
        kinds = {"figure3": kinds, "claims": [".json", ".md"]}.get(name, [".csv", *kinds])
        files = ": " + ", ".join(name + kind for kind in kinds) if name != "all" else ""
        _add_options(tables.add_parser(name, help=what + files, description=what + files), name, root)
    return parser


def _add_options(one: argparse.ArgumentParser, table: str, root: Path) -> None:
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
    if table != "table3":
        pick.add_argument("--model", default=MODEL, help=f"of all but Table 3 (default: {MODEL})")
    if table in ON_TASKS:
        pick.add_argument("--tasks", help="such as vst or [sd,ie]; a single one for costs (default: the table's own)")
    if table in ("table3", "all"):
        pick.add_argument("--models", default="", help="of Table 3, such as mantis,idefics2 (default: the table's own)")
    for name in ("checkpoint", "revision", "dtype", "attn-implementation", "protocol"):
        pick.add_argument(f"--{name}")
    pick.add_argument("--engine", help="what decoded: generate or fast")
    pick.add_argument("--prompts", help="lmms_eval or plain (default: those of the protocol, if one is given)")
    pick.add_argument("--limit", help="full, or the number of samples per benchmark")
    pick.add_argument("--limit-seed", type=int)
    pick.add_argument("--param", action="append", default=[], metavar="METHOD.NAME=VALUE", help="e.g. plphp.alpha=0.25")
    pick.add_argument("--exclude", action="append", default=[], metavar="PATTERN", help="cell files to leave out")
    show = one.add_argument_group("choices the paper leaves open")
    if table != "table3":
        show.add_argument(
            "--rank", choices=("compressed", "all"), default="compressed", help="rows that compete for bold"
        )
    show.add_argument(
        "--average", choices=("columns", "benchmarks"), default="columns", help="what the average runs over"
    )
    show.add_argument(
        "--gains", choices=("relative", "points"), default="relative", help="PLPHP's gains in parentheses"
    )
    if table in ("figure5", "figure6", "all"):
        show.add_argument(
            "--caption-metric",
            choices=("cider", "meteor"),
            default="cider",
            help="score of Flickr30k, COCO2017 and DetailCaps in Figures 5 and 6",
        )
    if table in ("figure2", "all"):
        show.add_argument("--cut", choices=CUTS, default="bands", help="how Figure 2 cuts an image into five groups")
    if table in ("figure3", "all"):
        show.add_argument("--doc", type=int, help="of Figure 3: number of a sample that was looked at")
        show.add_argument("--layer", type=int, help="of Figure 3, from 1 (default: the pruned one with the highest γ)")
        show.add_argument("--image", type=int, help="of Figure 3, from 1 (default: the one it attends to most)")
    if table in ("figure8", "all"):
        show.add_argument("--cases", type=int, default=1, help="of Figure 8: samples of each benchmark")
        show.add_argument("--docs", help="of Figure 8: which samples, such as sd:12,vst:3")
    show.add_argument("--seed", type=int, default=0, help="seed of the bootstrap")


def _cells(options: argparse.Namespace, names: Sequence[str]) -> list[Cell]:
    """The finished cells; none where only attention is asked for, or only that was read."""
    if not re.fullmatch(r"[A-Za-z0-9_-]+", options.profile):
        raise ReportError(f"profile {options.profile!r} is not a name")
    folder = options.results / options.profile
    if set(names) <= set(OF_ATTENTION) or (not (folder / "cells").is_dir() and (folder / "attention").is_dir()):
        return []
    return load_cells(folder / "cells", options.profile)


def _filters(options: argparse.Namespace) -> Filters:
    shared = ("checkpoint", "revision", "dtype", "attn_implementation", "protocol", "engine", "limit", "limit_seed")
    return Filters(
        **{name: getattr(options, name) for name in shared},
        prompts=options.prompts or PROTOCOL_PROMPTS.get(options.protocol),
        params=_params(options.param),
        exclude=tuple(options.exclude),
    )


def _params(arguments: Sequence[str]) -> dict[tuple[str, str], str]:
    found = {}
    for argument in arguments:
        match = re.fullmatch(r"(\w+)\.(\w+)=(.+)", argument)
        if not match:
            raise ReportError(f"--param {argument!r}: expected METHOD.NAME=VALUE, for example plphp.alpha=0.25")
        found[match[1], match[2]] = match[3]
    return found


def _choices(options: argparse.Namespace) -> Options:
    rank = getattr(options, "rank", Options.rank)
    return Options(rank=rank, average=options.average, gains=options.gains, seed=options.seed)


def _write(report: Report, options: argparse.Namespace) -> int:
    """Write and print a table. Returns the exit code."""
    folder = options.results / options.profile
    files = report.files()
    for name, text in files.items():
        render.write_atomically(folder / name, text)
    if not options.quiet:
        render.print_sheets(report.sheets)
    print(f"written to {folder}: {', '.join(files)}")
    missing = sum(len(part.missing()) for part in report.parts) if report.planned else 0
    failed = sum(cell.errors for part in report.parts for cell in part.cells.values())
    if missing:
        print(f"notice: {missing} cells of {report.name} are not finished and stay n/a", file=sys.stderr)
    if failed:
        print(f"notice: {failed} samples of {report.name} failed, marked † in the table", file=sys.stderr)
    return INCOMPLETE if options.strict and (missing or failed) else DONE
