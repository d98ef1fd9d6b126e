"""Numbers and pictures of the documents, written from results and never by hand: `make readme`.

Reads `results/toy` (`make smoke`, `make reproduce-table3 PROFILE=toy`), the plan of `make reproduce DRY=1` and the toy
checkpoint. Writes docs/results-toy.csv, docs/images/, and what stands between `<!-- begin:NAME -->` and
`<!-- end:NAME -->` in the documents. `--check` writes nothing and fails where a document says something else.
"""

import argparse
import contextlib
import io
import json
import math
import os
import re
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}  # nothing here needs a network

import numpy as np
import pandas as pd
from PIL import Image

from plphp_core.analysis.bootstrap import KV_SAVED, RETENTION
from plphp_core.analysis.method_style import method_style
from plphp_core.analysis.results import SLOTS
from plphp_core.config.report_settings import report_settings
from plphp_core.records.cell_result import read_cells
from plphp_core.records.errors import ReportError
from plphp_core.reporting.reports import make_report
from plphp_core.reporting.request import ReportRequest

ROOT = Path(__file__).resolve().parents[1]
NUMBERS, IMAGES = ROOT / "docs/results-toy.csv", ROOT / "docs/images"
TABLES = {"table1": "make smoke", "table3": "make reproduce-table3 PROFILE=toy"}
# Another processor rounds sums differently: an answer in a few hundred then differs by a word. In percent or points.
TOLERANCE = 1.0
MARK = re.compile(r"<!-- begin:(\w+) -->")
SCENE = 1  # of DetailCaps: the sample that Figure 3 shows, first of the seeded random order


@dataclass(frozen=True)
class Block:
    """A marked place in a document and the function that gives its text."""

    file: str
    name: str
    text: object

    def pattern(self) -> re.Pattern[str]:
        return re.compile(rf"(<!-- begin:{self.name} -->\n).*?(<!-- end:{self.name} -->)", re.S)


# --- numbers -------------------------------------------------------------------------------------------------------


def measured(results: Path) -> pd.DataFrame:
    """What the finished cells of the toy profile say, a row per table, model, setting and column.

    value, low, high: scores ×100; change, kept and saved in percent, with their 95 % intervals.
    """
    rows = []
    for table in TABLES:
        options = report_settings([f"table={table}", "profile=toy", f"results={results}"])
        try:
            cells, damaged = read_cells(results / "toy" / "cells", "toy")
            parts = make_report(table, ReportRequest(cells, options, ROOT)).parts
        except ReportError:  # nothing that this table needs is finished
            continue
        if damaged:
            sys.exit(f"error: {next(iter(damaged.values()))}")
        if any(part.missing() for part in parts):
            continue
        for part in parts:
            for index, row in enumerate(part.rows):
                columns = {
                    f"{benchmark} {heading}": (part.value(index, benchmark, metric), part.catalogue[benchmark].scale)
                    for benchmark, metric, heading in part.score_places()
                }
                columns |= {f"words {one}": (part.value(index, one, SLOTS), 100) for one in part.finished()}
                columns |= {
                    "change": (part.average_change(index), 100),
                    "kept": (part.average(index, RETENTION), 100),
                    "saved": (part.average(index, KV_SAVED), 100),
                }
                for column, (found, scale) in columns.items():
                    if not math.isnan(found.value):
                        numbers = (round(scale * one, 2) + 0.0 for one in (found.value, found.low, found.high))
                        rows.append((table, part.title, row.method, part.setting(index), column, *numbers))
    return pd.DataFrame(rows, columns=["table", "model", "method", "setting", "column", "value", "low", "high"])


@cache
def committed() -> pd.DataFrame:
    """docs/results-toy.csv."""
    return pd.read_csv(NUMBERS, keep_default_na=False, na_values=["n/a"])


def differences(found: pd.DataFrame, known: pd.DataFrame) -> list[str]:
    """Where measured numbers are not the committed ones, within TOLERANCE; of the tables that were measured."""
    names = ["table", "model", "method", "setting", "column"]
    known = known[known.table.isin(set(found.table))]
    both = known.merge(found, on=names, how="outer", suffixes=("", "_found"), indicator=True)
    limit = TOLERANCE * np.maximum(1, both.value.abs() / 100)
    wrong = both[(both._merge != "both") | ~((both.value - both.value_found).abs() <= limit)]
    return [
        f"{' '.join(getattr(one, name) for name in names)}: {one.value} in {NUMBERS.name}, {one.value_found} measured"
        for one in wrong.itertuples()
    ]


# --- tables --------------------------------------------------------------------------------------------------------


def _pipes(rows: list[list[str]], words: int) -> str:
    head, *others = rows
    lines = [head, [":--"] * words + ["--:"] * (len(head) - words), *others]
    return "\n".join(f"| {' | '.join(one)} |" for one in lines) + "\n"


def _percent(value: float, signed: bool = False) -> str:
    return f"{value:+.1f}%".replace("-", "−") if signed and value else f"{value:.1f}%".replace("-", "−")


def _groups(table: str) -> list[tuple[tuple[str, str, str], pd.DataFrame]]:
    """(model, method, setting) → its numbers by column, in the table's order."""
    own = committed()[committed().table == table]
    keys = ["model", "method", "setting"]
    return [(key, part.set_index("column")) for key, part in own.groupby(keys, sort=False)]


def small_table() -> str:
    """The README's: every setting of Table 1, what it keeps and what it costs."""
    rows = [
        [
            "method",
            "setting",
            "average change of scores",
            "vision tokens kept",
            "KV cache saved",
            "95% interval of the change",
        ]
    ]
    for (_, method, setting), own in _groups("table1"):
        change = own.loc["change"]
        interval = "" if method == "none" else f"{_percent(change.low, True)} to {_percent(change.high, True)}"
        kept, saved = (_percent(own.loc[name, "value"]) for name in ("kept", "saved"))
        rows.append([method_style(method).label, setting, _percent(change.value, True), kept, saved, interval])
    return _pipes(rows, 2)


def score_table(table: str, front: str = "") -> str:
    """A table of the report: its score columns, or its content words where `front` is "words "."""
    groups = _groups(table)
    last = ["change", "kept", "saved"] if not front else []
    several = len({model for (model, *_), _ in groups}) > 1
    columns = dict.fromkeys(
        name for _, own in groups for name in own.index if name not in ("change", "kept", "saved")
        and name.startswith("words ") == bool(front)
    )  # fmt: skip
    rows = [["model"] * several + ["method", "setting", *last, *(name.removeprefix(front) for name in columns)]]
    for (model, method, setting), own in groups:
        numbers = [_percent(own.loc[name, "value"], name == "change") for name in last]
        numbers += [f"{own.loc[name, 'value']:.1f}" if name in own.index else "–" for name in columns]
        rows.append([model] * several + [method_style(method).label, setting, *numbers])
    return _pipes(rows, 2 + several)


def example() -> str:
    """What the README's Python prints."""
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S)
    said, before = io.StringIO(), Path.cwd()
    os.chdir(ROOT)
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(io.StringIO()):
            exec(compile(code, "README.md", "exec"), {})
    finally:
        os.chdir(before)
    return f"```text\n{said.getvalue()}```\n"


# --- the plan ------------------------------------------------------------------------------------------------------

PLANNED = {  # table → the target that makes it
    "table1": "`reproduce-table1`, `-figure5`, `-figure8`",
    "table2": "`reproduce-table2`",
    "table3": "`reproduce-table3`",
    "table4": "`reproduce-table4`",
    "table5": "`reproduce-table5`",
    "figure6": "`reproduce-figure6`",
    "figure7": "`reproduce-figure7`",
    "all": "`reproduce`: all of it, no cell twice",
}


def plan() -> str:
    """Answers, hours and bytes of each target under the paper profile, as `make … DRY=1` estimates them."""
    from plphp_core.preflight.room import LEAST, PER_ANSWER

    rows = [["target", "answers", "time", "answers at LIMIT=100", "time at LIMIT=100", "results on disk"]]
    with tempfile.TemporaryDirectory() as empty:
        for table, target in PLANNED.items():
            full, limited = _planned(table, empty), _planned(table, empty, "limit=100")
            answers, seconds = (
                [sum(getattr(one, name) or 0 for one in some) for some in (full, limited)]
                for name in ("missing", "time")
            )
            disk = f"{(LEAST + answers[0] * PER_ANSWER) / 1e9:.1f} GB"
            rows.append([target, f"{answers[0]:,}", _hours(seconds[0]), f"{answers[1]:,}", _hours(seconds[1]), disk])
    return _pipes(rows, 1)


def _planned(table: str, results: str, *more: str) -> list:
    from plphp_core.cli.run_command import Scheduler, group_runs
    from plphp_core.config.hydra_app import compose_here
    from plphp_core.evaluation.plan import plan_ahead

    scheduler = Scheduler()
    compose_here([f"table={table}", f"results={results}", *more], scheduler.add)
    return [one for group in group_runs(scheduler.runs) for one in plan_ahead(group)[0]]


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.0f} h" if seconds >= 36000 else f"{seconds / 3600:.1f} h"


# --- pictures ------------------------------------------------------------------------------------------------------


def points() -> dict[str, list[float]]:
    """Method and setting → KV cache saved, average change: what the picture draws."""
    return {
        f"{method} {setting}".strip(): [float(own.loc[name, "value"]) for name in ("saved", "change")]
        for (_, method, setting), own in _groups("table1")
    }


def scene() -> Image.Image:
    from datasets import load_from_disk

    row = load_from_disk(str(ROOT / "tasks/toy/data/detailcaps"))["test"][SCENE]
    return Image.open(io.BytesIO(row["binary"])).convert("RGB")


def draw() -> None:
    """docs/images/scene.png, and overview.png: what two heads keep of it, beside score over bytes."""
    import torch
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    from plphp_core import PLPHP, prune
    from plphp_core.families import get_family
    from plphp_core.reporting.figures.drawing import style
    from plphp_core.vision.token_geometry import kept_share

    IMAGES.mkdir(exist_ok=True)
    image = scene()
    image.save(IMAGES / "scene.png", optimize=True)
    family = get_family("llava_onevision")
    model, processor = family.load(str(ROOT / "tasks/toy/checkpoints/llava_onevision"), dtype="float32")
    inputs = family.encode(processor, [family.prompt("Describe this image in detail.", 1)], [[image]])
    with torch.no_grad(), prune(model, PLPHP(alpha=0.85, beta=0.7)) as trace:
        model(**inputs)
    layer = int(trace.retention[0].argmin())  # the one that keeps the least, the first of several
    (boxes,), pixels = family.token_boxes(model, inputs), np.asarray(image) / 255
    with style():
        figure = Figure(figsize=(10, 2.9), dpi=110, layout="constrained")
        left, right = figure.subfigures(1, 2, width_ratios=[3, 1.9])
        maps, plot = left.subplots(1, 3), right.subplots()
        share = trace.retention[0, layer]
        left.suptitle(f"every head keeps its own tokens: PLPHP in layer {layer}", fontsize=10)
        left.supxlabel(
            "pale: dropped; half pale: one of two tokens there. Layers are numbered from 0, as in the code.", fontsize=8
        )
        titles = ["image", *(f"KV head {head} keeps {share:.0%}" for head in (0, 1))]
        for axes, title, head in zip(maps, titles, (None, 0, 1), strict=True):
            shown = pixels
            if head is not None:
                kept = torch.isin(trace.images[0][0], trace.kept[layer][0][head])
                part = np.nan_to_num(kept_share(boxes, kept, *pixels.shape[:2]), nan=1.0)[..., None]
                shown = 1 - (1 - pixels) * (0.12 + 0.88 * part)
            axes.imshow(shown, interpolation="nearest")
            axes.set_title(title, fontsize=9)
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(True)
            axes.grid(False)
        for method in dict.fromkeys(method for (_, method, _), _ in _groups("table1")):
            own = [part for (_, name, _), part in _groups("table1") if name == method]
            saved = [part.loc["saved", "value"] for part in own]
            change, low, high = (
                np.array([part.loc["change", name] for part in own]) for name in ("value", "low", "high")
            )
            bars = None if method == "none" else np.array([change - low, high - change])
            look = method_style(method)
            line = {"color": look.colour, "marker": look.marker or "*", "markersize": 6, "linewidth": 1.2}
            plot.errorbar(saved, change, bars, capsize=2, label=look.label, **line)
        right.suptitle("score over memory, toy model, 95% intervals", fontsize=10)
        plot.set_xlabel("KV cache saved")
        plot.set_ylabel("average change of the scores")
        plot.xaxis.set_major_formatter(PercentFormatter(decimals=0))
        plot.yaxis.set_major_formatter(PercentFormatter(decimals=0))
        plot.legend(loc="lower left", fontsize=8)
        figure.savefig(IMAGES / "overview.png", metadata={"Software": None, "Description": json.dumps(points())})


def drawn_points() -> dict[str, list[float]]:
    """The numbers that the committed picture was drawn from, as it carries them."""
    return json.loads(Image.open(IMAGES / "overview.png").text["Description"])


# --- the command ---------------------------------------------------------------------------------------------------

BLOCKS = (
    Block("README.md", "results", small_table),
    Block("README.md", "example", example),
    Block("docs/results-toy.md", "table1", lambda: score_table("table1")),
    Block("docs/results-toy.md", "words", lambda: score_table("table1", "words ")),
    Block("docs/results-toy.md", "table3", lambda: score_table("table3")),
    Block("docs/gpu-guide.md", "plan", plan),
)


def stands(block: Block) -> str:
    """What a document has between the marks of a block. Raises ValueError: it has no such marks."""
    if found := block.pattern().search((ROOT / block.file).read_text(encoding="utf-8")):
        return found[0][len(found[1]) : -len(found[2])]
    raise ValueError(f"{block.file} has no <!-- begin:{block.name} --> … <!-- end:{block.name} -->")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 where something differs")
    parser.add_argument(
        "--results", type=Path, default=Path("results"), help="folder of the runs (default %(default)s)"
    )
    options = parser.parse_args(arguments)
    found = measured(options.results.resolve())
    if missing := [command for table, command in TABLES.items() if table not in set(found.table)]:
        print(f"{options.results / 'toy'} lacks finished cells: {'; '.join(missing)}", file=sys.stderr)
    if options.check:
        wrong = differences(found, committed())
        wrong += [
            f"{one.file}: block {one.name} is not what `make readme` writes"
            for one in BLOCKS
            if stands(one) != one.text()
        ]
        if drawn_points() != points():
            wrong.append("docs/images/overview.png was drawn from other numbers")
        print("\n".join(wrong) or f"documents and {', '.join(dict.fromkeys(found.table)) or 'nothing measured'} agree")
        return int(bool(wrong) or found.empty)
    if missing:
        return 1
    found.to_csv(NUMBERS, index=False, na_rep="n/a")
    committed.cache_clear()
    draw()
    for block in BLOCKS:
        path, old, new = ROOT / block.file, stands(block), block.text()
        text = path.read_text(encoding="utf-8")
        marks = f"<!-- begin:{block.name} -->\n{{}}<!-- end:{block.name} -->"
        path.write_text(text.replace(marks.format(old), marks.format(new)), encoding="utf-8")
    print(f"written: {', '.join(dict.fromkeys(block.file for block in BLOCKS))}, {NUMBERS.name}, {IMAGES.name}/")
    return 0


if __name__ == "__main__":
    sys.exit(main())
