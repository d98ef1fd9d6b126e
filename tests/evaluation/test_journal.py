"""The journal keeps every acknowledged answer, once, whatever happens to the process or the disk."""

import logging
import os
import random
import resource
import signal
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plphp_core.evaluation.results_folder import run_lock
from plphp_core.records.atomic import write_atomically
from plphp_core.records.errors import RunError, UserError
from plphp_core.records.journal import Journal, JournalError
from plphp_core.records.journal_lines import SampleError, SampleLine
from tests.evaluation.factories import in_child, lines
from tests.journal_factories import answered_line

FAILED = SampleLine(
    key="key0", cell="c", doc_id=0, hardware="h", error=SampleError(kind="OSError", message="broken image")
)


@pytest.mark.slow
def test_kill_at_random_moments_loses_nothing_that_was_acknowledged(tmp_path):
    """`append` has returned → the answer is there, once, after any number of kills."""
    path, rng = tmp_path / "cell.jsonl", random.Random(0)
    acknowledged: set[int] = set()
    for kills in range(1, 500):
        if kills > 15 and len(acknowledged) > 100:  # a busy machine needs more of them to get anywhere
            break
        read, write = os.pipe()

        def work(write=write):
            with Journal(path) as journal:
                for start in range(0, 4000, 8):
                    journal.append([answered_line(n, "x" * rng.randrange(500)) for n in range(start, start + 8)])
                    os.write(write, b"%d\n" % start)

        pid = in_child(work)
        os.close(write)
        time.sleep(rng.uniform(0.0, 0.03))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        with os.fdopen(read) as pipe:
            for start in pipe.read().split():
                acknowledged |= set(range(int(start), int(start) + 8))
        with Journal(path) as journal:
            assert {f"key{n}" for n in acknowledged} <= set(journal.answers)
        found = [line["key"] for line in lines(path)]
        assert len(found) == len(set(found))
    assert len(acknowledged) > 100


def test_every_torn_end_is_cut_off_and_kept_aside(tmp_path, caplog):
    """Cut at any byte of the last line: the whole lines stay, the rest moves to a side file, appending works again."""
    path = tmp_path / "cell.jsonl"
    with Journal(path) as journal:
        journal.append([answered_line(0), answered_line(1, "größer ≥ 3"), answered_line(2)])
    whole = path.read_bytes()
    start = whole.rstrip(b"\n").rfind(b"\n") + 1
    for cut in range(start, len(whole)):
        path.write_bytes(whole[:cut])
        aside = path.with_suffix(".torn")
        aside.unlink(missing_ok=True)
        with caplog.at_level(logging.WARNING, "plphp.journal"), Journal(path) as journal:
            assert set(journal.answers) == {"key0", "key1"}
            journal.append([answered_line(2), answered_line(3)])
        assert [line["key"] for line in lines(path)] == ["key0", "key1", "key2", "key3"]
        assert aside.exists() == (cut > start)
        assert not aside.exists() or whole[start:cut] in aside.read_bytes()
    assert "torn line" in caplog.text


def test_noise_after_a_power_cut_is_no_answer(tmp_path):
    """Blocks of zero bytes, with or without a line end, and lines of something else are not taken for answers."""
    path = tmp_path / "cell.jsonl"
    with Journal(path) as journal:
        journal.append([answered_line(0)])
    sound = path.read_bytes()
    for noise in (b"\0" * 600, b"\0" * 600 + b"\n", b'{"text": "no key"}\n', b"[1]\n\0"):
        path.write_bytes(sound + noise)
        with Journal(path) as journal:
            assert list(journal.answers) == ["key0"]
        assert path.read_bytes() == sound


@pytest.mark.parametrize(
    "noise",
    [
        b"\0" * 40,
        b'{"text": "no key"}',
        b"",
        b"[1]",
        b"\xff\xfe",
        b'{"key":"key1","te',
        b'{"schema":2,"key":"key1","cell":"c","doc_id":1}',
    ],
)
def test_a_broken_line_among_others_is_reported_once_and_kept_aside(tmp_path, caplog, noise):
    """Whichever line it is: the others stay as they are, byte by byte, and appending goes on behind them."""
    path = tmp_path / "cell.jsonl"
    with Journal(path) as journal:
        journal.append([answered_line(0), answered_line(1, "größer\u2028\x0b≥ 3"), answered_line(2)])
    whole = path.read_bytes().split(b"\n")[:-1]
    path.write_bytes(b"\n".join([whole[0], noise, noise, *whole[1:]]) + b"\n")
    with caplog.at_level(logging.WARNING, "plphp.journal"), Journal(path) as journal:
        assert list(journal.answers) == ["key0", "key1", "key2"]
        assert path.read_bytes() == b"\n".join(whole) + b"\n"
        journal.append([answered_line(3)])
    assert len(caplog.records) == 1 and "line 2, line 3" in caplog.text
    assert noise + b"\n" + noise in path.with_suffix(".torn").read_bytes()
    aside = path.with_suffix(".torn").read_bytes()
    caplog.clear()
    with caplog.at_level(logging.WARNING, "plphp.journal"), Journal(path) as journal:
        assert list(journal.answers) == ["key0", "key1", "key2", "key3"]
    assert not caplog.records and path.with_suffix(".torn").read_bytes() == aside


def test_a_disk_that_is_full_while_a_journal_is_mended_loses_nothing(tmp_path, monkeypatch):
    path = tmp_path / "cell.jsonl"
    with Journal(path) as journal:
        journal.append([answered_line(0), answered_line(1)])
    damaged = b"noise\n" + path.read_bytes()
    path.write_bytes(damaged)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(RunError, match="No space left"):
            Journal(path)
    assert path.read_bytes() == damaged
    with Journal(path) as journal:
        assert list(journal.answers) == ["key0", "key1"]


def test_first_answer_wins_and_answers_supersede_errors(tmp_path):
    path = tmp_path / "cell.jsonl"
    with Journal(path) as journal:
        journal.append([FAILED])
        assert list(journal.errors) == ["key0"] and not journal.answers
        journal.append([answered_line(0, "first"), answered_line(0, "second")])
        journal.append([answered_line(0, "third"), FAILED])
        assert journal.answers["key0"].answer.text == "first" and not journal.errors
    with Journal(path) as journal:
        assert journal.answers["key0"].answer.text == "first" and not journal.errors
    assert len(lines(path)) == 2


def test_a_journal_of_another_version_is_refused_and_left_as_it_is(tmp_path):
    path = tmp_path / "cell.jsonl"
    path.write_text('{"schema":1,"key":"key0","text":"red"}\n')
    for use in (Journal, Journal.peek):
        with pytest.raises(
            JournalError, match=r"cell\.jsonl: has lines of schema 1, this version reads schema 2; move"
        ):
            use(path)
    assert path.read_text() == '{"schema":1,"key":"key0","text":"red"}\n'


def test_an_identity_is_written_once_and_is_no_answer(tmp_path):
    path = tmp_path / "cell.jsonl"
    for _ in range(2):
        with Journal(path) as journal:
            journal.identify("c", {"task": {"name": "toy_sd", "limit": None}})
            journal.identify("c", {"task": {}})
            journal.append([answered_line(0), answered_line(1)])
            assert journal.counts == {"c": 2} and len(journal.answers) == 2 and not journal.errors
            assert journal.identities == {"c": {"task": {"name": "toy_sd", "limit": None}}}
    assert ["identity" in line for line in lines(path)] == [True, False, False]


def test_an_identity_torn_at_any_byte_costs_no_answer_and_is_written_again(tmp_path):
    path = tmp_path / "cell.jsonl"
    with Journal(path) as journal:
        journal.append([answered_line(0)])
        start = path.stat().st_size
        journal.identify("c", {"data": {"revision": "größer"}})
    whole = path.read_bytes()
    for cut in range(start, len(whole)):
        path.write_bytes(whole[:cut])
        with Journal(path) as journal:
            assert not journal.identities and journal.counts == {"c": 1}
            journal.identify("c", {"data": {"revision": "größer"}})
        assert path.read_bytes() == whole


def test_what_is_acknowledged_is_on_disk(tmp_path, monkeypatch):
    path, synced = tmp_path / "cell.jsonl", []
    with Journal(path) as journal:
        real = os.fsync
        monkeypatch.setattr(os, "fsync", lambda file: synced.append(os.fstat(file).st_size) or real(file))
        journal.identify("c", {})
        journal.append([answered_line(0)])
        assert synced[-1] == path.stat().st_size > synced[0] > 0
        monkeypatch.setattr(os, "fsync", lambda file: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(JournalError, match="disk is full"):
            journal.identify("other", {})
        assert "other" not in journal.identities and path.stat().st_size == synced[-1]


@given(st.lists(st.tuples(st.integers(0, 6), st.text(max_size=8), st.booleans()), max_size=12), st.integers(0, 10_000))
def test_reading_back_equals_a_plain_dictionary(tmp_path_factory, operations, cut):
    """Any appends, in any encoding, followed by a cut anywhere, leave a prefix of what was written."""
    path = tmp_path_factory.mktemp("journal") / "cell.jsonl"
    expected: list[tuple[str, str]] = []
    with Journal(path) as journal:
        for number, text, reopen in operations:
            journal.append([answered_line(number, text)])
            if f"key{number}" not in dict(expected):
                expected.append((f"key{number}", text))
            if reopen:
                journal.close()
                journal = Journal(path)
        assert {key: line.answer.text for key, line in journal.answers.items()} == dict(expected)
        journal.close()
    os.truncate(path, min(cut, path.stat().st_size))
    with Journal(path) as journal:
        kept = [(key, line.answer.text) for key, line in journal.answers.items()]
    assert kept == expected[: len(kept)]


def test_full_disk_is_a_clear_error_and_leaves_a_valid_journal(tmp_path):
    """The write that does not fit disappears as a whole; after making room the run goes on."""
    path = tmp_path / "cell.jsonl"

    def work():
        resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))
        with Journal(path) as journal:
            try:
                for number in range(100):
                    journal.append([answered_line(number, "x" * 200)])
            except JournalError as error:
                (tmp_path / "message").write_text(str(error))

    assert os.waitpid(in_child(work), 0)[1] == 0
    message = (tmp_path / "message").read_text()
    assert "disk is full" in message and str(path) in message
    whole = lines(path)
    assert 10 < len(whole) < 25 and f"{len(whole)} answers" in message
    with Journal(path) as journal:
        journal.append([answered_line(number) for number in range(100)])
    assert [line["doc_id"] for line in lines(path)] == list(range(100))


def test_interrupt_while_syncing_leaves_whole_lines(tmp_path, monkeypatch):
    """Ctrl-C inside `append` loses that batch and nothing else."""
    path = tmp_path / "cell.jsonl"
    with Journal(path) as journal:
        journal.append([answered_line(0)])
        monkeypatch.setattr(os, "fsync", lambda file: (_ for _ in ()).throw(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            journal.append([answered_line(1)])
        monkeypatch.undo()
        journal.append([answered_line(2)])
    assert [line["doc_id"] for line in lines(path)] == [0, 2]


def test_result_files_are_replaced_as_a_whole(tmp_path):
    """Killed while a result file is rewritten: it holds the old or the new content, never a part."""
    path, rng = tmp_path / "cell.json", random.Random(0)
    contents = ["a" * 300_000, "b" * 300_000]
    write_atomically(path, contents[0])
    for _ in range(10):
        pid = in_child(lambda: [write_atomically(path, contents[n % 2]) for n in range(1000)])
        time.sleep(rng.uniform(0.0, 0.02))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        assert path.read_text() in contents


def test_second_run_refuses_or_waits_and_a_dead_one_does_not_block(tmp_path):
    said: list[str] = []
    ready, held = os.pipe()

    def hold():
        with run_lock(tmp_path / "locks" / "a.lock", None, said.append):
            os.write(held, b"x")
            time.sleep(30)

    pid = in_child(hold)
    os.read(ready, 1)
    path = tmp_path / "locks" / "a.lock"
    with pytest.raises(UserError, match=f"in use by process {pid}"), run_lock(path, 0, said.append):
        pass
    with pytest.raises(UserError, match="in use"), run_lock(tmp_path / "locks" / "a.lock", 0.5, said.append):
        pass
    assert len(said) == 1 and said[0].startswith("waiting")
    os.kill(pid, signal.SIGKILL)  # leaves its lock file and its name behind
    os.waitpid(pid, 0)
    with run_lock(tmp_path / "locks" / "a.lock", 0, said.append):
        pass
