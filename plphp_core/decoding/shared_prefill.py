"""One prefill, many methods: what a method compresses does not change the prefill, so one serves them all."""

from __future__ import annotations

import copy
import dataclasses
import functools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from plphp_core.decoding.device import synchronise
from plphp_core.decoding.fast_generate import Prefilled, prefill
from plphp_core.families import family_of
from plphp_core.pruning.hf import Cache, DynamicCache, cache_among, first_output
from plphp_core.pruning.hooks import prune, running_prefill
from plphp_core.pruning.method import LayerView, Method
from plphp_core.pruning.prefill import Prefill
from plphp_core.pruning.selection import Selection
from plphp_core.pruning.trace import Trace
from plphp_core.pruning.validation import require


def can_share(method: Method | None) -> bool:
    """Whether a method leaves the prefill as it is: it withdraws nothing."""
    return method is None or not method.withdraws


@dataclass(frozen=True, eq=False)
class _Recorder(Method):
    """Keeps what methods will look at, layer by layer, and prunes nothing."""

    name: ClassVar[str] = "recorder"

    query_rows: int | None = 1
    views: dict[int, LayerView] = field(default_factory=dict)

    def compress(self, layer: int, view: LayerView) -> Selection | None:
        self.views[layer] = view
        return None


@dataclass
class Resumed:
    """Attributes: trace: as of `prune`; unseen_ms: of a prefill alone, what a clock around `generate` does not see."""

    trace: Trace
    unseen_ms: float = 0.0


class SharedPrefill:
    """A prefill of one batch without a method, from which every method that only compresses can go on, one by one.

    It holds the full cache of the batch and, per layer, the last query rows and, once a method has asked, the last row
    of attention. A method that goes on needs its own, smaller cache beside that: at most as much again.

    Args:
        model: of a known family.
        inputs: what the processor returns, on the model's device; prompts padded on the left.
        query_rows: the `Method.query_rows` of the methods to come.

    Attributes:
        prefill_ms: wall time of vision tower and prefill.
        scoring_ms: of the last rows, which the first method that asks computes for all.

    Raises:
        TypeError, ValueError: as `prune`; or the prompt cannot be followed.
    """

    @torch.inference_mode()
    def __init__(self, model: nn.Module, inputs: dict[str, Any], query_rows: int | None = 1):
        self.model, self.family, self.query_rows = model, family_of(model), query_rows
        recorder = _Recorder(query_rows)
        synchronise(model.device)
        began = time.perf_counter()
        with prune(model, recorder, record_attention=False) as trace:
            self.logits, self.cache, self.position = prefill(model, inputs)
        synchronise(model.device)
        self.prefill_ms, self.scoring_ms = _since(began), 0.0
        if trace.prompt is None or not trace.layers:
            raise ValueError("this prompt cannot be followed (see prune)")
        self.prompt, self.ids = trace.prompt, inputs["input_ids"]
        self.views = {n: dataclasses.replace(view, row=self._timed(view.row)) for n, view in recorder.views.items()}

    def prefilled(self, method: Method | None) -> Prefilled:
        """The prefill under `method`, as `fast_generate` takes it; tensors of whole layers are shared, not copied.

        Its `prefill_ms` is what the prefill would take alone: the shared part, the last rows, this method's own work.

        Raises:
            ValueError: the method withdraws tokens, or reads other query rows than were kept.
        """
        trace, cache = Trace(), DynamicCache()
        self._check(method)
        layers = len(self.cache.layers)
        own, unseen = self._settle(Prefill(self.prompt, method, trace, layers, record_attention=False), cache)
        return Prefilled(self.logits, cache, self.position, trace, own + unseen)

    @contextmanager
    def resumed(self, method: Method | None) -> Iterator[Resumed]:
        """As `prune(model, method)`, and the first forward of `model.generate(**inputs, …)` is answered from here.

        For one call with the same inputs, without beams and without further sequences; not for several threads at a
        time. `generate` may encode the images before its first forward: see `shared_features`.

        Raises:
            ValueError: as `prefilled`.
        """
        self._check(method)
        before = vars(self.model).get("forward")

        def restore() -> None:
            if before is not None:
                self.model.forward = before
            else:
                vars(self.model).pop("forward", None)

        with prune(self.model, method, record_attention=False) as trace:
            resumed = Resumed(trace)

            @functools.wraps(self.model.forward)  # generate() reads its signature
            def replay(*args: Any, **kwargs: Any) -> Any:
                restore()
                self._refuse_other(kwargs.get("input_ids"))
                cache = cache_among(kwargs.values())
                _, resumed.unseen_ms = self._settle(running_prefill(self.model), cache)
                self.family.remember(self.model, cache)
                return first_output(self.logits[:, None], cache)

            self.model.forward = replay
            try:
                yield resumed
            finally:
                restore()

    def _check(self, method: Method | None) -> None:
        require(can_share(method), f"{method!r} withdraws tokens during the prefill, which is over")
        rows = None if method is None else method.query_rows
        require(method is None or rows == self.query_rows, f"{method!r} reads {rows} query rows, not {self.query_rows}")

    def _refuse_other(self, ids: Tensor | None) -> None:
        same = ids is not None and ids.shape == self.ids.shape and torch.equal(ids, self.ids)
        found = "no input_ids" if ids is None else f"input_ids {tuple(ids.shape)}"
        require(
            same,
            f"a shared prefill goes on from its own prompt, {tuple(self.ids.shape)}, but generate() came with other "
            f"{found}: pass the same inputs, without beams and without further sequences",
        )

    @torch.inference_mode()
    def _settle(self, prefill: Prefill, cache: Cache) -> tuple[float, float]:
        """Fill `cache` and the prefill's trace. Returns milliseconds: spent here, and of a prefill beside that."""
        scored_before = self.scoring_ms if prefill.method is not None else 0.0
        synchronise(self.model.device)
        began = time.perf_counter()
        layers = []
        for number, stored in enumerate(self.cache.layers):
            prefill.stream = prefill.stream.on(stored.keys.device)
            kept = prefill.apply_method(number, stored, self.views.get(number))
            layers.append(copy.copy(stored) if kept is stored else kept)  # a new token replaces a layer's tensors
        prefill.check.verify()
        cache.layers = layers
        synchronise(self.model.device)
        return _since(began), self.prefill_ms + scored_before

    def _timed(self, row: Callable[[], Tensor]) -> Callable[[], Tensor]:
        def timed() -> Tensor:
            synchronise(self.model.device)
            began = time.perf_counter()
            found = row()
            synchronise(self.model.device)
            self.scoring_ms += _since(began)
            return found

        return timed


def _since(began: float) -> float:
    return (time.perf_counter() - began) * 1e3
