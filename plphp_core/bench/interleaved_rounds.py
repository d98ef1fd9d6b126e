"""Times of single steps: several things take turns, so that what the machine does meanwhile happens to all of them."""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import torch

from plphp_core.decoding.device import synchronise


class Stepping(Protocol):
    """What can be timed: see `plphp_core.bench.decode_backends.DecodeBackend`."""

    def on(self) -> AbstractContextManager[None]: ...
    def step(self) -> object: ...
    def rewind(self) -> None: ...


@dataclass(frozen=True)
class Round:
    """Milliseconds of successive steps of one thing.

    Attributes:
        preempted: see `Preemptions`.
    """

    ms: list[float]
    preempted: float

    @property
    def median(self) -> float:
        return statistics.median(self.ms)


@dataclass(frozen=True)
class Times:
    """Milliseconds of `count` repetitions: median, quartiles, and the best, which other programs disturb least."""

    median: float
    q1: float
    q3: float
    best: float
    count: int


def times_of(values: Sequence[float]) -> Times:
    """Median and quartiles (inclusive: they lie within what was measured)."""
    if len(values) == 1:
        only = values[0]
        return Times(only, only, only, only, 1)
    q1, median, q3 = statistics.quantiles(values, n=4, method="inclusive")
    return Times(median, q1, q3, min(values), len(values))


def in_turn(
    cases: Sequence[Stepping], device: str, rounds: int, steps: int, at_least: int, budget_s: float
) -> list[list[Round]]:
    """`[case][round]`: in every round each case takes one untimed step, to settle, and `steps` timed ones.

    `rewind()` runs after each step, outside the clock. Every second round goes backwards, so that a machine that
    becomes slower favours nobody.

    Args:
        rounds, at_least, budget_s: `rounds` of them, or as many as end within `budget_s` seconds, but never fewer than
            `at_least`.
    """
    found: list[list[Round]] = [[] for _ in cases]
    for number in rounds_within(rounds, at_least, budget_s):
        turns = list(zip(cases, found, strict=True))
        for case, of_case in turns if number % 2 == 0 else reversed(turns):
            with case.on():
                case.step()
                case.rewind()
                of_case.append(_round(case, device, steps))
    return found


def rounds_within(rounds: int, at_least: int, budget_s: float) -> Iterator[int]:
    """0, 1, …: `rounds` numbers, or as many as end within the budget, but never fewer than `at_least`."""
    began = time.perf_counter()
    for number in range(rounds):
        each = (time.perf_counter() - began) / max(number, 1)
        if number >= at_least and (number + 1) * each > budget_s:
            return
        yield number


def _round(case: Stepping, device: str, steps: int) -> Round:
    clock = _device_clock if device.startswith("cuda") else _host_clock
    preemptions = Preemptions()
    marks = []
    for _ in range(steps):
        marks.append(clock(case.step))
        case.rewind()
    synchronise(device)
    return Round([milliseconds() for milliseconds in marks], preemptions.per_second)


def _host_clock(step: Callable[[], object]) -> Callable[[], float]:
    began = time.perf_counter()
    step()
    taken = (time.perf_counter() - began) * 1e3
    return lambda: taken


def _device_clock(step: Callable[[], object]) -> Callable[[], float]:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    step()
    end.record()
    return lambda: start.elapsed_time(end)


class Preemptions:
    """How often, from now on, the system gives a core of this process to another one.

    Threads wait for each other many times per step, so that many of these make a step several times slower.
    """

    def __init__(self):
        self.before, self.began = self._count(), time.perf_counter()

    @property
    def per_second(self) -> float:
        return (self._count() - self.before) / (time.perf_counter() - self.began)

    @staticmethod
    def _count() -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
