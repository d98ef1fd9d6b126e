"""Result files that are damaged: a sentence each with what writes them again, and the rest is reported."""

import json
import re

import pandas as pd
import pytest

from plphp_core.records.cell_result import load_cell
from plphp_core.records.errors import ReportError
from tests.reporting import factories
from tests.reporting.reports_made import report, written

SPOILT = "toy_sd-plphp"
COMMAND = ".venv/bin/python scripts/run.py profile=toy 'tasks=[sd]' method=plphp"


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


def spoil(folder, change):
    path = folder / "toy" / "cells" / f"{SPOILT}.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(change, (str, bytes)):
        path.write_bytes(change if isinstance(change, bytes) else change.encode())
    else:
        change(record)
        path.write_text(json.dumps(record), encoding="utf-8")
    return path


def without(*names):
    def change(record):
        *outer, last = names
        for name in outer:
            record = record[name]
        del record[last]

    return change


def with_value(value, *names):
    def change(record):
        *outer, last = names
        for name in outer:
            record = record[name]
        record[last] = value

    return change


DAMAGE = {
    "empty": ("", "not valid JSON"),
    "torn": ('{"schema": 1', "not valid JSON"),
    "not UTF-8": (b"\xff\xfe\x00", "not valid JSON"),
    "nested without end": ("[" * 100_000, "not valid JSON"),
    "null": ("null", "a cell file holds one JSON object"),
    "a list": ("[]", "a cell file holds one JSON object"),
    "no n": (without("n"), "field n is missing"),
    "no metrics": (without("metrics"), "field metrics is missing"),
    "no samples": (without("metrics", "rouge_l", "samples"), "field metrics rouge_l samples is missing"),
    "no value": (without("metrics", "rouge_l", "value"), "field metrics rouge_l value is missing"),
    "no costs": (without("efficiency", "kv_bytes"), "field efficiency kv_bytes is missing"),
    "no version": (without("task_version"), "field task_version is missing"),
    "text for a number": (with_value("8", "n"), "n is '8', expected a whole number"),
    "nan": (with_value(float("nan"), "n"), "n is nan, expected a whole number"),
    "true": (with_value(True, "population"), "population is True, expected a whole number"),
    "a fraction": (with_value([0.5, *range(1, 8)], "doc_ids"), "doc_ids holds what is no whole number"),
    "too large": (with_value([10**30, *range(1, 8)], "doc_ids"), "doc_ids holds what is no whole number"),
    "a list for an object": (with_value([], "metrics"), "metrics is a list, expected an object"),
    "null for an object": (with_value(None, "efficiency"), "efficiency is null, expected an object"),
    "text among scores": (
        with_value(["a"] * 8, "metrics", "rouge_l", "samples"),
        "metrics rouge_l samples holds what is not a number",
    ),
    "infinite": (
        with_value([float("inf")] * 8, "efficiency", "kv_bytes"),
        "efficiency kv_bytes holds an infinite number",
    ),
    "another profile": (with_value("paper", "profile"), "belongs to profile 'paper'"),
}


@pytest.mark.parametrize(("change", "complaint"), DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_file_is_one_sentence_and_the_rest_is_reported(folder, capsys, change, complaint):
    path = spoil(folder, change)
    assert report(folder, "table1") == 1
    said = capsys.readouterr().err
    (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert line.startswith(f"error: {path}: ") and complaint in line and "Traceback" not in said
    if complaint != "belongs to profile 'paper'":
        assert line.endswith(f"; delete it and run its cell again: {COMMAND}")
    table = pd.read_csv(folder / "toy" / "table1.csv").query("metric == 'rouge_l' and benchmark == 'SD'")
    assert list(table[table.value.notna()].method) == ["none"]
    note = (folder / "toy" / "table1.md").read_text(encoding="utf-8").replace("\\", "")
    assert f"Left out, since their files are damaged: {path.name}." in note


def test_a_folder_in_its_place(folder, capsys):
    path = folder / "toy" / "cells" / f"{SPOILT}.json"
    path.unlink()
    path.mkdir()
    assert report(folder, "sweep") == 1
    assert f"error: {path}: is a folder; delete it and run its cell again: {COMMAND}\n" in capsys.readouterr().err
    assert "sweep.csv" in written(folder)


def test_fields_that_this_version_does_not_know_are_no_damage(folder, capsys):
    spoil(folder, with_value({"new": [1]}, "later"))
    assert report(folder, "table1") == 0
    assert "damaged" not in (folder / "toy" / "table1.md").read_text(encoding="utf-8")


def test_without_a_manifest_the_file_and_the_field_are_named_all_the_same(tmp_path):
    (path,) = factories.write(tmp_path, factories.cell("SD"))
    record = json.loads(path.read_text())
    del record["doc_ids"]
    path.write_text(json.dumps(record))
    with pytest.raises(ReportError, match=re.escape(f"{path}: field doc_ids is missing; delete it and run its cell")):
        load_cell(path)


def test_nothing_but_damaged_files_is_an_error_for_each(folder, capsys):
    for path in (folder / "toy" / "cells").iterdir():
        path.write_text("")
    assert report(folder, "all") == 1
    said = capsys.readouterr().err
    assert said.count("not valid JSON") == 2 and "Traceback" not in said
    assert not (folder / "toy" / "table1.csv").exists()


def test_cells_that_are_a_file_are_said_to_be_one(tmp_path, capsys):
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "cells").write_text("")
    assert report(tmp_path, "all") == 1
    assert f"{tmp_path / 'toy' / 'cells'} is not a folder" in capsys.readouterr().err


def test_every_report_and_the_page_say_what_was_left_out(folder, capsys, drawn):
    spoil(folder, "")
    assert report(folder, "all") == 1
    assert capsys.readouterr().err.count("error: ") == 1
    for name in ("table1.md", "sweep.md", "figure5.md", "claims.md", "report.html"):
        assert "their files are damaged" in (folder / "toy" / name).read_text(encoding="utf-8"), name
