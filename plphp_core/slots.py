"""A cache that never copies: one buffer per layer, written in place, every sample with a length of its own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.cache_utils import Cache, CacheLayerMixin

ATTENTION = "plphp_slots"


class SlotLayer(CacheLayerMixin):
    """Keys and values of one layer; sample b's tokens lie in its first `lengths[b]` slots, without gaps.

    `update` returns the layer itself in place of tensors: the attention below reads slots and lengths from it.

    Args:
        keys, values: after the prefill, `(batch, kv_heads, slots, head_dim)`; what counts are a sample's *last* slots.
        lengths: slots that count, per sample.
        room: tokens to come.
        seen: prompt tokens, padding included.
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
        self.lengths = self.first_lengths = list(lengths)  # on the host, where exact slices need them
        self.used = torch.tensor(lengths, dtype=torch.int32, device=keys.device)
        self.rows = torch.arange(batch, device=keys.device)
        self.dtype, self.device = keys.dtype, keys.device
        self.seen, self.is_initialized = seen, True

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        raise NotImplementedError("a SlotLayer is made from a prefilled layer")

    def update(self, key_states: Tensor, value_states: Tensor, *args, **kwargs) -> tuple[SlotLayer, SlotLayer]:
        """Write one token per sample behind its last slot. Args: `(batch, kv_heads, 1, head_dim)`."""
        place = (self.rows, self.used.long())
        self.keys.index_put_(place, key_states[:, :, 0])
        self.values.index_put_(place, value_states[:, :, 0])
        self.used.add_(1)
        self.count()
        return self, self

    def count(self) -> None:
        """One more token per sample, on the host; a replayed graph counts on the device by itself."""
        self.lengths = [length + 1 for length in self.lengths]
        self.seen += 1

    def uncount(self, on_device: bool) -> None:
        """Take the last token back, on the host and, if asked, on the device."""
        self.lengths = [length - 1 for length in self.lengths]
        self.seen -= 1
        if on_device:
            self.used.sub_(1)

    def rewind(self) -> None:
        """Forget what came after the prefill; benchmarks hold the length constant with this."""
        self.seen -= self.lengths[0] - self.first_lengths[0]
        self.used.copy_(torch.tensor(self.first_lengths, dtype=torch.int32))
        self.lengths = list(self.first_lengths)

    @property
    def nbytes(self) -> int:
        """Bytes of the tokens held, room and filler not counted."""
        slot = 2 * self.keys.shape[2] * self.keys.shape[3] * self.keys.element_size()
        return slot * sum(self.lengths)

    def get_seq_length(self) -> int:
        return self.seen

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.seen + query_length, 0

    def get_max_length(self) -> int:
        return -1


def slot_cache(cache: Cache, lengths: Sequence[Sequence[int]], room: int, seen: int) -> Cache:
    """The same tokens in slot layers; `cache`'s own layers are let go one by one, so that only one exists twice.

    Args:
        lengths: slots that count, per layer and sample.
        room, seen: as in `SlotLayer`.
    """
    for number, of_layer in enumerate(lengths):
        stored = cache.layers[number]
        cache.layers[number] = SlotLayer(stored.keys, stored.values, of_layer, room, seen)
        del stored
    return cache


def slot_attention(module, query: Tensor, key: SlotLayer, value: SlotLayer, attention_mask, scaling=None, **_):
    """Attention of one query per sample over its own slots, `(batch, query_heads, 1, head_dim)` in, heads last out."""
    layer = key
    batch, query_heads, _, dim = query.shape
    kv_heads = layer.keys.shape[2]
    # The query heads of a group become rows of one query: every key is read once, not once per query head.
    rows = query.reshape(batch, kv_heads, query_heads // kv_heads, dim)
    attend = _exact if query.device.type == "cpu" else _masked
    out = attend(rows, layer, scaling)
    return out.reshape(batch, 1, query_heads, dim), None


def _exact(rows: Tensor, layer: SlotLayer, scaling: float) -> Tensor:
    """Exact slices: nothing but a sample's own slots is read. The slices' lengths are known to the host."""
    sdpa = torch.nn.functional.scaled_dot_product_attention
    keys, values = layer.keys.transpose(1, 2), layer.values.transpose(1, 2)
    if len(set(layer.lengths)) == 1:
        length = layer.lengths[0]
        return sdpa(rows, keys[:, :, :length], values[:, :, :length], scale=scaling)
    outs = [
        sdpa(rows[b : b + 1], keys[b : b + 1, :, :length], values[b : b + 1, :, :length], scale=scaling)
        for b, length in enumerate(layer.lengths)
    ]
    return torch.cat(outs)


def _masked(rows: Tensor, layer: SlotLayer, scaling: float) -> Tensor:
    """All slots, those behind a sample's length masked: for devices and graphs that cannot wait for lengths."""
    visible = torch.arange(layer.capacity, device=rows.device) < layer.used[:, None]
    keys, values = layer.keys.transpose(1, 2), layer.values.transpose(1, 2)
    sdpa = torch.nn.functional.scaled_dot_product_attention
    return sdpa(rows, keys, values, attn_mask=visible[:, None, None], scale=scaling)


# Without a mask function of the same name transformers builds no mask at all, which is what slots need.
AttentionInterface.register(ATTENTION, slot_attention)
