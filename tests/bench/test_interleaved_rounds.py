"""Cases take turns, and only their own steps are timed."""

import time
from contextlib import contextmanager

import pytest

from plphp_core.bench.interleaved_rounds import Preemptions, interleaved


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
    found = interleaved([Fake("a", log), Fake("b", log)], "cpu", 3, 2, warm_up=2, settle=1)
    assert [line for line in log if "o" in line] == [f"{name} {what}" for name in "abbaab" for what in ("on", "off")]
    assert log[:12] == ["a on", *["a step", "a rewind"] * 5, "a off"]  # two to warm up, one to settle, two timed
    assert log[24:32] == ["b on", *["b step", "b rewind"] * 3, "b off"]
    assert [[len(each) for each in of_case] for of_case in found] == [[2, 2, 2], [2, 2, 2]]


def test_rewinding_is_not_timed():
    (((*times,),),) = interleaved([Fake("a", [], ms=3)], "cpu", 1, 5)
    assert len(times) == 5 and all(3 <= ms < 18 for ms in times)


@pytest.mark.parametrize("rounds, at_least, budget, expected", [(9, 2, 45, 4), (9, 5, 0, 5), (3, 1, 1e9, 3)])
def test_rounds_end_with_the_budget_but_not_before_the_least_number(monkeypatch, rounds, at_least, budget, expected):
    now = [100.0]

    class TenSeconds(Fake):
        def step(self):
            now[0] += 10

        def rewind(self):
            pass

    monkeypatch.setattr("plphp_core.bench.interleaved_rounds.time.perf_counter", lambda: now[0])
    (found,) = interleaved([TenSeconds("a", [])], "cpu", rounds, at_least=at_least, budget_s=budget)
    assert len(found) == expected


@pytest.mark.parametrize("preempted, warned", [(90, False), (150, True)])
def test_a_disturbed_run_says_so(monkeypatch, preempted, warned):
    monkeypatch.setattr(Preemptions, "_count", lambda *_: next(counts))
    monkeypatch.setattr("plphp_core.bench.interleaved_rounds.time.perf_counter", lambda: next(times))
    counts, times = iter([100, 100 + 2 * preempted]), iter([0.0, 2.0])
    warning = Preemptions().warning
    assert (warning is not None) == warned and (not warned or "150 times per second" in warning)
