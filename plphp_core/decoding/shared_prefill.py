"""One prefill, many methods: what a method compresses does not change the prefill, so one serves them all."""

from __future__ import annotations

import copy
import dataclasses
import functools
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from plphp_core.decoding.device import synchronise
from plphp_core.decoding.fast_generate import Prefilled, prefill
from plphp_core.families import family_of
from plphp_core.pruning.hf import Cache, CacheLayerMixin, DynamicCache, cache_among, first_output
from plphp_core.pruning.hooks import prune, running_prefill
from plphp_core.pruning.method import Method
from plphp_core.pruning.prefill import Prefill
from plphp_core.pruning.selection import Selection
from plphp_core.pruning.trace import Trace
from plphp_core.pruning.validation import require
from plphp_core.pruning.view import LayerView, Once, QueryRows, rows_to_hold


def can_share(method: Method | None) -> bool:
    """Whether a method leaves the prefill as it is: it withdraws nothing."""
    return method is None or not method.shortens


@dataclass(frozen=True, eq=False)
class _Recorder(Method):
    """Keeps what methods will look at, layer by layer, and prunes nothing."""

    name: ClassVar[str] = "recorder"

    query_rows: QueryRows = 1
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

    It holds the full cache of the batch and, per layer, the last query rows and, once a method has asked, what their
    attention comes to. A method that goes on needs its own, smaller cache beside that: at most as much again.

    Args:
        model: of a known family.
        inputs: what the processor returns, on the model's device; prompts padded on the left.
        methods: those to come, which decide how many query rows are held.

    Attributes:
        prefill_ms: wall time of vision tower and prefill.
        scoring_ms: of the rows of attention, which the first method that asks computes for all.

    Raises:
        TypeError, ValueError: as `prune`; or the prompt cannot be followed.
    """

    @torch.inference_mode()
    def __init__(self, model: nn.Module, inputs: dict[str, Any], methods: Sequence[Method | None] = ()):
        self.model, self.family = model, family_of(model)
        self.query_rows: QueryRows = (1, *map(_rows, methods))
        recorder = _Recorder(self.query_rows)
        synchronise(model.device)
        began = time.perf_counter()
        with prune(model, recorder, record_attention=False) as trace:
            self.logits, self.cache, self.position = prefill(model, inputs)
        synchronise(model.device)
        self.prefill_ms = _since(began)
        self.costs: dict[Hashable, float] = {}  # milliseconds by layer and what was computed
        self._asked: set[Hashable] = set()
        if trace.prompt is None or not trace.layers:
            raise ValueError("this prompt cannot be followed (see prune)")
        self.prompt, self.ids = trace.prompt, inputs["input_ids"]
        self.views = {n: dataclasses.replace(view, once=self._timed(n)) for n, view in recorder.views.items()}

    @property
    def scoring_ms(self) -> float:
        return sum(self.costs.values())

    def prefilled(self, method: Method | None) -> Prefilled:
        """The prefill under `method`, as `fast_generate` takes it; tensors of whole layers are shared, not copied.

        Its `prefill_ms` is what the prefill would take alone: the shared part, the scores it reads, its own work.

        Raises:
            ValueError: the method withdraws tokens, or reads more query rows than are held.
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
        wanted, held = (rows_to_hold(wish, self.prompt) for wish in (_rows(method), self.query_rows))
        enough = held is None or (wanted is not None and wanted <= held)
        require(
            enough, f"{method!r} reads {wanted or 'all'} query rows, but {held} are held: name it among the methods"
        )

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
        known = dict(self.costs)
        self._asked.clear()
        synchronise(self.model.device)
        began = time.perf_counter()
        layers: dict[int, CacheLayerMixin] = {}
        for number, stored in enumerate(self.cache.layers):
            prefill.stream = prefill.stream.on(stored.keys.device)
            # A view of its own for each method: what it looks at, it is charged for.
            view = dataclasses.replace(self.views[number]) if number in self.views else None
            layers |= prefill.apply_method(number, self.cache.layers, view)
        prefill.check.verify()
        # A new token replaces a layer's tensors, so that what is kept whole is copied as a layer, its tensors are not.
        whole = self.cache.layers
        cache.layers = [copy.copy(layer) if layer is whole[n] else layer for n, layer in sorted(layers.items())]
        synchronise(self.model.device)
        reused = sum(known.get(what, 0.0) for what in self._asked)
        return _since(began), self.prefill_ms + reused

    def _timed(self, layer: int) -> Once:
        """Keeps what is computed from a layer's rows for all methods, and what it took beside what it reads itself."""
        kept: dict[Hashable, Tensor] = {}

        def once(what: Hashable, compute: Callable[[], Tensor]) -> Tensor:
            self._asked |= {(layer, what), (layer, "query")}  # all scores are made of the rotated query
            if what not in kept:
                before = self.scoring_ms
                synchronise(self.model.device)
                began = time.perf_counter()
                kept[what] = compute()
                synchronise(self.model.device)
                self.costs[layer, what] = _since(began) - (self.scoring_ms - before)
            return kept[what]

        return once


def _rows(method: Method | None) -> QueryRows:
    return 1 if method is None else method.query_rows


def _since(began: float) -> float:
    return (time.perf_counter() - began) * 1e3
