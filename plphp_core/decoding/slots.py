"""A cache that never copies: one buffer per layer, written in place, every sample with a length of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from plphp_core.pruning.hf import Cache, CacheLayerMixin


class SlotLayer(CacheLayerMixin):
    """Keys and values of one layer; sample b's tokens lie in its first `lengths[b]` slots, without gaps.

    `update` returns the layer itself in place of tensors: the kernels (`kernels.py`) read slots and lengths from it.

    Args:
        keys, values: after the prefill, `(batch, kv_heads, slots, head_dim)`; what counts are a sample's *last* slots.
        lengths: slots that count, per sample.
        room: tokens to come.
        seen: prompt tokens, padding included.

    Attributes:
        keys, values: `(batch, capacity, kv_heads, head_dim)`.
        place: `(batch,)` long, the slot that the next token is written to.
        used: `(batch,)` int32, slots in use once it is there.
        query_starts, key_starts: `(batch + 1,)` int32, where each sample begins in `(batch, …)` and in
            `(batch · capacity, …)`, as variable-length kernels want to be told.
        new: tokens since the prefill.
    """

    is_sliding = False

    def __init__(self, keys: Tensor, values: Tensor, lengths: Sequence[int], room: int, seen: int):
        super().__init__()
        batch, heads, slots, dim = keys.shape
        self.capacity = max(lengths) + room
        # Slots before heads, as variable-length kernels read them: sample after sample in one long sequence.
        # Zeros: a masked slot weighs nothing, but nothing times an accidental NaN would be NaN.
        self.keys, self.values = (keys.new_zeros(batch, self.capacity, heads, dim) for _ in range(2))
        for buffer, stored in ((self.keys, keys), (self.values, values)):
            stored = stored.transpose(1, 2)
            if len(set(lengths)) == 1:
                buffer[:, : lengths[0]] = stored[:, slots - lengths[0] :]
            else:
                for b, length in enumerate(lengths):
                    buffer[b, :length] = stored[b, slots - length :]
        self.prefilled, self.new, self.seen = list(lengths), 0, seen
        self.place = torch.tensor(lengths, dtype=torch.long, device=keys.device)
        self.used = (self.place + 1).int()
        self.rows = torch.arange(batch, device=keys.device)
        self.query_starts = torch.arange(batch + 1, dtype=torch.int32, device=keys.device)
        self.key_starts = self.query_starts * self.capacity
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        raise NotImplementedError("a SlotLayer is made from a prefilled layer")

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[SlotLayer, SlotLayer]:
        """Write one token per sample, `(batch, kv_heads, 1, head_dim)`, to its place.

        Until `SlotCache.advance` every call writes to the same place: a step can be run again, or recorded in a graph.
        """
        self.keys.index_put_((self.rows, self.place), key_states[:, :, 0])
        self.values.index_put_((self.rows, self.place), value_states[:, :, 0])
        return self, self

    @property
    def lengths(self) -> list[int]:
        """Slots that hold a token, per sample; on the host, which knows them without asking the device."""
        return [length + self.new for length in self.prefilled]

    @property
    def nbytes(self) -> int:
        """Bytes of the tokens held, room and filler not counted."""
        slot = 2 * self.keys.shape[2] * self.keys.shape[3] * self.keys.element_size()
        return slot * sum(self.lengths)

    def get_seq_length(self) -> int:
        return self.seen + self.new

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.get_seq_length() + query_length, 0

    def get_max_length(self) -> int:
        return -1


class SlotCache(Cache):
    """Slot layers that take their steps together.

    All layers of a device share one tensor of places and one of lengths, so that a step is two additions, not two per
    layer.
    """

    def __init__(self, layers: Sequence[SlotLayer]):
        super().__init__(layers=list(layers))
        self.counters: list[Tensor] = []
        for device in dict.fromkeys(layer.device for layer in layers):
            here = [layer for layer in layers if layer.device == device]
            for name in ("place", "used"):
                shared = torch.stack([getattr(layer, name) for layer in here])
                for layer, own in zip(here, shared, strict=True):
                    setattr(layer, name, own)
                self.counters.append(shared)

    def advance(self, tokens: int = 1) -> None:
        """The token just written counts; the next one goes behind it."""
        for counter in self.counters:
            counter.add_(tokens)
        for layer in self.layers:
            layer.new += tokens

    def rewind(self) -> None:
        """Forget what came after the prefill; benchmarks hold the length constant with this."""
        self.advance(-self.layers[0].new)


def slot_cache(cache: Cache, lengths: Sequence[Sequence[int]], room: int, seen: int) -> SlotCache:
    """The same tokens in slot layers; `cache` is used up, layer by layer, so that only one layer exists twice.

    Args:
        lengths: slots that count, per layer and sample.
        room, seen: as in `SlotLayer`.
    """
    made = []
    for number, of_layer in enumerate(lengths):
        stored, cache.layers[number] = cache.layers[number], None
        made.append(SlotLayer(stored.keys, stored.values, of_layer, room, seen))
        del stored
    return SlotCache(made)
