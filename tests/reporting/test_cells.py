"""Cell files: what is read from them; damaged or contradictory ones are a sentence with what writes them again."""

import json
import math
import re

import pandas as pd
import pytest

from plphp_core.records.cell_result import CellResult, load_cells
from plphp_core.records.errors import ReportError
from tests.reporting import factories
from tests.reporting.reports_made import report, written

SPOILT = "toy_sd-plphp"
COMMAND = ".venv/bin/python scripts/run.py profile=toy 'tasks=[sd]' method=plphp"


def test_a_cell_is_read_back(tmp_path):
    record = factories.cell("MV", "plphp", factories.PLPHP, "r=0.4, Δr=0.3", samples=12, failed=(2, 5))
    cell = CellResult.load(factories.write(tmp_path, record)[0])
    assert (cell.benchmark, cell.method, cell.params) == ("MV", "plphp", factories.PLPHP)
    assert (cell.n, cell.errors, list(cell.doc_ids)) == (10, 2, [0, 1, 3, 4, 6, 7, 8, 9, 10, 11])
    assert cell.metrics["overall"].value == record["metrics"]["overall"]["value"]
    assert list(cell.metrics["overall"].groups) == record["metrics"]["overall"]["groups"]
    (path,) = factories.write(tmp_path, factories.cell(samples=2, failed=(0, 1)))
    assert math.isnan(CellResult.load(path).metrics["rouge_l"].value)  # every sample failed


def test_the_seed_of_a_subset_counts_only_where_there_is_a_subset(tmp_path):
    full, part = factories.write(tmp_path, factories.cell(limit_seed=5), factories.cell("IE", limit=48, limit_seed=5))
    assert CellResult.load(full).limit_seed is None
    assert CellResult.load(part).limit_seed == 5


def put(value, *names):
    """A change of a record: `value` in the place that `names` lead to; without a value, nothing there."""

    def change(record):
        for name in names[:-1]:
            record = record[name]
        if value is None:
            del record[names[-1]]
        else:
            record[names[-1]] = value

    return change


SAMPLES = ("metrics", "rouge_l", "samples")
DAMAGE = {  # what a file holds, or how its record is changed → what is said
    "": "not valid JSON",
    '{"schema": 1': "not valid JSON",
    b"\xff\xfe\x00": "not valid JSON",
    "[" * 100_000: "not valid JSON",
    "null": "a cell file holds one JSON object",
    "[]": "a cell file holds one JSON object",
    put(1, "schema"): "schema 1",
    put(None, "n"): "field n is missing",
    put(None, "doc_ids"): "field doc_ids is missing",
    put(None, "metrics"): "field metrics is missing",
    put(None, *SAMPLES): "field metrics rouge_l samples is missing",
    put(None, "efficiency", "kv_bytes"): "field efficiency kv_bytes is missing",
    put("8", "n"): "n is '8', expected a whole number",
    put(math.nan, "n"): "n is nan, expected a whole number",
    put(True, "population"): "population is True, expected a whole number",
    put(3, "method"): "method is 3, expected text",
    put([0.5, *range(1, 8)], "doc_ids"): "doc_ids holds what is no whole number",
    put([10**30, *range(1, 8)], "doc_ids"): "doc_ids holds what is no whole number",
    put([0, 1, 1, *range(3, 8)], "doc_ids"): "repeats a document",
    put(5, "n"): "doc_ids has 8",
    put([], "metrics"): "metrics is a list, expected an object",
    put(["a"] * 8, *SAMPLES): "metrics rouge_l samples holds what is not a number",
    put([0.1] * 7 + [math.nan], *SAMPLES): "not the mean of its samples",
    put([0.1], *SAMPLES): "n = 8",
    put(0.9, "metrics", "rouge_l", "value"): "not the mean of its samples",
    put("median", "metrics", "rouge_l", "kind"): "metrics rouge_l kind is 'median', expected 'mean', 'group_mean'",
    put("group_mean", "metrics", "rouge_l", "kind"): "needs groups",
    put([math.inf] * 8, "efficiency", "kv_bytes"): "efficiency kv_bytes holds an infinite number",
    put([1], "efficiency", "kv_bytes"): "efficiency kv_bytes",
}


@pytest.mark.parametrize(("change", "complaint"), DAMAGE.items(), ids=range(len(DAMAGE)))
def test_a_damaged_or_contradictory_file_is_one_sentence(tmp_path, change, complaint):
    (path,) = factories.write(tmp_path, factories.cell(samples=8))
    spoil(path, change)
    with pytest.raises(ReportError, match=re.escape(complaint)) as caught:
        CellResult.load(path)
    said = str(caught.value)
    assert said.startswith(f"{path}: ") and "\n" not in said
    assert "schema" in complaint or "; delete it and run its cell again" in said


def spoil(path, change):
    if isinstance(change, bytes):
        path.write_bytes(change)
    elif isinstance(change, str):
        path.write_text(change, encoding="utf-8")
    else:
        record = json.loads(path.read_text(encoding="utf-8"))
        change(record)
        path.write_text(json.dumps(record), encoding="utf-8")


def test_missing_folders_foreign_profiles_and_temporary_files(tmp_path):
    with pytest.raises(ReportError, match="does not exist"):
        load_cells(tmp_path / "nowhere", "toy")
    with pytest.raises(ReportError, match="no finished cells"):
        load_cells(tmp_path, "toy")
    path = factories.write(tmp_path, factories.cell())[0]
    (path.parent / ".half.json").write_text('{"schema": 1')
    (path.parent / "half.json.tmp").write_text('{"schema": 1')
    assert len(load_cells(path.parent, "toy")) == 1
    with pytest.raises(ReportError, match="belongs to profile 'toy'"):
        load_cells(path.parent, "paper")


@pytest.fixture
def folder(tmp_path):
    """Two cells; that of PLPHP is to be spoilt. Its manifest says how it was run."""
    record = factories.cell("SD", "plphp", factories.PLPHP, "r=0.4, Δr=0.3", samples=8, cell=SPOILT)
    factories.write(tmp_path, factories.cell("SD", samples=8), record)
    manifests = tmp_path / "toy" / "manifests"
    command = ["run.py", "profile=toy", "tasks=[sd]", "method=plphp"]
    factories.manifest(scored=["other"]).write(manifests / "20260101T000000Z-0.json")
    factories.manifest(scored=[SPOILT], command=command).write(manifests / "20260102T000000Z-0.json")
    (manifests / "20260103T000000Z-0.json").write_text("torn")
    return tmp_path


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("", "not valid JSON"),
        (put(None, "task_version"), "field task_version is missing"),
        (put("paper", "profile"), "belongs to profile 'paper'"),
    ],
)
def test_the_rest_is_reported_and_the_command_named_that_writes_the_file_again(folder, capsys, change, complaint):
    path = folder / "toy" / "cells" / f"{SPOILT}.json"
    spoil(path, change)
    assert report(folder, "table1") == 1
    said = capsys.readouterr().err
    (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert line.startswith(f"error: {path}: ") and complaint in line and "Traceback" not in said
    assert line.endswith(f"; delete it and run its cell again: {COMMAND}") == ("profile" not in complaint)
    table = pd.read_csv(folder / "toy" / "table1.csv").query("metric == 'rouge_l' and benchmark == 'SD'")
    assert list(table[table.value.notna()].method) == ["none"]


def test_a_folder_in_its_place(folder, capsys):
    path = folder / "toy" / "cells" / f"{SPOILT}.json"
    path.unlink()
    path.mkdir()
    assert report(folder, "sweep") == 1
    assert f"error: {path}: is a folder; delete it and run its cell again: {COMMAND}\n" in capsys.readouterr().err
    assert "sweep.csv" in written(folder)


def test_fields_that_this_version_does_not_know_are_no_damage(folder):
    path = folder / "toy" / "cells" / f"{SPOILT}.json"
    spoil(path, put({"new": [1]}, "later"))
    assert CellResult.load(path).n == 8


def test_cells_that_are_a_file_are_said_to_be_one(tmp_path, capsys):
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "cells").write_text("")
    assert report(tmp_path, "all") == 1
    assert f"{tmp_path / 'toy' / 'cells'} is not a folder" in capsys.readouterr().err
