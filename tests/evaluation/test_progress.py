"""The remaining time: what was expected of every cell, corrected by what was met."""

import pytest

from plphp_core.config.run_settings import MethodSettings
from plphp_core.evaluation import progress
from plphp_core.evaluation.estimate import PlannedCell
from plphp_core.evaluation.run_status import OK
from tests.evaluation.factories import run, settings


def cell(row, benchmark, samples, seconds=None) -> PlannedCell:
    return PlannedCell(MethodSettings(row), benchmark, benchmark, None, samples, seconds=seconds)


@pytest.fixture
def answering(monkeypatch, display):
    """Answers batches of (row, benchmark, samples, seconds); gives the time that is left."""
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])

    def go(*batches):
        for row, benchmark, samples, seconds in batches:
            with display.cell(benchmark, 100, 0) as note:
                clock[0] += seconds
                note(samples, row, benchmark)
        return display.remaining

    return go


def test_a_slow_benchmark_is_not_taken_for_a_fast_one(answering, display):
    """Everything takes twice what was expected, on the slow one too."""
    display.plan([cell("none", "SD", 100, 0.1), cell("none", "Captions", 10, 20.0)], "run")
    assert answering(("none", "SD", 97, 19.4)) == pytest.approx(2 * (3 * 0.1 + 10 * 20.0))
    assert answering(("none", "Captions", 1, 40.0)) == pytest.approx(2 * (3 * 0.1 + 9 * 20.0))


def test_cells_of_which_nothing_is_known_count_as_the_mean_of_the_others(answering, display):
    display.plan([cell("none", "SD", 10, 1.0), cell("none", "MV", 10, 3.0), cell("vtw", "MV", 10)], "run")
    assert answering(("none", "SD", 5, 5.0)) == pytest.approx(5 * 1.0 + 10 * 3.0 + 10 * 2.0)


def test_nothing_is_believed_from_the_first_moment(answering, display):
    display.plan([cell("none", "SD", 10)], "run")
    assert display.remaining is None and answering(("none", "SD", 1, 1.0)) is None
    assert answering(("none", "SD", 5, 23.0)) == pytest.approx(4 * 4.0)
    assert "SD: sample 5/100, 0.2 samples/s, ETA 16 s" in display.console.file.getvalue()


def test_a_log_has_no_line_but_those_of_finished_cells_unless_it_is_asked_for(answering, display, caplog):
    caplog.set_level("INFO", logger="plphp.progress")
    display.plan([cell("none", "SD", 100)], "run")
    before, display.verbose = display.console.file.getvalue(), False
    answering(("none", "SD", 5, 20.0), ("none", "SD", 5, 20.0))
    assert display.console.file.getvalue() == before and caplog.text.count("SD: sample 5/100") == 2
    display.verbose = True
    answering(("none", "SD", 5, 20.0))
    assert display.console.file.getvalue().removeprefix(before).count("\n") == 1


def test_what_others_have_answered_and_other_processes_answer_is_not_counted(answering, display):
    display.processes = 4
    display.plan([cell("none", "SD", 100, 1.0), cell("vtw", "SD", 100, 1.0)], "run")
    display.finish("vtw", "SD")
    assert answering(("none", "SD", 5, 5.0)) == pytest.approx(20.0)


def test_a_run_ends_with_nothing_left(world, tmp_path, fake, display):
    run_settings = settings(world, ("none", "plphp"), ("mini_a", "mini_b"), results=tmp_path / "mini")
    profile = {"task_prefix": "mini_", "seconds_per_sample": {"a": {"prefill": 2, "decode": 1}}}
    assert run(run_settings, {"profile": profile}, fake, display) == OK
    said = display.console.file.getvalue()
    assert "4 cells, 0 finished; 40 samples to answer\n" in said and " 40 s " in said
    assert sum(display._left.values()) == 0
