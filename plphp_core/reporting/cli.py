"""The command line of `scripts/report.py`: options, files written, exit codes."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from plphp_core.evaluation.settings import PROTOCOL_PROMPTS
from plphp_core.reporting import published, render, table1, table3, table4, table5
from plphp_core.reporting.cells import Cell, ReportError, load_cells
from plphp_core.reporting.comparison import (
    BENCHMARKS,
    NothingToShow,
    Options,
    Results,
    evaluate,
    long_table,
    protocol,
    relative_table,
)
from plphp_core.reporting.costs import Costs, cost_table, costs, sample_table
from plphp_core.reporting.selection import Filters, benchmark_configured, rows_configured, tasks_configured
from plphp_core.reporting.sheet import Sheet

DONE, FAILED, INCOMPLETE = 0, 1, 3  # argparse itself exits with 2
OPTIONS = ("profile", "results", "published", "model", "models", "checkpoint", "revision", "dtype",
           "attn-implementation", "protocol", "prompts", "engine", "tasks", "limit", "limit-seed", "rank", "average",
           "gains", "seed")  # fmt: skip
MODEL = "llava_onevision"  # of all tables but Table 3


@dataclass(frozen=True)
class Report:
    """A table or figure ready to be written: its sheets and the models behind it. `name` starts its files' names.

    tables: suffix of the name → what the csv file holds; pictures: file type → content.
    """

    name: str
    variant: str
    sheets: Sequence[Sheet]
    parts: Sequence[Results]
    tables: Mapping[str, pd.DataFrame]
    pictures: Mapping[str, bytes] = field(default_factory=dict)

    def files(self) -> dict[str, str | bytes]:
        """File name → content."""
        csv = {"index": False, "na_rep": "n/a", "float_format": "%.8g"}
        return {
            **{f"{self.name}{kind}{self.variant}.csv": table.to_csv(**csv) for kind, table in self.tables.items()},
            f"{self.name}{self.variant}.md": render.markdown(self.sheets),
            f"{self.name}{self.variant}.tex": render.latex(self.sheets),
            **{f"{self.name}{self.variant}.{kind}": content for kind, content in self.pictures.items()},
        }


def main(argv: Sequence[str], root: Path) -> int:
    """Run a report and return its exit code: 0 done, 1 refused, 2 wrong usage, 3 incomplete under --strict.

    `root` is the repository: where configs/ and results/ lie. `name=value` means `--name value`, as in
    `scripts/run.py`.
    """
    options = _parser(root).parse_args(_as_options(argv, OPTIONS))
    tables = TABLES if options.table == "all" else {options.table: TABLES[options.table]}
    codes, refused = [], []
    try:
        cells, filters = _cells(options), _filters(options)
    except (ReportError, OSError) as error:
        return _complain(error)
    for name, make in tables.items():
        try:
            report = make(cells, filters, _choices(options), options, root)
            codes.append(_write(report, options))
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
    for name, what in {
        "table1": "methods × benchmarks on one model",
        "table3": "models with and without PLPHP × benchmarks",
        "table4": "methods on one benchmark: scores, vision kept, KV cache, decode and evaluation time",
        "table5": "several r against none on one benchmark: decode time and KV cache",
        "figure7": "decode time and KV cache sample by sample, the methods of Table 4",
        "all": "every table and figure that has finished cells",
    }.items():
        kinds = {"table1": ["_relative.csv"], "table3": ["_relative.csv"], "figure7": [".pdf", ".png"]}.get(name, [])
        files = ": " + ", ".join(name + kind for kind in (".csv", *kinds, ".md", ".tex")) if name != "all" else ""
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
    if table in COSTS or table == "all":
        pick.add_argument(
            "--tasks", help="benchmark of Tables 4 and 5 and Figure 7, such as vst (default: the table's own)"
        )
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
    show.add_argument("--seed", type=int, default=0, help="seed of the bootstrap")


def _cells(options: argparse.Namespace) -> list[Cell]:
    if not re.fullmatch(r"[A-Za-z0-9_-]+", options.profile):
        raise ReportError(f"profile {options.profile!r} is not a name")
    return load_cells(options.results / options.profile / "cells", options.profile)


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


def _table1(cells, filters: Filters, choices: Options, options: argparse.Namespace, root: Path) -> Report:
    filters = replace(filters, model=options.model)
    rows = rows_configured(root / "configs", "table1", options.profile, options.model)
    results = evaluate(cells, rows, filters, choices)
    sheets = table1.sheets(results, options.profile, published.load_reference(options.published, "table1"))
    return Report("table1", _model(options) + _variant([results]), sheets, [results], _scores([results]))


def _table3(cells, filters: Filters, choices: Options, options: argparse.Namespace, root: Path) -> Report:
    models = [name for name in options.models.strip("[]").split(",") if name]
    parts = table3.compare(cells, root / "configs", options.profile, models, filters, choices)
    references = {part.model: published.load_reference(options.published, "table3", part.model) for part in parts}
    sheets = table3.sheets(parts, options.profile, references, _claims(options))
    chosen = f".models={'+'.join(models)}" if models else ""
    return Report("table3", chosen + _variant(parts), sheets, parts, _scores(parts))


def _table4(cells, filters: Filters, choices: Options, options: argparse.Namespace, root: Path) -> Report:
    found, variant = _costs("table4", cells, filters, choices, options, root)
    sheets = table4.sheets(found, options.profile, published.load_reference(options.published, "table4"))
    return Report("table4", variant, sheets, [found.results], {"": cost_table(found)})


def _table5(cells, filters: Filters, choices: Options, options: argparse.Namespace, root: Path) -> Report:
    found, variant = _costs("table5", cells, filters, choices, options, root)
    reference = published.load_reference(options.published, "table5")
    sheets = table5.sheets(found, options.profile, reference, _claims(options))
    return Report("table5", variant, sheets, [found.results], {"": cost_table(found)})


def _figure7(cells, filters: Filters, choices: Options, options: argparse.Namespace, root: Path) -> Report:
    found, variant = _costs("figure7", cells, filters, choices, options, root)
    from plphp_core.reporting import figure7  # matplotlib takes a second to import, which the tables need not wait for

    sheets = figure7.sheets(found, options.profile, f"figure7{variant}.png")
    pictures = figure7.draw(found, options.profile)
    return Report("figure7", variant, sheets, [found.results], {"": sample_table(found)}, pictures)


def _costs(
    name: str, cells: Sequence[Cell], filters: Filters, choices: Options, options: argparse.Namespace, root: Path
) -> tuple[Costs, str]:
    """The costs of a table's rows on its one benchmark, and what its files' names say of it."""
    configs = root / "configs"
    own = tasks_configured(configs, name)
    tasks = (options.tasks or own).strip("[]")
    label = benchmark_configured(configs, tasks)
    rows = rows_configured(configs, name, options.profile, options.model)
    others = [benchmark for benchmark in BENCHMARKS if benchmark != label]
    here = [cell for cell in cells if cell.benchmark == label]
    results = evaluate(here, rows, replace(filters, model=options.model), choices, others)
    variant = _model(options) + ("" if tasks == own else f".tasks={tasks}") + _variant([results])
    return costs(results, label), variant


def _model(options: argparse.Namespace) -> str:
    return "" if options.model == MODEL else f".model={options.model}"


def _scores(parts: Sequence[Results]) -> dict[str, pd.DataFrame]:
    return {"": pd.concat(map(long_table, parts)), "_relative": pd.concat(map(relative_table, parts))}


COSTS = {"table4": _table4, "table5": _table5, "figure7": _figure7}
TABLES = {"table1": _table1, "table3": _table3, **COSTS}


def _claims(options: argparse.Namespace) -> list[published.Claim]:
    known = (options.published / "claims.yaml").exists()
    return published.load_claims(options.published) if known else []


def _variant(parts: Sequence[Results]) -> str:
    """What a file's name says of a table that is not the full one under the default protocol, so as not to replace it.

    A subset, another protocol, prompts that are not the protocol's own.
    """
    cell = next(cell for part in parts for cell in part.cells.values())
    used = next(name for name in map(protocol, parts) if name)
    found = [f".protocol={used}"] * (used != "lmms_eval")
    found += [f".prompts={cell.prompts}"] * (cell.prompts != PROTOCOL_PROMPTS.get(used, cell.prompts))
    found += [f".engine={cell.engine}"] * (cell.engine != "generate")
    if cell.limit is not None:
        found += [f".limit={cell.limit}"] + [f".seed={cell.limit_seed}"] * bool(cell.limit_seed)
    return "".join(found)


def _write(report: Report, options: argparse.Namespace) -> int:
    """Write and print a table. Returns the exit code."""
    folder = options.results / options.profile
    files = report.files()
    for name, text in files.items():
        render.write_atomically(folder / name, text)
    if not options.quiet:
        render.print_sheets(report.sheets)
    print(f"written to {folder}: {', '.join(files)}")
    missing = sum(len(part.missing()) for part in report.parts)
    failed = sum(cell.errors for part in report.parts for cell in part.cells.values())
    if missing:
        print(f"notice: {missing} cells of {report.name} are not finished and stay n/a", file=sys.stderr)
    if failed:
        print(f"notice: {failed} samples of {report.name} failed, marked † in the table", file=sys.stderr)
    return INCOMPLETE if options.strict and (missing or failed) else DONE
