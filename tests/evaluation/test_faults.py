"""Whatever happens to a run, the same command finishes it, with the cells of an undisturbed one."""

import dataclasses
import json
import os
import random
import resource
import shutil
import signal
import time

import pytest

from baselines import FastV
from plphp_core.evaluation import cell_spec
from plphp_core.evaluation.loading import LoadOnce
from plphp_core.evaluation.run_status import FAILED, OK
from plphp_core.records import source_code
from plphp_core.records.journal import Journal
from plphp_core.records.journal_lines import SampleError, SampleLine
from tests.configured import configured
from tests.evaluation.factories import (
    FakeAnswerer,
    cells,
    in_child,
    journal_keys,
    never,
    own_tasks,
    run,
    save_data,
    settings,
    timeless,
)
from tests.journal_factories import answered_line

KILLS = 20


def shown(run_settings) -> dict:
    return {name: timeless(cell) for name, cell in cells(run_settings).items()}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """Settings of a real sweep on the toy model, and the loader that holds it."""
    chosen = ["table=table1", "profile=toy", "tasks=[sd,mv]", "limit=4", "batch_size=2"]
    found = configured(*chosen)
    if not found.data_root.is_dir():
        pytest.skip("no toy data: run `make toy-data`")
    loader = LoadOnce()
    loader(found.model)
    return dataclasses.replace(found, results=tmp_path_factory.mktemp("sweep") / "toy"), loader


@pytest.mark.slow
def test_twenty_kills_at_random_moments_change_nothing(sweep, tmp_path):
    whole, loader = sweep
    began = time.monotonic()
    pid = in_child(lambda: run(whole, {}, loader))  # a process of its own, as the killed ones
    assert os.waitpid(pid, 0)[1] == 0
    lasts = time.monotonic() - began
    killed, rng, kills = dataclasses.replace(whole, results=tmp_path / "toy"), random.Random(0), 0
    while kills < KILLS:
        pid = in_child(lambda: run(killed, {}, loader))
        time.sleep(rng.uniform(0.02, 0.25) * lasts)
        kills += os.waitpid(pid, os.WNOHANG) == (0, 0)
        try:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        except (ProcessLookupError, ChildProcessError):  # it had finished: begin again, somewhere else
            assert shown(killed) == shown(whole)
            shutil.rmtree(killed.results)
    assert run(killed, {}, loader) == OK
    assert shown(killed) == shown(whole) and len(shown(whole)) == 26
    keys = journal_keys(killed)
    assert len(keys) == len(set(keys)) == 104


@pytest.fixture
def whole(world, tmp_path, fake):
    """A finished run of two methods on two tasks."""
    run_settings = settings(world, ("none", "plphp"), ("mini_a", "mini_b"), results=tmp_path / "mini", batch_size=2)
    assert run(run_settings, {}, fake) == OK
    return run_settings, shown(run_settings)


@pytest.mark.parametrize("damage", ["", "null", "\x00" * 40, "metrics"])
def test_a_damaged_result_is_written_again_from_the_journal(whole, display, damage):
    """Without a model; "metrics": a field that it lacks."""
    run_settings, before = whole
    path = sorted((run_settings.results / "cells").glob("*.json"))[0]
    known = json.loads(path.read_text())
    lacking = json.dumps({name: value for name, value in known.items() if name != damage})
    path.write_text(lacking if damage in known else damage)
    assert run(run_settings, {}, never, display) == OK
    assert shown(run_settings) == before and "finished" in json.loads(path.read_text())
    assert "4 cells, 3 finished" in display.console.file.getvalue()


def test_a_journal_line_that_lacks_a_field_is_set_aside_and_its_sample_answered_again(whole, display, fake):
    run_settings, before = whole
    cell = sorted((run_settings.results / "cells").glob("*.json"))[0]
    journal = run_settings.results / json.loads(cell.read_text())["journal"]
    cell.unlink()
    whole_lines = journal.read_text().splitlines(keepends=True)
    at, record = next((n, json.loads(line)) for n, line in enumerate(whole_lines) if "retention" in line)
    del record["answer"]["retention"]
    journal.write_text("".join([*whole_lines[:at], json.dumps(record) + "\n", *whole_lines[at + 1 :]]))
    assert run(run_settings, {}, fake, display) == OK and shown(run_settings) == before
    assert f"no journal line: line {at + 1}" in " ".join(display.console.file.getvalue().split())
    assert len(journal_keys(run_settings)) == 40


def test_a_score_changed_by_hand_is_not_believed(whole):
    run_settings, before = whole
    path = sorted((run_settings.results / "cells").glob("*.json"))[0]
    known = json.loads(path.read_text())
    known["metrics"]["overlap"] = {**known["metrics"]["overlap"], "value": 1.0, "samples": [1.0] * 10}
    path.write_text(json.dumps(known))
    assert run(run_settings, {}, never) == OK
    assert shown(run_settings) == before


@pytest.mark.parametrize("changed", ["images", "process_results"])
def test_a_task_whose_code_changed_is_answered_or_scored_again(world, tmp_path, fake, display, changed):
    """What it asks and shows: answered again. How it scores, in a file of its own: scored again, without a model."""
    own_tasks(world, tmp_path)
    functions, scores = tmp_path / "tasks" / "functions.py", tmp_path / "tasks" / "scores.py"
    scores.write_text(functions.read_text())
    task = tmp_path / "tasks" / "mini_a.yaml"
    task.write_text(task.read_text().replace("functions.process_results", "scores.process_results"))
    run_settings = settings(world, ("none", "plphp"), results=tmp_path / "mini", data_root=tmp_path / "data")
    run_settings = dataclasses.replace(run_settings, root=tmp_path)
    assert run(run_settings, {}, fake) == OK
    before = next(iter(shown(run_settings).values()))["metrics"]["overlap"]["samples"]
    source_code._read.cache_clear()  # as in a new process
    if changed == "images":
        functions.write_text(functions.read_text().replace("[doc[name]", "[doc[name].copy()"))
        assert run(run_settings, {}, fake, display) == OK
        assert len(journal_keys(run_settings)) == 40
        wanted = "10 answers not reused: task code (functions.py) has changed"
    else:
        scores.write_text(scores.read_text().replace("/ 2,", "/ 2 + 1,"))
        assert run(run_settings, {}, never, display) == OK
        after = next(iter(shown(run_settings).values()))["metrics"]["overlap"]["samples"]
        assert after == [score + 1 for score in before] and len(journal_keys(run_settings)) == 20
        wanted = "result not reused: scoring code (scores.py) has changed"
    assert wanted in display.console.file.getvalue()
    functions.write_text(f"# looks otherwise\n{functions.read_text()}")
    source_code._read.cache_clear()
    assert run(run_settings, {}, never) == OK


def test_a_method_whose_code_changed_is_answered_again_and_no_other_is(world, tmp_path, fake, display, monkeypatch):
    """Of two methods whose files lie elsewhere, one is edited."""
    run_settings = settings(world, ("none", "plphp", "fastv"), results=tmp_path / "mini")
    assert run(run_settings, {}, fake) == OK
    original = cell_spec.method_code
    edited = {"baselines/fastv.py": "edited"}
    monkeypatch.setattr(cell_spec, "method_code", lambda cls: original(cls) | (edited if cls is FastV else {}))
    assert run(run_settings, {}, fake, display) == OK
    assert len(journal_keys(run_settings)) == 40
    said = display.console.file.getvalue()
    assert "3 cells, 2 finished" in said
    assert "fastv K=2, R=0.5 · MINI_A: 10 answers not reused: method code (baselines/fastv.py) has changed" in said


def test_a_truncated_journal_costs_the_torn_sample_only(whole, fake, monkeypatch):
    run_settings, before = whole
    path = sorted((run_settings.results / "journal").glob("*.jsonl"))[0]
    path.write_bytes(path.read_bytes()[:-30])
    shutil.rmtree(run_settings.results / "cells")
    asked = []
    answer = FakeAnswerer.answer
    monkeypatch.setattr(
        FakeAnswerer, "answer", lambda self, batch, methods: asked.extend(batch) or answer(self, batch, methods)
    )
    assert run(run_settings, {}, fake) == OK
    assert len(asked) == 1 and path.with_suffix(".torn").is_file()
    assert {name: cell["metrics"] for name, cell in shown(run_settings).items()} == {
        name: cell["metrics"] for name, cell in before.items()
    }


def test_a_clock_that_jumps_back_matters_nowhere(whole, fake, monkeypatch, world, tmp_path):
    run_settings, before = whole
    jumped = dataclasses.replace(run_settings, results=tmp_path / "jumped")
    years = iter(range(2090, 1990, -1))
    monkeypatch.setattr(cell_spec, "_now", lambda: f"{next(years, 1970)}-01-01T00:00:00+00:00")
    monkeypatch.setattr(FakeAnswerer, "pause", 0.02)
    pid = in_child(lambda: run(jumped, {}, fake))
    time.sleep(0.5)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    monkeypatch.setattr(FakeAnswerer, "pause", 0.0)
    assert run(jumped, {}, fake) == OK
    assert shown(jumped) == before
    assert run(jumped, {}, never) == OK


def test_a_results_folder_that_was_moved_is_still_finished(whole, tmp_path):
    run_settings, before = whole
    moved = dataclasses.replace(run_settings, results=tmp_path / "elsewhere" / "mini")
    shutil.move(run_settings.results, moved.results)
    assert run(moved, {}, never) == OK
    assert shown(moved) == before and not run_settings.results.exists()


def test_a_disk_that_fills_up_in_the_middle(whole, world, tmp_path, fake, monkeypatch, capfd):
    """A file may not grow beyond a limit: EFBIG, as from a full disk. What was acknowledged stays."""
    run_settings, before = whole
    full = dataclasses.replace(run_settings, results=tmp_path / "full")

    def on_a_small_disk():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))
        return run(full, {}, fake)

    assert os.waitstatus_to_exitcode(os.waitpid(in_child(on_a_small_disk), 0)[1]) == FAILED
    assert "the disk is full" in capfd.readouterr().err
    answered = journal_keys(full)
    assert 0 < len(answered) < 40 and not cells(full)
    assert run(full, {}, fake) == OK
    keys = journal_keys(full)
    assert set(answered) < set(keys) and len(keys) == len(set(keys)) == 40
    assert shown(full) == before


def test_runs_at_once_share_the_work(whole, fake, tmp_path, monkeypatch):
    run_settings, before = whole
    both = dataclasses.replace(run_settings, results=tmp_path / "both")
    monkeypatch.setattr(FakeAnswerer, "pause", 0.05)
    began = time.monotonic()
    codes = [os.waitpid(pid, 0)[1] for pid in [in_child(lambda: run(both, {}, fake)) for _ in range(3)]]
    assert codes == [0, 0, 0] and shown(both) == before and time.monotonic() - began < 60
    keys = journal_keys(both)
    assert len(keys) == len(set(keys)) == 40


def test_a_journal_under_other_conditions_is_not_reused_and_the_run_says_why(whole, fake, display):
    run_settings, _ = whole
    other = dataclasses.replace(run_settings.model, prompts="plain")
    assert run(dataclasses.replace(run_settings, model=other), {}, fake, display) == OK
    assert "10 answers not reused: family prompts was lmms_eval, is plain" in display.console.file.getvalue()
    assert len(journal_keys(run_settings)) == 80  # both, apart by key


def test_other_data_are_another_cell(whole, world, tmp_path, fake, display):
    run_settings, _ = whole
    shutil.copytree(world / "data" / "mini_b", tmp_path / "data" / "mini_b")
    save_data(tmp_path / "data" / "mini_a", samples=10, seed=5)
    assert run(dataclasses.replace(run_settings, data_root=tmp_path / "data"), {}, fake, display) == OK
    assert "data revision" in display.console.file.getvalue()
    assert len(journal_keys(run_settings)) == 60


def test_peeking_changes_nothing_and_sees_every_whole_line(tmp_path):
    path = tmp_path / "cell.jsonl"
    assert Journal.peek(path).answers == {} and not path.exists()
    with Journal(path) as journal:
        error = SampleError(kind="OSError", message="broken")
        failed = SampleLine(key="b", cell="c", doc_id=1, hardware="h", error=error)
        journal.append([answered_line(0, key="a"), failed])
    torn = path.read_bytes() + b'{"schema":2,"key":"c","te'
    path.write_bytes(torn)
    found = Journal.peek(path, tmp_path / "missing.jsonl")
    assert list(found.answers) == ["a"] and list(found.errors) == ["b"] and found.counts == {"c": 1}
    assert path.read_bytes() == torn
