"""Things take turns, and only their own steps are timed."""

import time
from contextlib import contextmanager

import pytest

from plphp_core.bench.interleaved_rounds import in_turn, rounds_within, times_of


class Fake:
    """Notes what happens to it; a step takes `ms`."""

    def __init__(self, name, log, ms=0.0):
        self.name, self.log, self.ms = name, log, ms

    @contextmanager
    def on(self):
        self.log.append(f"{self.name} on")
        yield
        self.log.append(f"{self.name} off")

    def step(self):
        self.log.append(f"{self.name} step")
        time.sleep(self.ms / 1e3)

    def rewind(self):
        self.log.append(f"{self.name} rewind")
        time.sleep(0.02)


def test_every_round_has_a_block_of_each_case_and_every_second_goes_backwards():
    log = []
    found = in_turn([Fake("a", log), Fake("b", log)], "cpu", 3, 2, 3, 60)
    assert [line for line in log if "o" in line] == [f"{name} {what}" for name in "abbaab" for what in ("on", "off")]
    assert log[:8] == ["a on", *["a step", "a rewind"] * 3, "a off"]  # one to settle, two timed
    assert [[len(each.ms) for each in of_case] for of_case in found] == [[2, 2, 2], [2, 2, 2]]


def test_rewinding_is_not_timed():
    ((round_,),) = in_turn([Fake("a", [], ms=3)], "cpu", 1, 5, 1, 60)
    assert all(3 <= ms < 18 for ms in round_.ms) and min(round_.ms) <= round_.median <= max(round_.ms)


def test_rounds_end_with_the_budget_but_not_before_the_least_number(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("plphp_core.bench.interleaved_rounds.time.perf_counter", lambda: now[0])

    def taken(*given):
        numbers = []
        for number in rounds_within(*given):
            numbers.append(number)
            now[0] += 10  # seconds per round
        return numbers

    assert taken(9, 2, 45) == [0, 1, 2, 3]  # a fifth would end behind the budget
    assert taken(9, 5, 0) == [0, 1, 2, 3, 4]
    assert taken(3, 1, 1e9) == [0, 1, 2]


def test_quartiles():
    times = times_of([4.0, 1.0, 2.0, 3.0, 5.0])
    assert (times.q1, times.median, times.q3, times.best, times.count) == (2, 3, 4, 1, 5)
    assert times_of([7.0]).median == 7


@pytest.mark.parametrize("busy, few", [(True, 60), (False, 60)])
def test_preemptions_are_counted_per_second(monkeypatch, busy, few):
    counts = iter([100, 100 + (10 if busy else 0)])
    monkeypatch.setattr("plphp_core.bench.interleaved_rounds.Preemptions._count", lambda *_: next(counts))
    ((round_,),) = in_turn([Fake("a", [], ms=30)], "cpu", 1, 5, 1, 60)  # a quarter of a second
    assert (round_.preempted > 10) == busy and round_.preempted < few
