"""Several processes on one run: the same cells as one process, whatever their number and whenever they are killed."""

import dataclasses
import os
import random
import signal
import socket
import time
from contextlib import suppress

import pytest

from plphp_core.evaluation.distributed import Ranks, fold, parts
from plphp_core.evaluation.run_status import OK, TERMINATED
from plphp_core.records.journal import Journal
from plphp_core.records.journal_lines import SampleError, SampleLine
from tests.evaluation.factories import FakeAnswerer, cells, in_child, journal_keys, run, settings, timeless
from tests.journal_factories import answered_line

METHODS = ("none", "plphp")
TASKS = ("mini_a", "mini_b")


def port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def start(run_settings, loader, size: int) -> list[int]:
    """Processes as torchrun starts them. Returns their process ids, first rank first."""
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port()), "WORLD_SIZE": str(size)}

    def one(rank):
        os.environ.update(common | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
        try:
            return run(run_settings, {}, loader)
        except SystemExit as stop:
            return stop.code

    return [in_child(lambda rank=rank: one(rank)) for rank in range(size)]


def finish(pids: list[int]) -> list[int]:
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]


def shown(run_settings) -> dict:
    return {name: timeless(cell) for name, cell in cells(run_settings).items()}


@pytest.mark.parametrize("size", [2, 3])
def test_many_processes_write_the_cells_of_one(world, tmp_path, fake, size):
    one = settings(world, METHODS, TASKS, results=tmp_path / "one", batch_size=2)
    assert run(one, {}, fake) == OK
    many = dataclasses.replace(one, results=tmp_path / "many")
    assert finish(start(many, fake, size)) == [OK] * size
    assert shown(many) == shown(one)
    keys = journal_keys(many)
    assert len(keys) == len(set(keys)) == 40
    assert not list((many.results / "journal").glob("*.rank*"))
    assert len(list((many.results / "manifests").glob("*.json"))) == 1


def test_real_answers_too(world, tmp_path, loader):
    one = settings(world, METHODS, ("mini_a",), results=tmp_path / "one", batch_size=2)
    assert run(one, {}, loader) == OK
    many = dataclasses.replace(one, results=tmp_path / "many")
    assert finish(start(many, loader, 2)) == [OK, OK]
    assert shown(many) == shown(one)


def test_killed_and_resumed_on_another_number_of_processes(world, tmp_path, fake, monkeypatch):
    one = settings(world, METHODS, TASKS, results=tmp_path / "one", batch_size=1)
    assert run(one, {}, fake) == OK
    many = dataclasses.replace(one, results=tmp_path / "many")
    monkeypatch.setattr(FakeAnswerer, "pause", 0.03)
    rng = random.Random(3)
    for size in (2, 3):
        pids = start(many, fake, size)
        time.sleep(rng.uniform(0.8, 1.2))
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        finish(pids)
    monkeypatch.setattr(FakeAnswerer, "pause", 0.0)
    assert run(many, {}, fake) == OK
    assert shown(many) == shown(one)
    keys = journal_keys(many)
    assert len(keys) == len(set(keys)) == 40


def test_sigterm_to_all_ends_all(world, tmp_path, fake, monkeypatch):
    many = settings(world, METHODS, TASKS, results=tmp_path / "many", batch_size=1)
    monkeypatch.setattr(FakeAnswerer, "pause", 0.1)
    pids = start(many, fake, 2)
    time.sleep(1.5)
    for pid in pids:
        os.kill(pid, signal.SIGTERM)
    assert finish(pids) == [TERMINATED, TERMINATED]
    monkeypatch.setattr(FakeAnswerer, "pause", 0.0)
    assert finish(start(many, fake, 3)) == [OK] * 3
    assert len(cells(many)) == 4 and len(journal_keys(many)) == 40


def test_parts_are_those_of_this_journal_and_folding_keeps_every_line_once(tmp_path):
    path = tmp_path / "llava.plphp-r=0.4.toy_sd.jsonl"
    first, second = Ranks(1, 3).journal(path), Ranks(2, 3).journal(path)
    other = Ranks(1, 3).journal(tmp_path / "llava.plphp-r=0.4.toy_sd.rank1x.jsonl")
    assert Ranks(0, 3).journal(path) == path
    for part, keys in ((first, "ab"), (second, "bc"), (other, "z")):
        with Journal(part) as journal:
            journal.identify("cell", {"dtype": "float32"})
            journal.append(answered_line(0, key, "cell", key) for key in keys)
            error = SampleError(kind="OSError", message="broken")
            journal.append([SampleLine(key="e", cell="cell", doc_id=9, hardware="h", error=error)])
    assert parts(path) == [first, second]
    with Journal(path) as journal:
        fold(journal)
        assert sorted(journal.answers) == ["a", "b", "c"] and sorted(journal.errors) == ["e"]
    assert parts(path) == [] and other.exists()
    with Journal(path) as again:
        assert sorted(again.answers) == ["a", "b", "c"] and again.identities == {"cell": {"dtype": "float32"}}


def test_each_process_has_its_own_gpu_unless_one_is_named():
    assert Ranks(3, 4, 1).device("cuda") == "cuda:1"
    assert Ranks(3, 4, 1).device("cuda:0") == "cuda:0"
    assert Ranks(3, 4, 1).device("cpu") == "cpu"
    assert Ranks().device("cuda") == "cuda"


def test_batches_are_dealt_out_once_each():
    for size in (1, 2, 3, 7):
        dealt = [number for rank in range(size) for number in Ranks(rank, size).share(range(20))]
        assert sorted(dealt) == list(range(20))
