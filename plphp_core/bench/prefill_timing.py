"""What a prefill costs, and what of it is the method's own work."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn

from plphp_core.bench.bench_settings import BenchCase
from plphp_core.bench.decoder_shapes import DecoderShape
from plphp_core.bench.interleaved_rounds import interleaved, spread
from plphp_core.bench.memory_estimate import is_out_of_memory
from plphp_core.bench.random_model import RandomModel
from plphp_core.decoding.device import PeakMemory, free_memory, synchronise
from plphp_core.decoding.fast_generate import prefill
from plphp_core.decoding.measure import layer_flops
from plphp_core.pruning.hooks import prune
from plphp_core.pruning.method import Method


class TimedPrefill:
    """A prefill, vision tower included, through the model's own forward and the hooks; without a method, without hooks.

    Attributes:
        added: of every step, milliseconds of the method's own work: device events on CUDA, else the host's clock.
        peak_bytes: of the latest step, the most in use at once beyond what was before it; None but on CUDA.
    """

    def __init__(self, model: nn.Module, inputs: dict, method: Method | None):
        self.model, self.inputs, self.method = model, inputs, method
        self.added: list[float] = []
        self.peak_bytes: int | None = None
        self._spans: list[tuple[Any, Any]] = []

    def on(self) -> AbstractContextManager:
        if self.method is None:
            return nullcontext()
        return prune(self.model, self.method, record_attention=False, around_work=self._span)

    def step(self) -> None:
        peak = PeakMemory(self.model.device)
        prefill(self.model, self.inputs)
        self.peak_bytes = peak.bytes()

    def rewind(self) -> None:
        synchronise(self.model.device)
        cuda = self.model.device.type == "cuda"
        spans = (start.elapsed_time(end) if cuda else (end - start) * 1e3 for start, end in self._spans)
        self.added.append(sum(spans))
        self._spans = []

    @contextmanager
    def _span(self) -> Iterator[None]:
        start = self._now()
        try:
            yield
        finally:
            self._spans.append((start, self._now()))

    def _now(self) -> Any:
        if self.model.device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event


def prefill_rows(one: RandomModel, cases: Sequence[BenchCase], say: Callable[[str], None]) -> list[dict]:
    """A row per method and parameters of cases of one length: the same prefill of one prompt for all backends and
    batches. The methods take turns; where one runs out of memory, every row's `status` is `oom`.
    """
    bench, vision = one.bench, cases[0].vision_tokens
    first: dict[Method | None, BenchCase] = {}
    for case in cases:
        first.setdefault(case.method, case)
    rows = [one.row(case) | {"backend": "prefill", "batch": 1} for case in first.values()]
    say(f"{one.name}, {vision} vision tokens: {len(rows)} prefills in turn, {bench.prefill_rounds} rounds")
    inputs = one.inputs(1, vision)
    timed = [TimedPrefill(one.model, inputs, method) for method in first]
    try:
        with torch.inference_mode():
            rounds = interleaved(timed, bench.device, bench.prefill_rounds, warm_up=bench.prefill_warm_up)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        rounds = None
    if rounds is None:
        free_memory()  # here, where the error no longer holds the frames of what failed
        return [row | {"status": "oom"} for row in rows]
    wholes = [[milliseconds for (milliseconds,) in of_case] for of_case in rounds]
    plain = next((whole for row, whole in zip(rows, wholes, strict=True) if row["method"] == "none"), None)
    for row, (method, case), timing, whole in zip(rows, first.items(), timed, wholes, strict=True):
        added, taken = timing.added[bench.prefill_warm_up :], spread(whole)
        row |= {
            "prefill_ms": taken.median,
            "prefill_q1": taken.q1,
            "prefill_q3": taken.q3,
            **operation_ratios(one.shape, one.entering(method, vision), one.row(case)["prompt_tokens"]),
            "prefill_peak_bytes": timing.peak_bytes,  # the first one also allocates what libraries keep
            "added_prefill_ms": spread(added).median,
            "added_share_of_prefill": spread([own / of for own, of in zip(added, whole, strict=True)]).median,
        }
        if plain is not None:
            row["prefill_vs_none"] = spread([own / of for own, of in zip(whole, plain, strict=True)]).median
    return rows


def operation_ratios(shape: DecoderShape, entering: list[int], prompt: int) -> dict[str, float]:
    """Operations of a prefill as a share of one where all `prompt` tokens go through; `entering`: tokens per layer.

    As this decoder needs them, and by FastV's formula, see `layer_flops`, which has one matrix less in a layer and
    attention among all tokens, so that it promises more. Vision tower and head are not counted.
    """

    def ratio(of_layer: Callable[[int], int]) -> float:
        return sum(map(of_layer, entering)) / (shape.layers * of_layer(prompt))

    return {
        "operations_vs_none": ratio(shape.layer_operations),
        "flops_vs_none": ratio(lambda tokens: layer_flops(tokens, shape.hidden, shape.intermediate)),
    }


def add_decode_tokens(prefills: Sequence[dict], decoded: Sequence[dict]) -> None:
    """Fill in, in place, what a method adds to a prefill in tokens of `none` in the fast backend at batch 1."""
    plain = [row for row in decoded if (row["backend"], row["method"], row["batch"]) == ("fast", "none", 1)]
    token_ms = {(row["model"], row["vision_tokens"]): row.get("ms_per_token") for row in plain}
    for row in prefills:
        token = token_ms.get((row["model"], row["vision_tokens"]))
        if token and "added_prefill_ms" in row:
            row["added_decode_tokens"] = row["added_prefill_ms"] / token
