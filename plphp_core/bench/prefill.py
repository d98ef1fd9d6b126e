"""What a prefill costs, and what of it is the method's own work."""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from unittest.mock import patch

import torch
from torch import nn

from plphp_core import decode
from plphp_core.bench.shapes import Shape
from plphp_core.bench.timing import Times, times_of
from plphp_core.measure import layer_flops
from plphp_core.method import Method
from plphp_core.prefill import Prefill
from plphp_core.prune import _Session, prune

# Where a method works during a prefill: reading the prompt; scores, choice and gather after a layer's attention; the
# shorter stream before a layer.
WORK = ((_Session, "_before_model"), (Prefill, "leave_attention"), (Prefill, "_shorten"))


@dataclass(frozen=True)
class PrefillCost:
    """Wall time of whole prefills, vision tower included, and of the method's own work within them."""

    times: Times
    added: Times


@torch.inference_mode()
def time_prefill(model: nn.Module, inputs: dict, method: Method | None, warm_up: int, repeats: int) -> PrefillCost:
    """Prefill through the model's own forward and the hooks. Without a method there are no hooks either."""
    cuda = model.device.type == "cuda"
    whole, added = [], []
    for i in range(warm_up + repeats):
        clock = _WorkClock(cuda)
        with prune(model, method, record_attention=False) if method is not None else nullcontext(), clock.on():
            _wait(cuda)
            began = time.perf_counter()
            out = decode._prefill(model, inputs)
            _wait(cuda)
            milliseconds = (time.perf_counter() - began) * 1e3
        del out
        if i >= warm_up:
            whole.append(milliseconds)
            added.append(clock.milliseconds)
    return PrefillCost(times_of(whole, warm_up), times_of(added, warm_up))


def flops_ratio(shape: Shape, stream: list[int]) -> float:
    """Operations of a prefill whose layers run over `stream` tokens, as a share of one where nothing is withdrawn.

    By FastV's formula, see `layer_flops`; vision tower and head are not counted.
    """
    whole = shape.layers * layer_flops(stream[0], shape.hidden, shape.intermediate)
    return sum(layer_flops(tokens, shape.hidden, shape.intermediate) for tokens in stream) / whole


class _WorkClock:
    """Adds up the time within WORK: device events on CUDA, the host's clock elsewhere."""

    def __init__(self, cuda: bool):
        self.cuda, self.spans = cuda, []

    @contextmanager
    def on(self):
        with ExitStack() as stack:
            for owner, name in WORK:
                stack.enter_context(patch.object(owner, name, self._timed(getattr(owner, name))))
            yield

    def _timed(self, call):
        def timed(*args, **kwargs):
            start = self._now()
            try:
                return call(*args, **kwargs)
            finally:
                self.spans.append((start, self._now()))

        return timed

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


def _wait(cuda: bool) -> None:
    if cuda:
        torch.cuda.synchronize()
