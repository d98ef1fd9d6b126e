"""The leaderboard: folders of anybody as one table per model; what cannot be compared or read is named."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from plphp_core.cli.entry_point import command
from plphp_core.config.report_choices import Filters, Options
from plphp_core.records.cell_result import CellResult
from plphp_core.reporting import leaderboard
from tests.reporting import factories
from tests.reporting.page_factories import HOSTILE, Elements

WEIGHTS = "sha256:" + "ab" * 16
ROWS = (("none", {}, "", 1.0, 1.0), ("fastv", {"K": 2, "R": 0.5}, "K=2, R=0.5", 0.9, 0.62),
        ("plphp", {"r": 0.3}, "r=0.3", 0.97, 0.45))  # fmt: skip


def submit(folder: Path, rows=ROWS, benchmarks=("SD", "MV"), **changes) -> Path:
    """A results folder with these rows, sealed as a run seals them."""
    records = [
        factories.cell(benchmark, method, params, setting, quality, kept, **{"revision": WEIGHTS} | changes)
        for method, params, setting, quality, kept in rows
        for benchmark in benchmarks
    ]
    for number, record in enumerate(records):
        record = CellResult.checked(record).sealed()
        path = folder / record.profile / "cells" / f"{number}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        record.write(path)
    return folder


def board(*folders: Path, **filters) -> leaderboard.Board:
    return leaderboard.made(folders, "toy", Filters(**filters), Options(resamples=100))


def rows(table) -> list[list[str]]:
    return [[cell.text for cell in row.cells[:4]] for row in table.rows]


def test_folders_with_different_models_are_one_table_each_with_the_numbers_of_their_cells(tmp_path):
    mine = submit(tmp_path / "mine")
    theirs = submit(tmp_path / "theirs", model="qwen2_vl", hardware="NVIDIA H200", checkpoint="/home/somebody/qwen")
    found = board(mine, theirs)
    ours, other, submitted = found.tables
    assert [table.title for table in found.tables] == [
        "LLaVA-OneVision (toy profile)", "Qwen2-VL (toy profile)", "Submissions"
    ]  # fmt: skip
    assert rows(ours) == [
        ["any", "Uncompressed", "", "mine"],
        ["at most 75%", "FastV", "K=2, R=0.5", "mine"],
        ["at most 50%", "PLPHP", "r=0.3", "mine"],
    ]
    assert [row[3] for row in rows(other)] == ["theirs"] * 3
    texts = [[cell.text for cell in row.cells] for row in submitted.rows]
    assert texts[1][0] == "theirs" and texts[1][4] == "NVIDIA H200" and "torch 2.13.0" in texts[1][5]
    assert "/home" not in "".join(note for table in found.tables for note in table.notes)
    frame = found.frame
    assert len(frame) == 2 * 3 * 2 and not found.refused and not found.damaged
    for _, line in frame.iterrows():  # against the cells themselves
        cells = [CellResult.load(path, str) for path in (tmp_path / line.submission / "toy" / "cells").iterdir()]
        (cell,) = [one for one in cells if (one.benchmark, one.method) == (line.benchmark, line.method)]
        assert line.score == pytest.approx(cell.metrics[line.metric].value)
        assert line.vision_kept == pytest.approx(cell.costs["retention"].mean())


def test_rows_of_two_folders_stand_side_by_side_and_compete_within_a_budget(tmp_path):
    first = submit(tmp_path / "first")
    better = [("plphp", {"r": 0.35}, "r=0.35", 1.2, 0.49), ("vtw", {"K": 6}, "K=6", 2.0, 0.75)]
    found = board(first, submit(tmp_path / "second", better))
    table = found.tables[0]
    assert rows(table)[1:] == [
        ["at most 75%", "FastV", "K=2, R=0.5", "first"],
        ["at most 75%", "VTW", "K=6", "second"],
        ["at most 50%", "PLPHP", "r=0.3", "first"],
        ["at most 50%", "PLPHP", "r=0.35", "second"],
    ]
    change = [row.cells[4].emphasis for row in table.rows]
    assert change == ["", "second", "best", "second", "best"]
    (ranking,) = found.rankings  # without a row of its own, the first submission's uncompressed one is the reference
    assert [ranking.submitted[ranking.reference(at)] for at in range(5)] == ["first"] * 5


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"dtype": "bfloat16"}, "finished cells differ in dtype: float32, bfloat16"),
        ({"revision": "sha256:" + "cd" * 16}, "finished cells differ in revision"),
        ({"limit": 8, "limit_seed": 0}, "finished cells differ in limit: null, 8"),
        ({"prompts": "plain"}, "finished cells differ in prompts"),
        ({"data_revision": "d1"}, "finished cells differ in data_revision: d0, d1"),
        ({"samples": 40}, "finished cells differ in population"),
    ],
)
def test_what_cannot_be_compared_is_refused_row_by_row_with_the_reason(tmp_path, changes, why):
    found = board(submit(tmp_path / "a"), submit(tmp_path / "b", **changes))
    assert {row[3] for row in rows(found.tables[0])} == {"a"}
    assert [(one.submission, one.row.method, one.benchmarks) for one in found.refused] == [
        ("b", method, ("SD", "MV")) for method in ("none", "fastv", "plphp")
    ]
    assert all(one.why.startswith(why) for one in found.refused), found.refused[0].why
    (table,) = [one for one in found.tables if one.title.startswith("Refused")]
    assert len(table.rows) == 3 and table.rows[0].cells[4].text.startswith(why)


def test_a_damaged_folder_or_file_is_named_the_others_are_shown_and_the_exit_code_is_1(tmp_path, capsys):
    good, bad = submit(tmp_path / "good"), submit(tmp_path / "bad")
    torn, changed, linked, *_ = sorted((bad / "toy" / "cells").iterdir())
    torn.write_text('{"schema": 2, ')
    record = json.loads(changed.read_text())
    record["metrics"]["overall"]["samples"] = [1.0] * 48  # better than it was
    record["metrics"]["overall"]["value"] = 1.0
    changed.write_text(json.dumps(record))
    secret = tmp_path / "secret.json"
    linked.rename(secret)
    linked.symlink_to(secret)
    empty, out = tmp_path / "empty", tmp_path / "out"
    empty.mkdir()
    folders = ",".join(map(str, (good, bad, empty, tmp_path / "nowhere")))
    line = [f"results=[{folders}]", "profile=toy", f"leaderboard.out={out}", "report.quiet=true"]
    assert command("leaderboard", line) == 1
    said = capsys.readouterr()
    for sentence in ("bad, 0.json: not valid JSON", "bad, 1.json: was changed after", "bad, 2.json: is a link",
                     "empty: has no finished cells of profile 'toy'", "nowhere: does not exist"):  # fmt: skip
        assert f"error: {sentence}" in said.err
    assert "5 files damaged" in said.out and str(out / "leaderboard.html") in said.out
    page = (out / "leaderboard.html").read_text()
    assert "good" in page and "does not exist" in page and str(tmp_path) not in page
    frame = pd.read_csv(out / "leaderboard.csv")
    assert len(frame[frame.submission == "good"]) == 6 and len(frame[frame.submission == "bad"]) == 3
    assert command("leaderboard", [f"results=[{good}]", "profile=toy", f"leaderboard.out={out}"]) == 0
    assert "Budget" in capsys.readouterr().out
    assert command("leaderboard", [f"results=[{empty}]", "profile=toy", f"leaderboard.out={out}"]) == 1
    assert command("leaderboard", [f"results=[{good}]", "profile=paper", f"leaderboard.out={out}"]) == 1
    assert "has no finished cells of profile 'paper'; it has some of toy: profile=toy" in capsys.readouterr().err
    assert command("leaderboard", [f"results=[{good},{good}]", "profile=toy"]) == 2


def test_what_others_wrote_is_text_and_no_path_of_theirs_is_opened(tmp_path):
    for number, text in enumerate(HOSTILE[:-1]):
        folder = tmp_path / f"evil-{number}"
        hostile = [("none", {}, "", 1.0, 1.0), ("x" + text, {"p": text}, text, 0.9, 0.5)]
        submit(folder, hostile, ("SD",), hardware=text, journal="../../../../etc/passwd", manifest="/etc/passwd",
               versions={text: text}, model="model " + text)  # fmt: skip
        leaderboard.written(found := board(folder), tmp_path / "out")
        assert not found.damaged
        html = (tmp_path / "out" / "leaderboard.html").read_text()
        page = Elements(html)
        assert html.count("<script") == 2 and "<img" not in html and "passwd" not in html
        assert page is not None
    formula = [("=cmd|' /C calc'!A0", {"r": 1}, "@SUM(1)", 0.9, 0.5)]
    leaderboard.written(board(submit(tmp_path / "sheet", formula, ("SD",))), tmp_path / "out")
    line = pd.read_csv(tmp_path / "out" / "leaderboard.csv").iloc[0]
    assert line.method.startswith("'=") and line.setting.startswith("'@")
