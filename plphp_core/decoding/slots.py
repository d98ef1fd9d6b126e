"""A cache that never copies: one buffer per layer, written in place, every sample or head with a length of its own."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from plphp_core.pruning.hf import Cache, CacheLayerMixin
from plphp_core.pruning.selection import Count


class SlotLayer(CacheLayerMixin):
    """Keys and values of one layer, in segments: a sample's tokens with all KV heads, or, where heads hold different
    numbers, those of one KV head of one sample. A segment's tokens lie in its first slots, without gaps.

    `update` returns the layer itself in place of tensors: the kernels (`kernels.py`) read slots and lengths from it.

    Args:
        keys, values: after the prefill, `(batch, kv_heads, slots, head_dim)`, where a sample's *last* slots count; or
            `(Σ lengths, head_dim)`, head after head, sample after sample.
        lengths: slots that count, per sample, or per sample and KV head.
        room: tokens to come.
        seen: prompt tokens, padding included.
        removed: as in `PrunedLayer`.

    Attributes:
        heads: KV heads of a segment: all, or 1.
        capacities: slots of each segment. Segments of whole samples have equally many, so that they are a rectangle.
        keys, values: `(Σ capacities, heads, head_dim)`, segment after segment, slots before heads, as variable-length
            kernels read them.
        place: `(segments,)` long, the slot that the next token is written to.
        used: `(segments,)` int32, slots in use once it is there.
        query_starts, key_starts: `(segments + 1,)` int32, where each segment begins among queries and slots.
        new: tokens since the prefill.
    """

    is_sliding = False

    def __init__(
        self,
        keys: Tensor,
        values: Tensor,
        lengths: Sequence[Count],
        room: int,
        seen: int,
        removed: Tensor | None = None,
    ):
        super().__init__()
        self.removed = removed
        ragged, dim = keys.ndim == 2, keys.shape[-1]
        self.heads = 1 if ragged else keys.shape[1]
        self.prefilled = [head for sample in lengths for head in (sample if isinstance(sample, tuple) else (sample,))]
        longest = max(self.prefilled)
        self.capacities = [(length if ragged else longest) + room for length in self.prefilled]
        starts = [0, *accumulate(self.capacities)]
        # Zeros: a masked slot weighs nothing, but nothing times an accidental NaN would be NaN.
        self.keys, self.values = (keys.new_zeros(starts[-1], self.heads, dim) for _ in range(2))
        for buffer, stored in ((self.keys, keys), (self.values, values)):
            parts = stored[:, None].split(self.prefilled) if ragged else stored.transpose(1, 2)
            for start, length, part in zip(starts, self.prefilled, parts, strict=False):
                buffer[start : start + length] = part[len(part) - length :]
        self.new, self.seen = 0, seen
        self.place = torch.tensor(starts[:-1], device=keys.device) + torch.tensor(self.prefilled, device=keys.device)
        self.used = torch.tensor(self.prefilled, dtype=torch.int32, device=keys.device) + 1
        self.key_starts = torch.tensor(starts, dtype=torch.int32, device=keys.device)
        self.query_starts = torch.arange(len(starts), dtype=torch.int32, device=keys.device)
        self.starts = starts
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        raise NotImplementedError("a SlotLayer is made from a prefilled layer")

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[SlotLayer, SlotLayer]:
        """Write one token per sample, `(batch, kv_heads, 1, head_dim)`, to its place.

        Until `SlotCache.advance` every call writes to the same place: a step can be run again, or recorded in a graph.
        """
        shape = (len(self.prefilled), self.heads, -1)
        self.keys.index_put_((self.place,), key_states[:, :, 0].reshape(shape))
        self.values.index_put_((self.place,), value_states[:, :, 0].reshape(shape))
        return self, self

    @property
    def capacity(self) -> int:
        """Slots of the largest segment."""
        return max(self.capacities)

    @property
    def lengths(self) -> list[int]:
        """Slots that hold a token, per segment; on the host, which knows them without asking the device."""
        return [length + self.new for length in self.prefilled]

    def rectangle(self) -> tuple[Tensor, Tensor]:
        """Keys and values as `(segments, heads, capacity, head_dim)`; behind a segment's tokens lie others.

        No copy where segments have equally many slots.
        """
        if len(set(self.capacities)) == 1:
            shape = (len(self.capacities), -1, *self.keys.shape[1:])
            return self.keys.view(shape).transpose(1, 2), self.values.view(shape).transpose(1, 2)
        slots = self.key_starts[:-1, None] + torch.arange(self.capacity, device=self.device)
        slots = slots.clamp(max=len(self.keys) - 1)
        return self.keys[slots].transpose(1, 2), self.values[slots].transpose(1, 2)

    @property
    def nbytes(self) -> int:
        """Bytes of the tokens held, room and filler not counted."""
        slot = 2 * self.heads * self.keys.shape[2] * self.keys.element_size()
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
            segments = [len(layer.place) for layer in here]
            for name in ("place", "used"):
                shared = torch.cat([getattr(layer, name) for layer in here])
                for layer, own in zip(here, shared.split(segments), strict=True):
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


def slot_cache(cache: Cache, lengths: Sequence[Sequence[Count]], room: int, seen: int) -> SlotCache:
    """The same tokens in slot layers; `cache` is used up, layer by layer, so that only one layer exists twice.

    Args:
        lengths: slots that count, per layer and sample, or per layer, sample and KV head.
        room, seen: as in `SlotLayer`.
    """
    made = []
    for number, of_layer in enumerate(lengths):
        stored, cache.layers[number] = cache.layers[number], None
        made.append(SlotLayer(stored.keys, stored.values, of_layer, room, seen, getattr(stored, "removed", None)))
        del stored
    return SlotCache(made)
