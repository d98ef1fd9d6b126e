"""Runs: nothing lost, duplicated or mixed, whatever interrupts them; failures counted and never scored."""

import dataclasses
import json
import os
import random
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest
import torch

from plphp_core.evaluation import runner
from plphp_core.evaluation.answering import Answer, Answerer, Failure
from plphp_core.evaluation.benchmarks import Suite
from plphp_core.evaluation.errors import UserError
from plphp_core.evaluation.journal import Journal, JournalError
from plphp_core.evaluation.runner import FAILED, INTERRUPTED, OK, TERMINATED, run
from tests.evaluation.factories import save_checkpoint, settings
from tests.evaluation.test_journal import in_child, lines

TIMINGS = ("prefill_ms", "decode_ms", "decode_ms_per_token")


def cells(run_settings) -> dict[str, dict]:
    return {path.stem: json.loads(path.read_text()) for path in (run_settings.results / "cells").glob("*.json")}


def timeless(cell: dict) -> dict:
    """A result file without what may differ between two runs with the same answers."""
    cell = {key: value for key, value in cell.items() if key not in ("finished", "manifest", "batch_size")}
    return cell | {"efficiency": {key: value for key, value in cell["efficiency"].items() if key not in TIMINGS}}


def journal_keys(run_settings) -> list[str]:
    return [line["key"] for path in (run_settings.results / "journal").glob("*.jsonl") for line in lines(path)]


def never(*_):
    raise AssertionError("must not be called")


class FakeAnswerer:
    """Answers without a model, so that it can be killed in a forked process."""

    pause = 0.0

    def __init__(self, loaded, method):
        pass

    def answer(self, batch):
        time.sleep(self.pause)
        return [(request, fake_answer(request.context, len(batch))) for request in batch]


def fake_answer(text: str, batch_size: int = 1) -> Answer:
    return Answer(text, 9, 4, [], [], [1.0, 0.5], 10, 20, 20, 1.0, 3.0, 3, batch_size)


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.setattr(runner, "Answerer", FakeAnswerer)
    return lambda _: None


@pytest.fixture(scope="module")
def uninterrupted(world, loader):
    """Three methods on two tasks, in one go."""
    run_settings = settings(world, ("none", "plphp", "fastv"), ("mini_a", "mini_b"), results=world / "uninterrupted")
    loads = loader.loads
    assert run(run_settings, {}, loader) == OK
    return run_settings, loader.loads - loads


def test_one_load_serves_all_methods_and_every_cell_is_complete(uninterrupted):
    run_settings, loads = uninterrupted
    assert loads <= 1
    found = cells(run_settings)
    assert len(found) == 6
    for cell in found.values():
        assert cell["n"] == cell["population"] == 10 and cell["errors"] == 0 and cell["doc_ids"] == list(range(10))
        metric = cell["metrics"]["overlap"]
        assert metric["value"] == pytest.approx(sum(metric["samples"]) / 10)
        assert sum(part["n"] for part in metric["subsets"].values()) == 10
        assert all(len(values) == 10 for values in cell["efficiency"].values())
        assert (run_settings.results / cell["journal"]).is_file() and (
            run_settings.results / cell["manifest"]
        ).is_file()
        pruned = [
            kept < full
            for kept, full in zip(*(cell["efficiency"][k] for k in ("kv_bytes", "kv_bytes_full")), strict=True)
        ]
        assert all(pruned) if cell["method"] != "none" else not any(pruned)
        assert (max(cell["efficiency"]["retention"]) < 1) == (cell["method"] != "none")


def test_finished_cells_take_no_model_and_no_image(uninterrupted, display, monkeypatch):
    monkeypatch.setattr(Suite, "open", never)
    assert run(uninterrupted[0], {}, never, display) == OK
    assert "6 cells, 6 finished; 0 samples" in display.console.file.getvalue()


def test_lost_result_files_are_scored_again_from_the_journal(uninterrupted, tmp_path, monkeypatch):
    """No model, no images: the journal is the only source of truth."""
    run_settings = dataclasses.replace(uninterrupted[0], results=tmp_path / "mini")
    shutil.copytree(uninterrupted[0].results, run_settings.results)
    shutil.rmtree(run_settings.results / "cells")
    monkeypatch.setattr("plphp_core.evaluation.benchmarks._visuals", never)
    assert run(run_settings, {}, never) == OK
    before = {name: timeless(cell) for name, cell in cells(uninterrupted[0]).items()}
    assert {name: timeless(cell) for name, cell in cells(run_settings).items()} == before


def test_interrupted_and_resumed_equals_uninterrupted(uninterrupted, world, loader, tmp_path, monkeypatch, display):
    """Ctrl-C after any batch: exit code 130, and the resumed run writes the same cells and answers nothing twice."""
    run_settings = settings(world, ("none", "plphp", "fastv"), ("mini_a", "mini_b"), results=tmp_path / "mini")
    original, answered = Answerer.answer, []

    def interrupted(self, batch):
        if len(answered) in (1, 4, 9):
            answered.append(None)
            raise KeyboardInterrupt
        answered.append(batch)
        return original(self, batch)

    monkeypatch.setattr(Answerer, "answer", interrupted)
    codes = [run(run_settings, {}, loader, display) for _ in range(4)]
    assert codes == [INTERRUPTED] * 3 + [OK]
    assert "run the same command again" in display.console.file.getvalue()
    keys = journal_keys(run_settings)
    assert len(keys) == len(set(keys)) == 60 == sum(len(batch) for batch in answered if batch)
    before = {name: timeless(cell) for name, cell in cells(uninterrupted[0]).items()}
    assert {name: timeless(cell) for name, cell in cells(run_settings).items()} == before
    statuses = [json.loads(path.read_text())["status"] for path in (run_settings.results / "manifests").glob("*.json")]
    assert sorted(statuses) == ["finished", "interrupted", "interrupted", "interrupted"]


def test_kill_at_random_moments_then_resume_equals_uninterrupted(world, tmp_path, fake, monkeypatch, display):
    whole = settings(world, ("none", "plphp"), ("mini_a", "mini_b"), results=tmp_path / "whole", batch_size=1)
    assert run(whole, {}, fake, display) == OK
    killed = dataclasses.replace(whole, results=tmp_path / "killed")
    monkeypatch.setattr(FakeAnswerer, "pause", 0.01)
    rng = random.Random(1)
    for _ in range(6):
        pid = in_child(lambda: run(killed, {}, fake, display))
        time.sleep(rng.uniform(0.05, 0.5))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert run(killed, {}, fake, display) == OK
    keys = journal_keys(killed)
    assert len(keys) == len(set(keys)) == 40
    assert {k: timeless(v) for k, v in cells(killed).items()} == {k: timeless(v) for k, v in cells(whole).items()}


def test_two_runs_at_once_answer_everything_once(world, tmp_path, fake, monkeypatch, display):
    run_settings = settings(world, ("none", "plphp"), ("mini_a",), results=tmp_path / "mini", batch_size=1)
    monkeypatch.setattr(FakeAnswerer, "pause", 0.01)
    codes = [
        os.waitpid(pid, 0)[1] for pid in [in_child(lambda: run(run_settings, {}, fake, display)) for _ in range(3)]
    ]
    assert codes == [0, 0, 0]
    keys = journal_keys(run_settings)
    assert len(keys) == len(set(keys)) == 20 and len(cells(run_settings)) == 2


def test_sigterm_ends_cleanly(world, tmp_path, fake, monkeypatch, display):
    run_settings = settings(world, results=tmp_path / "mini", batch_size=1)
    monkeypatch.setattr(FakeAnswerer, "pause", 0.05)
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
    assert run(run_settings, {}, fake, display) == TERMINATED
    assert not cells(run_settings)
    assert run(run_settings, {}, fake, display) == OK


def test_limit_is_a_seeded_subset_that_the_full_run_reuses(world, tmp_path, fake, monkeypatch, display):
    asked = []
    original = FakeAnswerer.answer
    monkeypatch.setattr(FakeAnswerer, "answer", lambda self, b: asked.extend(r.tag for r in b) or original(self, b))

    def go(**changes):
        asked.clear()
        run_settings = settings(world, ("none", "plphp"), results=tmp_path / "mini", **changes)
        assert run(run_settings, {}, fake, display) == OK
        chosen = {"limit": None, "limit_seed": 0} | changes
        wanted = [
            cell for cell in cells(run_settings).values() if all(cell[key] == value for key, value in chosen.items())
        ]
        assert len(wanted) == 2 and wanted[0]["doc_ids"] == wanted[1]["doc_ids"]  # the same samples for every method
        return wanted[0]

    few = go(limit=3)
    assert few["n"] == 3 and few["population"] == 10 and sorted(asked) == sorted(few["doc_ids"] * 2)
    more = go(limit=6)
    assert set(few["doc_ids"]) < set(more["doc_ids"]) and len(asked) == 6
    full = go()
    assert full["doc_ids"] == list(range(10)) and sorted(asked) == sorted(2 * [*set(range(10)) - set(more["doc_ids"])])
    go(limit=3)
    assert asked == []
    assert go(limit=3, limit_seed=1)["doc_ids"] != few["doc_ids"]


def test_failed_samples_are_counted_left_out_and_tried_again(world, loader, tmp_path, monkeypatch, display):
    """A broken image costs its own sample and no other; the exit code says so; the next run tries it again."""
    run_settings = settings(world, ("plphp",), results=tmp_path / "mini")
    with monkeypatch.context() as patch:
        patch.setattr("plphp_core.evaluation.benchmarks._visuals", broken_at(4))
        assert run(run_settings, {}, loader, display) == FAILED
    (cell,) = cells(run_settings).values()
    assert cell["n"] == 9 and cell["errors"] == 1 and 4 not in cell["doc_ids"]
    assert cell["error_examples"] == ["OSError: image file is truncated"]
    assert all(len(values) == 9 for values in [*cell["efficiency"].values(), cell["metrics"]["overlap"]["samples"]])
    assert (
        "errors=1" in display.console.file.getvalue()
        and "1 samples without an answer" in display.console.file.getvalue()
    )
    assert run(run_settings, {}, loader, display) == OK
    (cell,) = cells(run_settings).values()
    assert cell["n"] == 10 and cell["errors"] == 0
    assert len(journal_keys(run_settings)) == 11  # ten answers and the error before one of them


def broken_at(row: int):
    def visuals(doc_to_visual, documents, doc_id):
        if doc_id == row:
            raise OSError("image file is truncated")
        return doc_to_visual(documents[doc_id])

    return visuals


def test_a_run_in_which_nothing_works_stops(world, tmp_path, fake, monkeypatch, display):
    failing = lambda self, batch: [(request, Failure("AcceleratorError", "device lost")) for request in batch]  # noqa: E731
    monkeypatch.setattr(FakeAnswerer, "answer", failing)
    run_settings = settings(world, results=tmp_path / "mini", stop_after_errors=5)
    assert run(run_settings, {}, fake, display) == FAILED
    assert "5 samples failed and none was answered" in display.console.file.getvalue() and not cells(run_settings)


def test_out_of_memory_is_tried_again_at_batch_one(world, loader, tmp_path, monkeypatch, display):
    """Too large a batch: freed, answered one by one. Too large a sample: recorded, the others answered."""
    model = loader(settings(world).model).model
    original, sizes = type(model).generate, []

    def generate(self, **inputs):
        size, length = inputs["input_ids"].shape
        sizes.append(size)
        if size > 1 or length > 52:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return original(self, **inputs)

    monkeypatch.setattr(type(model), "generate", generate)
    run_settings = settings(world, results=tmp_path / "mini")
    assert run(run_settings, {}, loader, display) == FAILED
    (cell,) = cells(run_settings).values()
    assert max(cell["efficiency"]["prompt_tokens"]) <= 52 and cell["errors"] == 10 - cell["n"] > 0 and cell["n"] > 0
    assert "OutOfMemoryError: CUDA out of memory" in cell["error_examples"][0]
    assert cell["batch_size"] == 1 and sizes.count(4) == 2 and sizes.count(1) == 10
    (path,) = (run_settings.results / "journal").glob("*.jsonl")
    assert all(line["text"] for line in lines(path) if "error" not in line)


def test_a_method_that_does_not_fit_is_refused_before_the_first_sample(world, loader, tmp_path, display, monkeypatch):
    monkeypatch.setattr(Answerer, "answer", never)
    with pytest.raises(UserError, match="K = 99, but the model has 6 layers"):
        run(settings(world, ("none", "vtw"), results=tmp_path / "mini"), {}, loader, display)


def test_other_weights_never_enter_a_cell(world, tmp_path, fake, display):
    """The same names with other weights: answered anew, the old result gone, the journal keeps both apart by key."""
    run_settings = settings(world, results=tmp_path / "mini")
    assert run(run_settings, {}, fake, display) == OK
    other = dataclasses.replace(run_settings.model, checkpoint=str(save_checkpoint(tmp_path / "other", seed=1)))
    changed = dataclasses.replace(run_settings, model=other)
    assert run(changed, {}, fake, display) == OK
    keys = journal_keys(run_settings)
    assert len(keys) == len(set(keys)) == 20
    (cell,) = cells(run_settings).values()
    assert cell["n"] == 10 and cell["revision"].startswith("sha256:")
    moved = shutil.copytree(world / "checkpoint", tmp_path / "moved")  # the same weights elsewhere are the same weights
    same = dataclasses.replace(run_settings, model=dataclasses.replace(other, checkpoint=str(moved)))
    assert run(same, {}, never, display) == OK
    assert len(journal_keys(run_settings)) == 20


def test_full_disk_ends_the_run_in_words(world, tmp_path, fake, monkeypatch, display):
    run_settings = settings(world, results=tmp_path / "mini")
    original, calls = Journal.append, []

    def append(self, records):
        calls.append(1)
        if len(calls) == 2:
            raise JournalError("cannot write cell.jsonl: the disk is full")
        original(self, records)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", append)
        assert run(run_settings, {}, fake, display) == FAILED
    assert "error: cannot write cell.jsonl: the disk is full" in display.console.file.getvalue()
    assert run(run_settings, {}, fake, display) == OK


def test_extra_metrics_see_answer_and_references(world, tmp_path, fake, display):
    run_settings = settings(world, results=tmp_path / "mini", extra_metrics={"same": f"{__name__}.first_words_agree"})
    assert run(run_settings, {}, fake, display) == OK
    (cell,) = cells(run_settings).values()
    assert cell["metrics"]["same"]["kind"] == "mean" and len(cell["metrics"]["same"]["samples"]) == 10


def first_words_agree(prediction: str, references: list[str]) -> float:
    assert isinstance(references, list) and len(references[0].split()) == 2
    return float(prediction.split()[0] == references[0].split()[0])


def test_unknown_tasks_and_metrics_are_named(world, tmp_path, fake, display):
    with pytest.raises(UserError, match="unknown task 'mini_c'; allowed: mini_a, mini_b"):
        run(settings(world, tasks=("mini_c",), results=tmp_path / "mini"), {}, fake, display)
    with pytest.raises(UserError, match=r"no function 'nothing\.here'"):
        run(settings(world, results=tmp_path / "mini", extra_metrics={"x": "nothing.here"}), {}, fake, display)
    assert Path(tmp_path / "mini" / "manifests").is_dir()
