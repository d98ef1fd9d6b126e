"""Runs: nothing lost, duplicated or mixed, whatever interrupts them; failures counted and never scored."""

import dataclasses
import json
import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch

from baselines import FastV
from plphp_core import PLPHP
from plphp_core.evaluation.generation import JointAnswerer
from plphp_core.evaluation.lmms_tasks import Suite
from plphp_core.evaluation.requests import Failure
from plphp_core.evaluation.run_status import FAILED, INTERRUPTED, OK, TERMINATED
from plphp_core.evaluation.runner import run_group
from plphp_core.records.errors import UserError
from tests.evaluation.factories import (
    FakeAnswerer,
    cells,
    in_child,
    journal_keys,
    lines,
    never,
    run,
    save_checkpoint,
    settings,
    timeless,
)


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
    monkeypatch.setattr("plphp_core.evaluation.lmms_tasks._visuals", never)
    assert run(run_settings, {}, never) == OK
    before = {name: timeless(cell) for name, cell in cells(uninterrupted[0]).items()}
    assert {name: timeless(cell) for name, cell in cells(run_settings).items()} == before


def test_interrupted_and_resumed_equals_uninterrupted(uninterrupted, world, loader, tmp_path, monkeypatch, display):
    """Ctrl-C within any batch: exit code 130, and the resumed run writes the same cells and answers nothing twice."""
    run_settings = settings(world, ("none", "plphp", "fastv"), ("mini_a", "mini_b"), results=tmp_path / "mini")
    original, answered = JointAnswerer.answer, []

    def interrupted(self, batch, methods):
        for found in original(self, batch, methods):
            if len(answered) in (1, 4, 9):
                answered.append(None)
                raise KeyboardInterrupt
            answered.append(batch)
            yield found

    monkeypatch.setattr(JointAnswerer, "answer", interrupted)
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


def test_sigterm_finishes_what_is_in_hand(world, tmp_path, fake, monkeypatch, display):
    """As a scheduler sends it: the batch in flight reaches the journal, exit code 143, and the next run goes on."""
    run_settings = settings(world, ("none", "plphp"), results=tmp_path / "mini", batch_size=2)
    original, batches = FakeAnswerer.answer, []

    def answer(self, batch, methods):
        batches.append(batch)
        for answered in original(self, batch, methods):
            if len(batches) == 2:
                os.kill(os.getpid(), signal.SIGTERM)
            yield answered

    monkeypatch.setattr(FakeAnswerer, "answer", answer)
    assert run(run_settings, {}, fake, display) == TERMINATED
    answered = journal_keys(run_settings)
    assert len(batches) == 2 and len(answered) == 6 and not cells(run_settings)  # of the second, one method's
    assert run(run_settings, {}, fake, display) == OK
    keys = journal_keys(run_settings)
    assert keys[: len(answered)] != [] and set(answered) < set(keys) and len(keys) == len(set(keys)) == 20


def test_a_second_sigterm_does_not_wait(world, tmp_path, fake, monkeypatch, display):
    run_settings = settings(world, results=tmp_path / "mini", batch_size=1)
    done = []

    def answer(self, batch, methods):
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
        done.append(batch)
        yield from ()

    monkeypatch.setattr(FakeAnswerer, "answer", answer)
    assert run(run_settings, {}, fake, display) == TERMINATED
    assert done == [] and journal_keys(run_settings) == []


def test_limit_is_a_seeded_subset_that_the_full_run_reuses(world, tmp_path, fake, monkeypatch, display):
    asked = []
    original = FakeAnswerer.answer

    def noted(self, batch, methods):
        asked.extend(request.tag for request in batch for _ in methods)
        return original(self, batch, methods)

    monkeypatch.setattr(FakeAnswerer, "answer", noted)

    def go(**changes):
        asked.clear()
        run_settings = settings(world, ("none", "plphp"), results=tmp_path / "mini", **changes)
        assert run(run_settings, {}, fake, display) == OK
        chosen = {"limit": None, "limit_seed": 0 if changes else None} | changes
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
        patch.setattr("plphp_core.evaluation.lmms_tasks._visuals", broken_at(4))
        assert run(run_settings, {}, loader, display) == FAILED
    (cell,) = cells(run_settings).values()
    assert cell["n"] == 9 and cell["errors"] == 1 and 4 not in cell["doc_ids"]
    assert cell["error_examples"] == ["document 4: OSError: image file is truncated"]
    said = display.console.file.getvalue()
    assert "warning: MINI_A document 4 failed: OSError" in said and "for example document 4: OSError" in said
    assert all(len(values) == 9 for values in [*cell["efficiency"].values(), cell["metrics"]["overlap"]["samples"]])
    assert "errors=1" in said and "1 samples without an answer" in said
    assert "Traceback" not in said  # others were answered
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
    def failing(self, batch, methods):
        for method in methods:
            yield method, [(request, Failure(kind="AcceleratorError", message="device lost")) for request in batch]

    monkeypatch.setattr(FakeAnswerer, "answer", failing)
    run_settings = settings(world, results=tmp_path / "mini", stop_after_errors=5)
    assert run(run_settings, {}, fake, display) == FAILED
    assert "8 samples failed and none was answered" in display.console.file.getvalue() and not cells(run_settings)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["generate", "fast"])
def test_where_nothing_works_the_first_traceback_is_shown_whole_and_once(world, loader, tmp_path, display, engine):
    """Whoever writes a method sees the line of it that fails; the journal keeps type and message."""
    run_settings = settings(world, ("plphp", "fastv"), ("mini_a", "mini_b"), results=tmp_path / "mini")
    run_settings = dataclasses.replace(run_settings, model=dataclasses.replace(run_settings.model, engine=engine))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PLPHP, "compress", a_broken_line)
        patch.setattr(FastV, "withdraw", a_broken_line)
        assert run(run_settings, {}, loader, display) == FAILED
    said = display.console.file.getvalue()
    assert said.count("Traceback (most recent call last)") == 1 and "every sample has failed so far" in said
    assert 'raise IndexError(f"{object()} has no such layer")' in said and "in a_broken_line" in said
    assert "MINI_A document 0 under PLPHP(" in said and "<object object> has no such layer" in said
    log = (run_settings.results / "logs" / "run.log").read_text()
    assert log.count("in a_broken_line") == 1
    kept = [line["error"] for path in run_settings.results.rglob("*.jsonl") for line in lines(path) if "error" in line]
    assert len(kept) == 40 and all(error == kept[0] for error in kept)
    assert kept[0] == {"kind": "IndexError", "message": "<object object> has no such layer"}
    for cell in cells(run_settings).values():
        assert cell["error_examples"] == ["document 0: IndexError: <object object> has no such layer"]


def a_broken_line(self, layer, view):
    raise IndexError(f"{object()} has no such layer")


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
    assert all(line["answer"]["text"] for line in lines(path) if "key" in line and "error" not in line)


def test_a_method_that_does_not_fit_is_refused_before_the_first_sample(world, loader, tmp_path, display, monkeypatch):
    monkeypatch.setattr(JointAnswerer, "answer", never)
    with pytest.raises(UserError, match="K = 99, but the model has 6 layers"):
        run(settings(world, ("none", "vtw"), results=tmp_path / "mini"), {}, loader, display)


def test_among_several_runs_a_method_that_does_not_fit_fails_alone(world, loader, tmp_path, display):
    """In a sweep over VTW's K the last values may be too deep for the model: the others are answered."""
    runs = [settings(world, (name,), results=tmp_path / "mini") for name in ("none", "vtw", "plphp")]
    assert run_group([(one, {}) for one in runs], loader, display) == FAILED
    assert sorted(cell["method"] for cell in cells(runs[0]).values()) == ["none", "plphp"]
    assert "failed: vtw K=99: vtw K=99 does not fit tiny: VTW: K = 99" in display.console.file.getvalue()


def test_runs_together_do_a_common_cell_once(world, tmp_path, fake, display):
    runs = [
        settings(world, ("none", "plphp"), ("mini_a", "mini_b"), results=tmp_path / "mini", table="table1"),
        settings(world, ("none", "fastv"), ("mini_b",), results=tmp_path / "mini", table="table4"),
    ]
    assert run_group([(one, {}) for one in runs], fake, display) == OK
    found = cells(runs[0]).values()
    assert sorted((cell["method"], cell["task"]) for cell in found) == [
        ("fastv", "mini_b"),
        *((method, task) for method in ("none", "plphp") for task in ("mini_a", "mini_b")),
    ]
    assert len(journal_keys(runs[0])) == 50
    assert "table1, table4: tiny" in " ".join(display.console.file.getvalue().split())


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


def test_extra_metrics_see_answer_and_references(world, tmp_path, fake, display):
    run_settings = settings(world, results=tmp_path / "mini", extra_metrics={"same": f"{__name__}.first_words_agree"})
    assert run(run_settings, {}, fake, display) == OK
    (cell,) = cells(run_settings).values()
    assert cell["metrics"]["same"]["kind"] == "mean" and len(cell["metrics"]["same"]["samples"]) == 10


def first_words_agree(prediction: str, references: list[str]) -> float:
    assert isinstance(references, list) and len(references[0].split()) == 2
    return float(prediction.split()[0] == references[0].split()[0])


def test_unknown_tasks_and_metrics_are_named(world, tmp_path, fake, display):
    with pytest.raises(UserError, match="unknown task 'mini_c'; near: mini_b, mini_a"):
        run(settings(world, tasks=("mini_c",), results=tmp_path / "mini"), {}, fake, display)
    with pytest.raises(UserError, match=r"no function 'nothing\.here'"):
        run(settings(world, results=tmp_path / "mini", extra_metrics={"x": "nothing.here"}), {}, fake, display)
    assert Path(tmp_path / "mini" / "manifests").is_dir()
