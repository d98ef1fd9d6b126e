"""What a prefill costs, and what of it is the method's own work."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import nn

from plphp_core.bench.decoder_shapes import DecoderShape
from plphp_core.bench.interleaved_rounds import Preemptions
from plphp_core.bench.memory_estimate import is_out_of_memory
from plphp_core.decoding.device import free_memory, synchronise
from plphp_core.decoding.fast_generate import prefill
from plphp_core.decoding.measure import layer_flops
from plphp_core.pruning.hooks import prune
from plphp_core.pruning.method import Method


@dataclass(frozen=True)
class PrefillTime:
    """Milliseconds of one prefill, vision tower included, and of the method's own work within it.

    Attributes:
        preempted: see `Preemptions`.
    """

    whole: float
    added: float
    preempted: float


@torch.inference_mode()
def interleaved_prefills(
    model: nn.Module, inputs: dict, methods: Sequence[Method | None], warm_up: int, rounds: int
) -> list[list[PrefillTime] | None]:
    """Time prefills through the model's own forward and the hooks, the methods taking turns.

    Without a method there are no hooks either. Every second round goes backwards.

    Args:
        rounds: timed prefills of each method, after `warm_up` others.

    Returns:
        Per method its rounds; None: out of memory.
    """
    found: list[list[PrefillTime] | None] = [[] for _ in methods]
    for number in range(warm_up + rounds):
        order = range(len(methods))
        for index in order if number % 2 == 0 else reversed(order):
            if found[index] is None:
                continue
            taken = None
            try:
                taken = _prefill_once(model, inputs, methods[index])
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            if taken is None:
                found[index] = None
                free_memory()
            elif number >= warm_up:
                found[index].append(taken)
    return found


def _prefill_once(model: nn.Module, inputs: dict, method: Method | None) -> PrefillTime:
    clock = _WorkClock(model.device)
    hooks = nullcontext() if method is None else prune(model, method, record_attention=False, around_work=clock.span)
    with hooks:
        synchronise(model.device)
        preemptions, began = Preemptions(), time.perf_counter()
        out = prefill(model, inputs)
        synchronise(model.device)
        milliseconds = (time.perf_counter() - began) * 1e3
        preempted = preemptions.per_second
    del out
    return PrefillTime(milliseconds, clock.milliseconds, preempted)


class _WorkClock:
    """Adds up the time of its spans: device events on CUDA, the host's clock elsewhere."""

    def __init__(self, device: torch.device):
        self.cuda, self.spans = device.type == "cuda", []

    @contextmanager
    def span(self) -> Iterator[None]:
        start = self._now()
        try:
            yield
        finally:
            self.spans.append((start, self._now()))

    def _now(self):
        if not self.cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    @property
    def milliseconds(self) -> float:
        if self.cuda:
            torch.cuda.synchronize()
            return sum(start.elapsed_time(end) for start, end in self.spans)
        return sum(end - start for start, end in self.spans) * 1e3


def flops_ratio(shape: DecoderShape, stream: list[int]) -> float:
    """Operations of a prefill whose layers run over `stream` tokens, as a share of one where nothing is withdrawn.

    By FastV's formula, see `layer_flops`; vision tower and head are not counted.
    """
    whole = shape.layers * layer_flops(stream[0], shape.hidden, shape.intermediate)
    return sum(layer_flops(tokens, shape.hidden, shape.intermediate) for tokens in stream) / whole
