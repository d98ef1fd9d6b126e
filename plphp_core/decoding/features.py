"""Image features computed once for several forwards over the same images."""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from plphp_core.decoding.device import synchronise


@dataclass
class FeatureClock:
    """Attributes: milliseconds: wall time spent in the vision tower, once per batch of images."""

    milliseconds: float = 0.0
    _known: dict[tuple[Any, ...], Any] = field(default_factory=dict, repr=False)


@contextmanager
def shared_features(model: nn.Module) -> Iterator[FeatureClock]:
    """Within the block, the same pixel tensors are encoded once; not for several threads at a time.

    A model whose `model.model` has no `get_image_features` encodes every time, as it would without the block.
    """
    clock = FeatureClock()
    owner = getattr(model, "model", None)
    encode = getattr(owner, "get_image_features", None)
    if owner is None or encode is None:
        yield clock
        return
    before = vars(owner).get("get_image_features")
    signature = inspect.signature(encode)

    @functools.wraps(encode)  # generate() reads its signature
    def once(*args: Any, **kwargs: Any) -> Any:
        # Tensors tell images apart. Other arguments follow from the configuration; generate() and the forward differ in
        # which of them they write out.
        given = signature.bind(*args, **kwargs).arguments
        key = tuple((name, _memory(value)) for name, value in given.items() if isinstance(value, Tensor))
        if key not in clock._known:
            synchronise(model.device)
            began = time.perf_counter()
            found = encode(*args, **kwargs)
            synchronise(model.device)
            clock.milliseconds += (time.perf_counter() - began) * 1e3
            clock._known[key] = found, args, kwargs  # the arguments too: a freed tensor's address may come again
        return clock._known[key][0]

    owner.get_image_features = once
    try:
        yield clock
    finally:
        clock._known.clear()
        if before is None:
            del owner.get_image_features
        else:
            owner.get_image_features = before


def _memory(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.data_ptr(), tuple(tensor.shape), tensor.dtype
