"""What a prefill costs, and what of it is the method's own work."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from plphp_core.bench.bench_models import BenchModel, CheckpointModel
from plphp_core.bench.bench_settings import BenchCase, BenchSettings
from plphp_core.bench.decoder_shapes import DecoderShape
from plphp_core.bench.interleaved_rounds import Preemptions, times_of
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
            times = found[index]
            if times is None:
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
                times.append(taken)
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
        self.cuda = device.type == "cuda"
        self.spans: list[tuple[Any, Any]] = []  # start and end: events on CUDA, elsewhere seconds

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


def prefill_columns(
    one: BenchModel, cases: list[BenchCase], bench: BenchSettings, say: Callable[[str], None]
) -> dict[tuple, dict]:
    """Columns of prefills of one length, by method and parameters: the same for all backends and batches."""
    vision = cases[0].vision_tokens
    if bench.prefill_vision_tokens is not None and vision not in bench.prefill_vision_tokens:
        return {}
    names = list(dict.fromkeys((case.method, case.params) for case in cases))
    say(f"{one.name}, {vision} vision tokens: {len(names)} prefills in turn, {bench.prefill_rounds} rounds")
    methods = [one.method(name, dict(params)) for name, params in names]
    inputs = one.inputs(bench.prefill_batch, vision)
    measured = interleaved_prefills(one.model, inputs, methods, bench.prefill_warm_up, bench.prefill_rounds)
    plain = next((rounds for (name, _), rounds in zip(names, measured, strict=True) if name == "none"), None)
    found = {}
    for name, method, rounds in zip(names, methods, measured, strict=True):
        if rounds is not None:
            found[name] = _of_prefill(rounds, plain) | {"flops_vs_none": _flops(one, method, vision, bench)}
    return found


def _of_prefill(rounds: list[PrefillTime], plain: list[PrefillTime] | None) -> dict:
    taken = times_of([each.whole for each in rounds])
    columns = {
        "prefill_ms": taken.median,
        "prefill_q1": taken.q1,
        "prefill_q3": taken.q3,
        "prefill_preempted_per_s": times_of([each.preempted for each in rounds]).median,
        "added_prefill_ms": times_of([each.added for each in rounds]).median,
        "added_share_of_prefill": times_of([each.added / each.whole for each in rounds]).median,
    }
    if plain is not None:
        same_round = [own.whole / none.whole for own, none in zip(rounds, plain, strict=True)]
        columns["prefill_vs_none"] = times_of(same_round).median
    return columns


def _flops(one: BenchModel, method, vision: int, bench: BenchSettings) -> float:
    if method is None or not method.withdraws:
        return 1.0
    if isinstance(one, CheckpointModel):
        lengths = one.state(method, bench.prefill_batch, vision).lengths
    else:
        lengths = one.lengths(method, bench.prefill_batch, vision)
    return flops_ratio(one.shape, [layer[0] for layer in lengths])
