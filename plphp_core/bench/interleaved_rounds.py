"""Times of single steps: several cases take turns, so that what the machine does meanwhile happens to all of them."""

from __future__ import annotations

import math
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import torch

from plphp_core.decoding.device import synchronise

DISTURBED = 100  # preemptions per second; an idle machine shows some 30


class Timed(Protocol):
    """What can be timed: a step, within `on()`, that `rewind()` undoes outside the clock."""

    def on(self) -> AbstractContextManager[None]: ...
    def step(self) -> object: ...
    def rewind(self) -> None: ...


@dataclass(frozen=True)
class Spread:
    """Median and quartiles (inclusive: they lie within what was measured)."""

    median: float
    q1: float
    q3: float


def spread(values: Sequence[float]) -> Spread:
    if len(values) == 1:
        return Spread(values[0], values[0], values[0])
    q1, median, q3 = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, q1, q3)


def interleaved(
    cases: Sequence[Timed],
    device: str,
    rounds: int,
    steps: int = 1,
    *,
    warm_up: int = 0,
    settle: int = 0,
    at_least: int = 1,
    budget_s: float = math.inf,
) -> list[list[list[float]]]:
    """Milliseconds, `[case][round][step]`. Every second round goes backwards, so that a machine that becomes slower
    favours nobody.

    Args:
        rounds, at_least, budget_s: `rounds` of them, or as many as end within `budget_s` seconds, but never fewer than
            `at_least`.
        steps: timed ones of each case in each round.
        warm_up, settle: untimed ones of each case, before its first round and before every round.
    """
    found: list[list[list[float]]] = [[] for _ in cases]
    began = time.perf_counter()
    for number in range(rounds):
        spent = time.perf_counter() - began
        if number >= at_least and spent * (number + 1) / number > budget_s:
            break
        turns = list(zip(cases, found, strict=True))
        for case, of_case in turns if number % 2 == 0 else reversed(turns):
            with case.on():
                for _ in range(settle + (0 if number else warm_up)):
                    case.step()
                    case.rewind()
                of_case.append(_round(case, device, steps))
    return found


def _round(case: Timed, device: str, steps: int) -> list[float]:
    clock = _device_clock if device.startswith("cuda") else _host_clock
    marks = []
    for _ in range(steps):
        marks.append(clock(case.step))
        case.rewind()
    synchronise(device)
    return [milliseconds() for milliseconds in marks]


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
    def warning(self) -> str | None:
        """What to say if other programs computed on the same cores."""
        often = (self._count() - self.before) / (time.perf_counter() - self.began)
        if often <= DISTURBED:
            return None
        return (
            f"Disturbed: the system gave this process's cores to other programs {often:.0f} times per second (idle: "
            f"under {DISTURBED}). Times are longer than on an idle machine; measure again."
        )

    @staticmethod
    def _count() -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
