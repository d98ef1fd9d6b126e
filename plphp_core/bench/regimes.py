"""Three ways to decode a token from the same prefilled cache.

legacy: transformers of early 2025: the cache grows by `torch.cat` at every step and every KV head is copied once per
query head of its group before the attention (transformers 4.48, `sdpa_attention_forward`). generate: what
`model.generate()` of the installed transformers does for a token. fast: `plphp_core.decode`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

from plphp_core import slots
from plphp_core.bench.shapes import Shape
from plphp_core.cache import PrunedLayer
from plphp_core.decode import decode_steps
from plphp_core.families import family_of
from plphp_core.method import Method
from plphp_core.prune import prune

LEGACY = "plphp_bench_legacy"
REGIMES = ("legacy", "generate", "fast")
ROOM = 1  # free slots of the fast path: the length is put back after every timed token
CHECK_EVERY = 8  # as in `fast_generate`


def random_cache(
    shape: Shape, lengths: Sequence[Sequence[int]], seen: int, dtype: torch.dtype, device: str, seed: int = 0
) -> DynamicCache:
    """A cache as a prefill of `seen` tokens would leave it, with random keys and values.

    Args:
        lengths: tokens kept, `[layer][sample]`. Shorter samples are filled up in front, as after a real prefill.
    """
    generator = torch.Generator(device).manual_seed(seed)
    cache = DynamicCache()
    for of_layer in lengths:
        slots_ = max(of_layer)
        size = (len(of_layer), shape.kv_heads, slots_, shape.head_dim)
        keys, values = (torch.randn(size, generator=generator, dtype=dtype, device=device) for _ in range(2))
        if slots_ == seen and min(of_layer) == seen:
            layer = DynamicLayer()
            layer.lazy_initialization(keys, values)
            layer.keys, layer.values = keys, values
        else:
            position = torch.arange(slots_, device=device)
            missing = slots_ - torch.tensor(of_layer, device=device)[:, None]
            kept = torch.where(position < missing, -1, position).int()[:, None].expand(-1, shape.kv_heads, -1)
            layer = PrunedLayer(keys, values, kept, seen, filled=min(of_layer) < slots_)
        cache.layers.append(layer)
    return cache


class Decoding:
    """One token after the other from a prefilled cache, greedily and without end.

    `step()` decodes one token per sample and returns them, `(batch,)`; `rewind()` forgets it again, so that every timed
    token sees the same lengths.
    """

    kernel: str

    def __init__(self, cache: Cache, tokens: Tensor):
        self.cache, self.tokens = cache, tokens

    def step(self) -> Tensor:
        raise NotImplementedError

    def rewind(self) -> None:
        raise NotImplementedError

    @property
    def held(self) -> int:
        """Bytes of storage behind all keys and values."""
        tensors = [tensor for layer in self.cache.layers for tensor in (layer.keys, layer.values)]
        return sum(tensor.untyped_storage().nbytes() for tensor in tensors)


class _Growing(Decoding):
    """The loop of `generate()`: see `GenerationMixin._sample` for the work beside the forward."""

    def __init__(self, model: nn.Module, cache: Cache, tokens: Tensor, seen: int, position: Tensor, kernel: str):
        super().__init__(cache, tokens)
        self.model, self.seen, self.kernel = model, seen, kernel
        self.position, self.first = position, position
        batch, device = len(tokens), tokens.device
        self.ids = torch.zeros(batch, seen, dtype=torch.long, device=device)
        self.mask = torch.ones(batch, seen, dtype=torch.long, device=device)
        self.never = torch.tensor([-1], device=device)
        self.unfinished = torch.ones(batch, dtype=torch.long, device=device)

    def step(self) -> Tensor:
        mask = torch.cat([self.mask, self.mask.new_ones(len(self.mask), 1)], dim=-1)
        out = self.model(
            input_ids=self.tokens[:, None],
            attention_mask=mask,
            position_ids=self.position,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        scores = out.logits[:, -1].to(copy=True, dtype=torch.float32)
        tokens = scores.argmax(-1) * self.unfinished
        ids = torch.cat([self.ids, tokens[:, None]], dim=-1)
        unfinished = self.unfinished & ~torch.isin(ids[:, -1], self.never)
        if unfinished.max() == 0:  # `generate()` waits for the device here, at every token
            raise AssertionError("the benchmark never ends a sample")
        self.tokens, self.ids, self.mask, self.position = tokens, ids, mask, self.position + 1
        return tokens

    def rewind(self) -> None:
        for layer in self.cache.layers:
            more = layer.get_seq_length() - self.seen
            if more <= 0:
                continue
            # Copied, not viewed: the next step must concatenate to a whole tensor, as it does in a real loop.
            layer.keys = layer.keys[:, :, :-more].clone(memory_format=torch.contiguous_format)
            layer.values = layer.values[:, :, :-more].clone(memory_format=torch.contiguous_format)
            if isinstance(layer, PrunedLayer):
                layer.seen -= more
        self.ids, self.mask = self.ids[:, : self.seen].clone(), self.mask[:, : self.seen].clone()
        self.position = self.first


class _Fast(Decoding):
    """The loop of `fast_generate`."""

    def __init__(self, step, cache: Cache, tokens: Tensor, position: Tensor, kernel: str):
        super().__init__(cache, tokens)
        self.forward, self.first, self.kernel = step, position, kernel
        self.never = torch.tensor([-1], device=tokens.device)
        self.ended = torch.zeros_like(tokens, dtype=torch.bool)
        self.steps = 0

    def step(self) -> Tensor:
        scores = self.forward(self.tokens).float()
        self.tokens = torch.where(self.ended, 0, scores.argmax(-1))
        self.ended = self.ended | torch.isin(self.tokens, self.never)
        self.steps += 1
        if self.steps % CHECK_EVERY == 0 and bool(self.ended.all()):
            raise AssertionError("the benchmark never ends a sample")
        return self.tokens

    def rewind(self) -> None:
        for layer in self.cache.layers:
            layer.rewind()
        self.forward.position.copy_(self.first)


@contextmanager
def decoding(
    regime: str,
    model: nn.Module,
    cache: DynamicCache,
    lengths: Sequence[Sequence[int]],
    seen: int,
    method: Method | None,
    tokens: Tensor,
    position: Tensor | None = None,
    room: int = ROOM,
) -> Iterator[Decoding]:
    """Decode in one of the REGIMES within the block; the cache is used up.

    Args:
        cache: as a prefill leaves it, see `random_cache`.
        lengths: tokens that count, `[layer][sample]`.
        seen: prompt tokens.
        method: what pruned the cache; `generate` and `legacy` need its hooks where slots are missing.
        tokens: `(batch,)`, decoded next.
        position: its `position_ids`, `(batch, 1)` or `(3, batch, 1)`; by default, `seen`.
        room: tokens that `fast` has slots for before a rewind.
    """
    if position is None:
        position = torch.full((len(tokens), 1), seen, device=tokens.device)
    with torch.inference_mode():
        if regime == "fast":
            cache = slots.slot_cache(cache, lengths, room, seen)
            with decode_steps(model, cache, position) as step:
                yield _Fast(step, cache, tokens, position, fast_kernel(tokens.device.type))
            return
        config = family_of(model).decoder(model).config
        before = config._attn_implementation
        if regime == "legacy":
            config._attn_implementation = LEGACY
        kernel = "cat, repeat_kv, sdpa" if regime == "legacy" else f"cat, {before}"
        try:
            with prune(model, method) if method is not None else nullcontext():
                yield _Growing(model, cache, tokens, seen, position, kernel)
        finally:
            config._attn_implementation = before


def fast_kernel(device_type: str) -> str:
    """What the fast path's attention runs on this kind of device."""
    chosen = getattr(slots, "kernel_name", None)
    if chosen is not None:
        return chosen(device_type)
    return "sdpa, exact slices" if device_type == "cpu" else "sdpa, masked slots"


def legacy_attention(module, query: Tensor, key: Tensor, value: Tensor, attention_mask, scaling=None, dropout=0.0, **_):
    """SDPA as transformers 4.48 called it: `(batch, query_heads, queries, head_dim)` in, heads last out."""
    key, value = _repeat(key, module.num_key_value_groups), _repeat(value, module.num_key_value_groups)
    query, key, value = query.contiguous(), key.contiguous(), value.contiguous()
    causal = attention_mask is None and query.shape[2] > 1
    out = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=attention_mask, dropout_p=dropout, scale=scaling, is_causal=causal
    )
    return out.transpose(1, 2).contiguous(), None


def _repeat(states: Tensor, groups: int) -> Tensor:
    """`repeat_kv` of every modelling file."""
    batch, heads, tokens, dim = states.shape
    return states[:, :, None].expand(batch, heads, groups, tokens, dim).reshape(batch, heads * groups, tokens, dim)


# Without a mask function of this name transformers builds no mask; only filler needs one, and PrunedLayer makes it.
AttentionInterface.register(LEGACY, legacy_attention)
