"""The reports that are made of the world: command lines, what they write, what varies between machines taken out."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from pathlib import Path
from unittest import mock

from matplotlib.figure import Figure

from plphp_core.cli.entry_point import command
from tests.goldens.records import ROOT, DocumentsAtHand

EXPECTED = Path(__file__).parent / "expected"
PICTURES = (".pdf", ".png")
# name → the report's arguments; {world} is the world's folder. Results are {world}/results where nothing else is said.
PAPER = {
    "table1": "table1 profile=paper",
    "table2": "table2 profile=paper",
    "table3": "table3 profile=paper table.models=[idefics2,mantis]",
    "table5": "table5 profile=paper",
    "figure1": "figure1 profile=paper tasks=[sd,mv]",
    "figure2": "figure2 profile=paper attention.models=qwen2_vl,mantis tasks=sd",
    "figure5": "figure5 profile=paper tasks=coco2017 report.caption_metric=meteor",
    "sweep": "sweep profile=paper",
    "claims": "claims profile=paper",
    "third_parties": "third_parties profile=paper",
    "llava15": "llava15 profile=paper results={world}/protocols tasks=[gqa,mme] table.budgets=[64,192] "
    "'table.methods=[none,random_withdraw,fastv,vtw,snapkv]'",
    "kvbudget": "kvbudget profile=paper results={world}/protocols tasks=[ocrbench] table.budgets=[64,128] "
    "'table.methods=[none,random,{{method:snapkv,scope:prompt}},plphp]'",
}
TOY = {
    "table1": "table1 profile=toy report.published={world}/published report.strict=true",
    "table3": "table3 profile=toy report.published={world}/published",
    "table4": "table4 profile=toy report.published={world}/published report.strict=true",
    "table5_llava": "table5 profile=toy tasks=vst protocol=llava report.published={world}/published",
    "figure1": "figure1 profile=toy",
    "figure2_order": "figure2 profile=toy attention.models=[idefics2] tasks=ie report.cut=order",
    "figure3": "figure3 profile=toy",
    "figure5_limit": "figure5 profile=toy tasks=mv limit=8 report.rank=all report.average=benchmarks "
    "report.gains=points report.seed=1",
    "figure6": "figure6 profile=toy tasks=detailcaps",
    "figure7": "figure7 profile=toy",
    "figure8": "figure8 profile=toy",
    "figure8_docs": "figure8 profile=toy report.docs=sd:2,vst:5",
    "sweep_limit": "sweep profile=toy limit=8",
    "engines": "engines profile=toy",
    "third_parties": "third_parties profile=toy results={world}/compared tasks=[ie,flickr30k]",
    "compare": "compare profile=toy results={world}/compared tasks=[ie,flickr30k] "
    "table.budgets=[0.33,0.5] 'table.methods=[none,random,recency,{{method:snapkv,scope:prompt}},plphp,vtw]'",
    "claims": "claims profile=toy",
}
REFUSED = {
    "nothing": "table1 profile=toy results={world}/nowhere",
    "no_name": "table1 profile=../toy",
    "no_such_method_parameter": "table1 profile=toy method=plphp method.beta_=3",
    "no_cell_fits": "table1 profile=toy limit=7",
    "revisions": "table1 profile=toy results={world}/revisions",
    "documents": "table1 profile=toy results={world}/documents",
    "data": "table1 profile=toy results={world}/data",
    "rivals": "table1 profile=toy results={world}/rivals",
    "damaged": "sweep profile=toy results={world}/damaged",
    "schema": "sweep profile=toy results={world}/schema",
    "field": "sweep profile=toy results={world}/field",
    "value": "sweep profile=toy results={world}/value",
    "journal": "engines profile=toy results={world}/journal",
    "one_engine": "engines profile=toy engine=fast",
    "several_tasks_of_costs": "table4 profile=toy tasks=[sd,ie]",
    "unknown_task": "table2 profile=toy tasks=nowhere",
    "unanswered_sample": "figure8 profile=toy report.docs=sd:99",
    "no_sight": "figure3 profile=toy attention.doc=77",
    "nothing_compared": "compare profile=toy tasks=[sd]",
    "no_places": "figure2 profile=toy attention.models=[idefics2]",
}
# to stay small: what says the same as the file beside it, and is there in the other profile
LEFT_OUT = {"toy/claims": ["claims.json"], "toy/table1": ["table1_relative.csv"]}
RUNS = {f"{kind}/{name}": line for kind, some in (("paper", PAPER), ("toy", TOY), ("refused", REFUSED))
        for name, line in some.items()}  # fmt: skip


def made(name: str, world: Path) -> dict[str, str]:
    """File name → text of everything that a run writes, and `console.txt`: the exit code, what standard error says, the
    names of all files. Pictures are laid out and not kept, nor is what LEFT_OUT names.
    """
    line = RUNS[name].format(world=world)
    argv = [*shlex.split(line), "report.quiet=true"] + ([] if " results=" in line else [f"results={world}/results"])
    profile = re.search(r"profile=(\S+)", line)[1]
    folder = Path(next(one for one in argv if one.startswith("results=")).removeprefix("results=")) / profile
    before = _files(folder)
    errors = io.StringIO()
    with (
        mock.patch.object(Figure, "savefig", _lay_out),
        mock.patch("plphp_core.reporting.dataset_access.DatasetAccess", DocumentsAtHand),
        contextlib.redirect_stderr(errors),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        code = command("report", argv)
    new = sorted(_files(folder) - before)
    kept = (path for path in new if path.suffix not in PICTURES and path.name not in LEFT_OUT.get(name, ()))
    found = {path.name: path.read_text(encoding="utf-8") for path in kept}
    said = [f"exit code {code}", *errors.getvalue().splitlines(), "", *(f"written: {path.name}" for path in new)]
    for path in new:  # the next run writes the same names
        path.unlink()
    found["console.txt"] = "\n".join(said).rstrip() + "\n"
    return {file: _same_everywhere(text, world) for file, text in found.items()}


def _lay_out(figure: Figure, file, **options) -> None:
    figure.draw_without_rendering()
    file.write(b"a picture")


def _files(folder: Path) -> set[Path]:
    return {path for path in folder.glob("*") if path.is_file()}


def _same_everywhere(text: str, world: Path) -> str:
    """Without what depends on the machine or on how files happen to be named: folders, and the digest in a cell's name.

    Everything else that could vary (versions, times, hardware, revisions, data) is the world's own.
    """
    text = text.replace(str(world), "WORLD").replace(str(ROOT), "ROOT")
    return re.sub(r"\.[0-9a-f]{6}\.json", ".DIGEST.json", text)
