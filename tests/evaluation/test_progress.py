"""The remaining time: every method on every benchmark at its own pace."""

import io

import pytest
from rich.console import Console

from plphp_core.evaluation import progress
from plphp_core.evaluation.progress import Display, PlannedCell, Remaining
from plphp_core.evaluation.run_status import OK
from plphp_core.evaluation.runner import run
from tests.evaluation.factories import settings
from tests.evaluation.test_runner import fake  # noqa: F401


def cell(label, benchmark, missing, seconds=None) -> PlannedCell:
    return PlannedCell(label, benchmark, missing, 0, False, seconds)


def test_a_slow_benchmark_is_not_taken_for_a_fast_one():
    """3 of 100 quick answers are left, and all 10 slow ones but the first."""
    remaining = Remaining([cell("none", "SD", 100), cell("none", "Captions", 10)])
    remaining.note("none", "SD", 97, 9.7)
    remaining.note("none", "Captions", 1, 20.0)
    assert remaining() == (pytest.approx(3 * 0.1 + 9 * 20.0), 0)


def test_methods_on_one_benchmark_have_a_pace_each():
    remaining = Remaining([cell("none", "SD", 10), cell("vtw", "SD", 10), cell("fastv", "SD", 10)])
    remaining.note("none", "SD", 5, 10.0)
    assert remaining() == (pytest.approx(5 * 2 + 20 * 2), 0)  # of the others nothing better is known
    remaining.note("vtw", "SD", 5, 1.0)
    assert remaining() == (pytest.approx(5 * 2 + 5 * 0.2 + 10 * 1.1), 0)


def test_what_was_expected_is_corrected_by_what_was_met():
    """This machine takes four times what the profile assumes."""
    remaining = Remaining([cell("none", "SD", 10, 0.5), cell("none", "Captions", 10, 3.0)])
    assert remaining() == (pytest.approx(10 * 0.5 + 10 * 3.0), 0)
    remaining.note("none", "SD", 5, 10.0)
    assert remaining() == (pytest.approx(5 * 2.0 + 10 * 12.0), 0)


def test_an_unknown_pace_is_said_and_not_guessed():
    display = Display(Console(file=io.StringIO(), width=200))
    display.plan([cell("none", "SD", 10), cell("none", "MV", 10), cell("vtw", "MV", 10)], "run")
    display.remaining.note("none", "SD", 5, 10.0)
    assert display.estimate == "10 s and what 2 cells of unknown pace take"
    display.remaining.note("none", "MV", 9, 18.0)
    assert display.estimate == "32 s"


def test_what_others_have_answered_and_other_processes_answer_is_not_counted():
    remaining = Remaining([cell("none", "SD", 100), cell("vtw", "SD", 100), cell("none", "MV", 0)], processes=4)
    remaining.note("none", "SD", 5, 5.0)
    remaining.finish("vtw", "SD")
    assert remaining() == (pytest.approx(20.0), 0)


def test_a_run_expects_what_its_profile_assumes_or_its_journals_say(world, tmp_path, fake, monkeypatch, display):  # noqa: F811
    run_settings = settings(world, ("none", "plphp"), ("mini_a", "mini_b"), results=tmp_path / "mini")
    seen = []
    monkeypatch.setattr(Display, "plan", lambda self, cells, title: seen.extend(cells))
    profile = {"task_prefix": "mini_", "seconds_per_sample": {"a": {"prefill": 2, "decode": 1}}}
    assert run(run_settings, {"profile": profile}, fake, display) == OK
    assert {(one.benchmark, one.seconds) for one in seen} == {("MINI_A", 3.0), ("MINI_B", None)}
    assert display.remaining() == (0.0, 0)
    seen.clear()
    for path in (run_settings.results / "cells").glob("*mini_a*.json"):
        path.unlink()
    (run_settings.results / "journal" / "tiny.none.mini_a.jsonl").unlink()
    assert run(run_settings, {"profile": profile}, fake, display) == OK
    known = {(one.label, one.benchmark): one.seconds for one in seen}
    # 4 ms for a batch of four, two or one: what PLPHP took is what `none` may take there.
    assert known["none", "MINI_A"] == known["plphp r=0.4", "MINI_A"] == pytest.approx(0.0014, rel=0.3)


def test_the_time_on_the_terminal_follows_the_paces(monkeypatch):
    clock = iter([0.0, 0.0, 4.0, 44.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    display = Display(Console(file=io.StringIO(), width=200))
    display.plan([cell("none", "SD", 40), cell("vtw", "SD", 40)], "run")
    display._last_line = -100.0
    pace = progress.CellProgress(display, "2 settings · SD", 80, 0)
    pace._began = pace._tick = 0.0
    next(clock)
    pace(4, "none", "SD")
    pace(4, "vtw", "SD")
    said = display.console.file.getvalue()
    assert "estimated time for all remaining samples: 76 s" in said  # as long as nothing is known of vtw: 1 s each
    assert "sample 8/80, 0.2 samples/s, ETA 7 min" in said  # 36 s and 360 s
