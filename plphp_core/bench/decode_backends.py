"""Three ways to decode a token from the same prefilled cache.

legacy: transformers of early 2025: the cache grows by `torch.cat` at every step and every KV head is copied once per
query head of its group before the attention (transformers 4.48, `sdpa_attention_forward`). generate: what
`model.generate()` of the installed transformers does for a token. fast: `plphp_core.decoding.fast_generate`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from plphp_core.bench.decoder_shapes import DecoderShape
from plphp_core.bench.interleaved_rounds import Timed
from plphp_core.decoding.fast_generate import CHECK_EVERY
from plphp_core.decoding.slots import SlotCache, slot_cache
from plphp_core.decoding.stepping import stepper
from plphp_core.families import family_of
from plphp_core.pruning.cache import PrunedLayer
from plphp_core.pruning.hf import (
    Cache,
    DynamicCache,
    DynamicLayer,
    attending_by,
    cache_argument,
    implementation,
    register_attention,
)
from plphp_core.pruning.hooks import prune
from plphp_core.pruning.method import Method

LEGACY = "plphp_bench_legacy"
BACKENDS = ("legacy", "generate", "fast")
ROOM = 1  # free slots of the fast path: the length is put back after every timed token


@dataclass(eq=False)
class PrefilledState:
    """Everything as it is after a prefill.

    Attributes:
        lengths: tokens kept, `[layer][sample]`.
        seen: prompt tokens.
        tokens: `(batch,)`, decoded next.
        kv_bytes: of the tokens kept.
        retention: kept share of vision tokens, mean over layers.
    """

    cache: Cache | None
    lengths: list[list[int]]
    seen: int
    tokens: Tensor
    kv_bytes: int = 0
    retention: float = 1.0


def random_cache(
    shape: DecoderShape, lengths: Sequence[int], batch: int, seen: int, dtype: torch.dtype, device: str
) -> DynamicCache:
    """A cache as a prefill of `batch` prompts of `seen` tokens would leave it, with random keys and values.

    Args:
        lengths: tokens kept, per layer, of every sample.
    """
    generator = torch.Generator(device).manual_seed(0)
    cache = DynamicCache()
    for slots in lengths:
        size = (batch, shape.kv_heads, slots, shape.head_dim)
        keys, values = (torch.randn(size, generator=generator, dtype=dtype, device=device) for _ in range(2))
        if slots == seen:
            layer = DynamicLayer()
            layer.lazy_initialization(keys, values)
            layer.keys, layer.values = keys, values
        else:
            kept = torch.arange(slots, device=device).int().expand(batch, shape.kv_heads, -1)
            layer = PrunedLayer(keys, values, kept, seen, filled=False)
        cache.layers.append(layer)
    return cache


class DecodeBackend(Timed):
    """One token after the other from a prefilled cache, greedily and without end, as `interleaved_rounds.Timed`.

    Within `on()`, `step()` decodes one token per sample and returns them, `(batch,)`; `rewind()` forgets it again, so
    that every timed token sees the same lengths. Several can exist for one model; only one is on at a time.

    Attributes:
        kernel: what attends.
    """

    kernel: str

    def __init__(self, cache: Cache, tokens: Tensor):
        self.cache, self.tokens = cache, tokens

    @property
    def held(self) -> int:
        """Bytes of storage behind all keys and values."""
        tensors = [tensor for layer in self.cache.layers for tensor in (layer.keys, layer.values)]
        return sum(tensor.untyped_storage().nbytes() for tensor in tensors)


class _Growing(DecodeBackend):
    """The loop of `generate()`: see `GenerationMixin._sample` for the work beside the forward.

    Args:
        legacy: attend as transformers 4.48 did.
    """

    def __init__(
        self, model: nn.Module, cache: Cache, tokens: Tensor, seen: int, position: Tensor, method: Method | None,
        legacy: bool,
    ):  # fmt: skip
        super().__init__(cache, tokens)
        self.model, self.seen, self.method, self.legacy = model, seen, method, legacy
        self.position, self.first = position, position
        self.config = family_of(model).decoder(model).config
        self.arguments = {**cache_argument(model, cache), "use_cache": True}
        self.kernel = "cat, repeat_kv, sdpa" if legacy else f"cat, {implementation(self.config)}"
        batch, device = len(tokens), tokens.device
        self.ids = torch.zeros(batch, seen, dtype=torch.long, device=device)
        self.mask = torch.ones(batch, seen, dtype=torch.long, device=device)
        self.never = torch.tensor([-1], device=device)
        self.unfinished = torch.ones(batch, dtype=torch.long, device=device)

    @contextmanager
    def on(self) -> Iterator[None]:
        # Hooks are needed where slots are missing; without a method nothing is.
        hooks = prune(self.model, self.method) if self.method is not None else nullcontext()
        attention = LEGACY if self.legacy else implementation(self.config)
        with attending_by(self.config, attention), torch.inference_mode(), hooks:
            yield

    def step(self) -> Tensor:
        mask = torch.cat([self.mask, self.mask.new_ones(len(self.mask), 1)], dim=-1)
        out = self.model(
            input_ids=self.tokens[:, None],
            attention_mask=mask,
            position_ids=self.position,
            **self.arguments,
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


class _Fast(DecodeBackend):
    """The loop of `fast_generate`."""

    def __init__(self, model: nn.Module, cache: SlotCache, tokens: Tensor, position: Tensor):
        super().__init__(cache, tokens)
        self.forward = stepper(model, cache, position)
        self.kernel = self.forward.kernel
        self.never = torch.tensor([-1], device=tokens.device)
        self.ended = torch.zeros_like(tokens, dtype=torch.bool)
        self.steps = 0

    @contextmanager
    def on(self) -> Iterator[None]:
        with torch.inference_mode(), self.forward.on():
            yield

    def step(self) -> Tensor:
        scores = self.forward(self.tokens).float()
        self.tokens = torch.where(self.ended, 0, scores.argmax(-1))
        self.ended = self.ended | torch.isin(self.tokens, self.never)
        self.steps += 1
        if self.steps % CHECK_EVERY == 0 and bool(self.ended.all()):
            raise AssertionError("the benchmark never ends a sample")
        return self.tokens

    def rewind(self) -> None:
        self.forward.rewind()


@torch.inference_mode()
def decoding(
    backend: str, model: nn.Module, state: PrefilledState, method: Method | None, room: int = ROOM
) -> DecodeBackend:
    """A way to decode in one of the BACKENDS from `state`, whose cache is used up.

    Args:
        method: what pruned the cache; `generate` and `legacy` need its hooks where slots are missing.
        room: tokens that `fast` has slots for before a rewind.

    Raises:
        RuntimeError: `fast`, and no attention kernel works on the device.
    """
    cache, state.cache = state.cache, None  # the backend owns it now, so that nothing is held twice
    position = torch.full((len(state.tokens), 1), state.seen, device=state.tokens.device)
    if backend == "fast":
        return _Fast(model, slot_cache(cache, state.lengths, room, state.seen), state.tokens, position)
    return _Growing(model, cache, state.tokens, state.seen, position, method, legacy=backend == "legacy")


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
register_attention(LEGACY, legacy_attention)
