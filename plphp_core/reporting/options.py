"""The options of `scripts/report.py`, and what each of its tables and figures writes."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Sequence
from pathlib import Path

from plphp_core.families.base import DTYPES, dtype_name
from plphp_core.reporting.request import MODEL
from plphp_core.vision.spatial_groups import CUTS

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
    "page": "one HTML file with verdicts, every table and figure, every sample",
    "all": "every table and figure that has finished cells, the verdicts and the page",
}
DRAWN = [".pdf", ".png"]
FILES = {"table1": ["_relative.csv"], "table3": ["_relative.csv"], "figure1": DRAWN, "figure2": DRAWN,
         "figure3": ["_heads.png", *DRAWN], "figure5": DRAWN, "figure6": ["_delta_r.csv", *DRAWN], "figure7": DRAWN,
         "figure8": DRAWN}  # fmt: skip
EVERYTHING = ("page", "all")
ON_TASKS = (
    "table2",
    "table4",
    "table5",
    "figure1",
    "figure2",
    "figure3",
    "figure5",
    "figure6",
    "figure7",
    "figure8",
    "sweep",
    *EVERYTHING,
)
OF_ATTENTION = ("figure1", "figure2", "figure3")  # need no finished cell
LEDGER = "claims"  # comes last
ENGINES = "engines"  # wants both
WITHOUT_LATEX = (*OF_ATTENTION, "figure8", "sweep", "engines", "claims")


def parse(argv: Sequence[str], root: Path) -> argparse.Namespace:
    """The command line's options; `name=value` means `--name value`. Exits with 2 where it cannot be read."""
    return _parser(root).parse_args(_as_options(argv, OPTIONS))


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
    own = {path.stem: "a table of your own" for path in sorted((root / "configs" / "table").glob("*.yaml"))}
    for name, what in (own | WHAT).items():
        kinds = [*FILES.get(name, ()), ".md", *([".tex"] if name not in WITHOUT_LATEX else [])]
        kinds = {"figure3": kinds, "claims": [".json", ".md"]}.get(name, [".csv", *kinds])
        files = ": report.html" if name == "page" else ": " + ", ".join(name + kind for kind in kinds)
        files = "" if name == "all" else files
        _add_options(tables.add_parser(name, help=what + files, description=what + files), name, root)
    return parser


def _add_options(one: argparse.ArgumentParser, table: str, root: Path) -> None:
    one.add_argument("--profile", default="paper", help="whose cells to read: paper (default) or toy")
    one.add_argument(
        "--results", type=_folder, default=root / "results", help="results folder (default: the repository's)"
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
    if table in ON_TASKS or table not in WHAT:
        pick.add_argument("--tasks", help="such as vst or [sd,ie]; a single one for costs (default: the table's own)")
    if table in ("table3", "figure1", "figure2", *EVERYTHING):
        several = "such as mantis,idefics2 (default: the table's own, or all that were read)"
        pick.add_argument("--models", default="", help=f"of Table 3, or of Figures 1 and 2 alone, {several}")
    for name in ("checkpoint", "revision", "attn-implementation", "protocol"):
        pick.add_argument(f"--{name}")
    pick.add_argument("--dtype", type=_dtype, help=f"{', '.join(DTYPES)}, or short as in a run")
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
    if table in ("figure5", "figure6", *EVERYTHING):
        show.add_argument(
            "--caption-metric",
            choices=("cider", "meteor"),
            default="cider",
            help="score of Flickr30k, COCO2017 and DetailCaps in Figures 5 and 6",
        )
    if table in ("figure2", *EVERYTHING):
        show.add_argument("--cut", choices=CUTS, default="bands", help="how Figure 2 cuts an image into five groups")
    if table in ("figure3", *EVERYTHING):
        show.add_argument("--doc", type=int, help="of Figure 3: number of a sample that was looked at")
        show.add_argument("--layer", type=int, help="of Figure 3, from 1 (default: the pruned one with the highest γ)")
        show.add_argument("--image", type=int, help="of Figure 3, from 1 (default: the one it attends to most)")
    if table in ("figure8", *EVERYTHING):
        show.add_argument(
            "--cases",
            type=int,
            choices=range(1, 11),
            default=1,
            metavar="1…10",
            help="of Figure 8: samples of each benchmark",
        )
        show.add_argument("--docs", help="of Figure 8: which samples, such as sd:12,vst:3")
    show.add_argument("--seed", type=int, default=0, help="seed of the bootstrap")


def _folder(value: str) -> Path:
    if not value.strip():
        raise argparse.ArgumentTypeError("is empty; name a folder or leave it out")
    return Path(value)


def _dtype(value: str) -> str:
    try:
        return dtype_name(value)
    except ValueError as error:  # of which argparse would hide the sentence
        raise argparse.ArgumentTypeError(str(error)) from error
