"""Times of single steps: warm-up first, the device's own clock on CUDA, median and quartiles."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Times:
    """Milliseconds of `steps` repetitions: median, quartiles, and the best, which other programs disturb least."""

    median: float
    q1: float
    q3: float
    best: float
    steps: int
    warm_up: int


def time_steps(
    step: Callable[[], object],
    rewind: Callable[[], None],
    device: str,
    warm_up: int,
    steps: int,
    at_least: int,
    budget_s: float,
) -> Times:
    """Time `step()` alone; `rewind()` runs after each one, outside the clock.

    Args:
        steps, at_least, budget_s: `steps` repetitions, or fewer once `budget_s` seconds are over, but never fewer than
            `at_least`.
    """
    cuda = device.startswith("cuda")
    for _ in range(warm_up):
        step()
        rewind()
    _wait(cuda)
    began = time.perf_counter()
    found = []
    while len(found) < steps and (len(found) < at_least or time.perf_counter() - began < budget_s):
        if cuda:
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            step()
            end.record()
            found.append((start, end))
        else:
            start = time.perf_counter()
            step()
            found.append((time.perf_counter() - start) * 1e3)
        rewind()
    _wait(cuda)
    return times_of([start.elapsed_time(end) for start, end in found] if cuda else found, warm_up)


def times_of(milliseconds: list[float], warm_up: int) -> Times:
    """Median and quartiles (inclusive: they lie within what was measured)."""
    if len(milliseconds) == 1:
        return Times(*milliseconds * 4, 1, warm_up)
    q1, median, q3 = statistics.quantiles(milliseconds, n=4, method="inclusive")
    return Times(median, q1, q3, min(milliseconds), len(milliseconds), warm_up)


def _wait(cuda: bool) -> None:
    if cuda:
        torch.cuda.synchronize()
