"""The one door to transformers: every name and behaviour of it that pruning and decoding rely on, and since when.

What a family's model is called with and holds beside that (pixels, grids, M-RoPE's deltas) is in its family's module.
Heavy parts of transformers are imported where they are used: `import plphp_core` should not take longer than it must.
`contract` compares a model with this page; `prune` does so at its door, `tests/pruning/test_hf.py` for every family.
"""

from __future__ import annotations

import functools
import inspect
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

__all__ = [
    "AttentionCall",
    "Cache",
    "CacheLayerMixin",
    "DynamicCache",
    "DynamicLayer",
    "DynamicSlidingWindowLayer",
    "LayerInputs",
    "ModelCall",
    "cache_among",
    "cache_argument",
    "contract",
]

# First release of each that the tests pass on, and the first that nobody has tried: as in pyproject.toml.
TESTED = {"transformers": ("5.19", "5.25"), "torch": ("2.11", "2.16")}


def warn_untested(versions: dict[str, str]) -> None:
    """One warning if a version lies outside of TESTED; `versions` by the names there."""
    outside = [
        f"{name} {version} (tested: {TESTED[name][0]} up to, not including, {TESTED[name][1]})"
        for name, version in versions.items()
        if not _number(TESTED[name][0]) <= _number(version) < _number(TESTED[name][1])
    ]
    if outside:
        warnings.warn(f"not tested with plphp: {', '.join(outside)}", stacklevel=2)


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2])


warn_untested({"transformers": transformers.__version__, "torch": torch.__version__})


# --- the cache --------------------------------------------------------------------------------------------------------

CACHE_NAMES = ("cache", "past_key_values")  # of the argument and the output; newest first: `cache` since 5.24


def cache_among(values: Iterable[Any]) -> Cache | None:
    """The KV cache among a call's arguments or a model's outputs, whatever it is called there."""
    for value in values:  # a plain loop: it is run by two hooks of every layer, at every token
        if isinstance(value, Cache):
            return value
    return None


def cache_argument(model: nn.Module, cache: Cache) -> dict[str, Cache]:
    """`cache` as a keyword argument under the name that the model's forward knows. 0.1 ms: ask once, not per step."""
    return {_cache_name(model.forward): cache}


def _cache_name(function: Callable[..., Any]) -> str:
    known = inspect.signature(function).parameters  # of the decorated function, through __wrapped__
    return next((name for name in CACHE_NAMES if name in known), CACHE_NAMES[0])


def first_output(logits: Tensor, cache: Cache) -> Any:
    """What `generate()` reads of a forward's output: `(batch, positions, vocabulary)` logits and the cache."""
    from transformers.modeling_outputs import CausalLMOutputWithPast

    return CausalLMOutputWithPast(logits=logits, **{_cache_name(CausalLMOutputWithPast): cache})


def window_of(cache: Cache) -> int | None:
    """The shortest sliding window of a cache's layers, pruned ones too; None without one."""
    found = (getattr(layer, "sliding_window", None) or getattr(layer, "window", None) for layer in cache.layers)
    return min(filter(None, found), default=None)


def refuse_layer(stored: CacheLayerMixin, layer: int, length: int) -> None:
    """Raise ValueError unless a cache layer can be pruned after a prefill of `length` tokens.

    By exact class, since a subclass may hold its tensors in another way (quantised, offloaded).
    """
    if type(stored) is DynamicSlidingWindowLayer:
        if length >= stored.sliding_window:
            raise ValueError(
                f"sliding_window={stored.sliding_window}: too short for the prompt of {length} tokens, so that layer "
                f"{layer} has already dropped some of it; shorten the prompt, with fewer or smaller images, or, for a "
                "model that was not trained with a window, set config.sliding_window=None"
            )
    elif type(stored) is not DynamicLayer:
        found = type(stored).__name__
        raise ValueError(f"cache_implementation: a {found} cannot shrink; use the default dynamic cache")


def refuse_cache(cache: Cache | None, layer: int, length: int) -> None:
    """`refuse_layer` for layer `layer` of the cache that an attention module was given; None: it was given none."""
    if cache is None:
        raise ValueError(
            "nothing can be pruned without a KV cache, and this forward has none: it was called with use_cache=False, "
            "config.use_cache is False, or gradient checkpointing has switched it off (model.eval() switches it on)"
        )
    refuse_layer(cache.layers[layer], layer, length)
    if getattr(cache, "offloading", False):
        raise ValueError("cache_implementation: an offloaded cache cannot shrink; use the default dynamic cache")


# --- calls, as hooks see them -----------------------------------------------------------------------------------------
# Hooks run before a forward's decorators, and see the names that the caller wrote.


@dataclass(frozen=True)
class ModelCall:
    """A call of the whole model: its arguments by name, positional ones too, and the cache among them."""

    inputs: dict[str, Any]
    cache: Cache | None

    @classmethod
    def of(cls, signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ModelCall:
        inputs = signature.bind_partial(*args, **kwargs).arguments
        inputs |= inputs.pop("kwargs", {})
        return cls(inputs, cache_among(inputs.values()))

    @property
    def seen(self) -> int:
        """Tokens that were read before."""
        return 0 if self.cache is None else self.cache.get_seq_length()

    def prompt_mask(self) -> Tensor | None:
        """The attention mask over the prompt, `(batch, length)` or `(batch, 1, length, length or more)`, or None.

        `generate()` may hand over masks that are made already, by type of layer, for compiled static caches.
        """
        mask = self.inputs.get("attention_mask")
        return mask.get("full_attention") if isinstance(mask, dict) else mask


@dataclass(frozen=True)
class LayerInputs:
    """What a decoder layer is given beside hidden states, as far as tokens have a share in it; unchanged 5.17 … 5.24.

    Attributes:
        position_embeddings: cos and sin, `(…, batch, tokens, head_dim)`.
        attention_mask: as the attention implementation takes it, or None.
        position_ids: `(…, batch, tokens)`, or None.
    """

    position_embeddings: tuple[Tensor, Tensor]
    attention_mask: Tensor | None
    position_ids: Tensor | None

    @classmethod
    def of(cls, kwargs: dict[str, Any]) -> LayerInputs:
        return cls(kwargs["position_embeddings"], kwargs.get("attention_mask"), kwargs.get("position_ids"))

    def over(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        """The keyword arguments with these in place of the layer's own."""
        ids = {"position_ids": self.position_ids} if "position_ids" in kwargs else {}
        tables, mask = self.position_embeddings, self.attention_mask
        return {**kwargs, "position_embeddings": tables, "attention_mask": mask, **ids}


@dataclass(frozen=True)
class AttentionCall:
    """A call of an attention module: `(batch, tokens, hidden)` states, mask, rotary tables and cache."""

    hidden: Tensor
    mask: Tensor | None
    position_embeddings: tuple[Tensor, Tensor] | None
    cache: Cache | None

    @classmethod
    def of(cls, args: tuple[Any, ...], kwargs: dict[str, Any]) -> AttentionCall:
        hidden = args[0] if args else kwargs["hidden_states"]
        tables = kwargs.get("position_embeddings")
        return cls(hidden, kwargs.get("attention_mask"), tables, cache_among((*args, *kwargs.values())))

    @staticmethod
    def masked(kwargs: dict[str, Any], mask: Tensor | None) -> dict[str, Any]:
        """The keyword arguments with another mask."""
        return {**kwargs, "attention_mask": mask}


def take_hidden(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Tensor, tuple[Any, ...], dict[str, Any]]:
    """A decoder layer's hidden states, which come first, and the arguments without them."""
    if args:
        return args[0], args[1:], kwargs
    kwargs = dict(kwargs)
    return kwargs.pop("hidden_states"), (), kwargs


def encoded_images(inputs: dict[str, Any], kind: str = "image") -> list[Tensor] | None:
    """Features of the images (or of another `kind`) that `generate()` has encoded before it calls the forward.

    From 5.18 it passes the encoders' outputs on, and no pixels. One tensor per image (per sample in Idefics2 from 5.21;
    before, one tensor for all), a row per vision token; None where the forward encodes by itself.
    """
    encoded = (inputs.get("mm_encoder_outputs") or {}).get(kind)
    return None if encoded is None else list(encoded.pooler_output)


# --- modules ----------------------------------------------------------------------------------------------------------


def query_heads(attention: nn.Module) -> int:
    return attention.q_proj.out_features // attention.head_dim


def rotary_function(attention: nn.Module) -> Callable[..., Any]:
    """The `apply_rotary_pos_emb(q, k, cos, sin)` of the modelling file that defines this attention module."""
    return _file(type(_unwrapped(attention))).apply_rotary_pos_emb


def rotary_tables(
    decoder: nn.Module, attention: nn.Module, hidden: Tensor, position_ids: Tensor
) -> tuple[Tensor, Tensor]:
    """cos and sin as the decoder makes them at `position_ids` for a layer with this attention module."""
    kind = (attention.layer_type,) if _rotary_by_type(type(decoder.rotary_emb)) else ()  # type: ignore[arg-type]
    return decoder.rotary_emb(hidden, position_ids, *kind)


@functools.cache
def _rotary_by_type(rotary: type[nn.Module]) -> bool:
    """Whether layers of different types have different tables (Gemma 3)."""
    return "layer_type" in inspect.signature(rotary.forward).parameters


def multimodal_rotary(config: Any) -> bool:
    """Whether a decoder's positions are times, rows and columns (M-RoPE)."""
    return "mrope_section" in (getattr(config, "rope_parameters", None) or {})


def tower_layers(tower: nn.Module, depth: int) -> nn.ModuleList:
    """The blocks of a vision tower of `depth` layers."""
    return next(one for one in tower.modules() if isinstance(one, nn.ModuleList) and len(one) == depth)


def tower_attention(block: nn.Module) -> nn.Module:
    """The attention module of a vision tower's block."""
    return next(one for one in block.modules() if hasattr(one, "q_proj") or hasattr(one, "qkv"))


def tower_projection(
    attention: nn.Module, hidden: Tensor, which: str, rotary: tuple[Tensor, ...] | None = None
) -> Tensor:
    """Queries (`which` = "q") or keys ("k") of a tower's attention, `(tokens, heads, head_dim)`.

    Args:
        hidden: its input, `(tokens, width)`.
        rotary: cos and sin, `(tokens, head_dim)`, in towers that rotate.
    """
    heads = attention.num_heads
    if hasattr(attention, "qkv"):
        found = attention.qkv(hidden).unflatten(-1, (3, heads, -1))[:, "qk".index(which)]
    else:
        norm = getattr(attention, f"{which}_norm", None)
        found = getattr(attention, f"{which}_proj")(hidden)
        found = (found if norm is None else norm(found)).unflatten(-1, (heads, -1))
    if rotary is None:
        return found
    return _file(type(_unwrapped(attention))).apply_rotary_pos_emb_vision(found, found, *rotary)[0]


def tower_padding(mask: Tensor | None) -> Tensor | None:
    """`(tower tokens,)` bool of the mask that a tower's attention is given, which is the same for all rows of a crop.

    Args:
        mask: `(crops, 1, rows, tokens)`, True or 0 for what is seen, `(crops, tokens)` in FlashAttention, or None.
    """
    if mask is None:
        return None
    seen = mask if mask.ndim == 2 else mask[:, 0, 0]
    return (seen < 0 if seen.is_floating_point() else seen == 0).flatten()


def _file(kind: type) -> ModuleType:
    return sys.modules[kind.__module__]


def implementation(config: Any) -> str:
    """The name of the attention implementation in use, also where `set_attn_implementation` never was called."""
    return getattr(config, "_attn_implementation", None) or ""


def takes_padding_masks(config: Any) -> bool:
    """Whether attention masks are `(batch, tokens)`, as FlashAttention takes them, and not four-dimensional."""
    return "flash" in implementation(config)


@contextmanager
def attending_by(config: Any, name: str) -> Iterator[None]:
    """Within the block, the decoder of this configuration attends by the registered implementation `name`.

    The attribute itself: `set_attn_implementation` walks all submodules and checks for packages, too slow per call.
    """
    before, config._attn_implementation = config._attn_implementation, name
    try:
        yield
    finally:
        config._attn_implementation = before


def register_attention(name: str, function: Callable[..., Any]) -> None:
    """Without a mask function of the same name, which is not registered here, transformers builds no mask at all."""
    from transformers import AttentionInterface

    AttentionInterface.register(name, function)


def compiled(modules: Iterable[tuple[str, nn.Module]]) -> str | None:
    """The first of these named modules that was compiled by itself: hooks that come later do not run in it.

    In place, by `module.compile()`, or wrapped, by `torch.compile(module)`.
    """
    found = (name for name, one in modules if one._compiled_call_impl is not None or hasattr(one, "_orig_mod"))
    return next(found, None)


def _unwrapped(module: nn.Module) -> nn.Module:
    return getattr(module, "_orig_mod", module)


def contract(model: nn.Module, decoder: nn.Module) -> list[str]:
    """What this page says of a model and its decoder and does not hold, a line each; empty if all does."""
    needed = ("layers", "norm", "rotary_emb")
    problems = [f"{type(decoder).__name__} has no {name}" for name in needed if not hasattr(decoder, name)]
    problems += _unknown_cache(type(model))  # type: ignore[arg-type]
    layers = list(map(_unwrapped, getattr(decoder, "layers", ())))
    if without := [str(number) for number, block in enumerate(layers) if not hasattr(block, "self_attn")]:
        problems.append(
            f"layers {', '.join(without)} have no self_attn: in a hybrid decoder such layers hold a state, in which "
            "tokens cannot be told apart, and no keys and values that could be pruned"
        )
    for number, block in enumerate(layers):
        if not hasattr(block, "input_layernorm"):
            problems.append(f"layers.{number} has no input_layernorm")
        if hasattr(block, "self_attn"):
            attention = _unwrapped(block.self_attn)
            problems += _layer_contract(type(block), type(attention))  # type: ignore[arg-type]
            problems += [f"layers.{number}.self_attn {problem}" for problem in _attention_contract(attention)]
    return list(dict.fromkeys(problems))


def _attention_contract(attention: nn.Module) -> list[str]:
    """Of one module: what its scores and its share of the cache are made of."""
    needed = ("q_proj", "k_proj", "head_dim", "scaling")
    if missing := [f"has no {name}" for name in needed if not hasattr(attention, name)]:
        return missing
    problems, config = [], getattr(attention, "config", None)
    heads = getattr(config, "num_attention_heads", None)
    if heads is not None and query_heads(attention) != heads:  # Qwen3.5: a gate beside the query
        problems.append(f"has {heads} heads, but its q_proj makes {query_heads(attention)} of head_dim")
    if getattr(attention, "is_kv_shared_layer", False):  # Gemma 3n and 4
        problems.append("reads an earlier layer's keys and values: pruning those would prune it too")
    if getattr(config, "attn_logit_softcapping", None) is not None:
        problems.append("caps its scores (attn_logit_softcapping), which scores beside it would not follow")
    return problems


@functools.cache
def _layer_contract(block: type[nn.Module], attention: type[nn.Module]) -> list[str]:
    problems = _unknown_cache(block) + _unknown_cache(attention)  # type: ignore[arg-type]
    if not hasattr(_file(attention), "apply_rotary_pos_emb"):
        problems.append(f"{attention.__module__} has no apply_rotary_pos_emb")
    for kind, names in ((block, ("attention_mask", "position_embeddings")), (attention, ("attention_mask",))):
        known = inspect.signature(kind.forward).parameters
        problems += [f"{kind.__name__}.forward takes no {name}" for name in names if name not in known]
    return problems


@functools.cache
def _unknown_cache(kind: type[nn.Module]) -> list[str]:
    known = inspect.signature(kind.forward).parameters
    if any(name in known for name in CACHE_NAMES):
        return []
    return [f"{kind.__name__}.forward takes no KV cache under a known name ({', '.join(CACHE_NAMES)})"]


# --- generate() -------------------------------------------------------------------------------------------------------

GENERATING = ("generate", "generate_batch")  # methods of a model that prefill; the latter is continuous batching
_DRAFTS = "it feeds drafted tokens together with the prompt, so the last row is not the prompt's"
_UNPRUNABLE = {
    "assistant_model": _DRAFTS,
    "prompt_lookup_num_tokens": _DRAFTS,
    "assistant_early_exit": _DRAFTS,
    "use_mtp": _DRAFTS,
    "prefill_chunk_size": "a chunked prefill has no single last row that sees the whole prompt",
}


def unprunable(model: nn.Module, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    """What a call of the model's method `name` asks for and a pruned cache cannot do, as a sentence; None if nothing.

    An option is the call's, else the given configuration's, else the checkpoint's, as in `generate()`.
    """
    if name != "generate":
        return f"{name}: continuous batching keeps pages that cannot shrink; use generate()"
    positional = args[1] if len(args) > 1 else None  # generate(inputs, generation_config, …)
    configs = [kwargs.get("generation_config") or positional, model.generation_config]

    def option(name: str) -> Any:
        found = [kwargs.get(name), *(getattr(config, name, None) for config in configs)]
        return next((value for value in found if value is not None), None)

    for name, reason in _UNPRUNABLE.items():
        if option(name):
            return f"{name}: cannot be used while pruning: {reason}; leave {name} unset"
    if option("cache_implementation") not in (None, "dynamic", "dynamic_full"):
        value = option("cache_implementation")
        return f"cache_implementation={value!r}: only the dynamic cache can shrink; leave it unset"
    if option("use_cache") is False:
        return "use_cache=False: nothing can be pruned without a KV cache; leave use_cache unset"
    return None


def repetition_penalty(penalty: float, mask: Tensor | None) -> Callable[[Tensor, Tensor], Tensor]:
    """The processor as `generate()` of the installed release makes it.

    From 5.23 it passes over the tokens in front of the first True of `mask`, `(batch, prompt length)`; before, the
    processor takes no tensor, and padding is penalised like any other token.
    """
    from transformers import RepetitionPenaltyLogitsProcessor

    ignored = None if mask is None else (mask != 0).int().argmax(dim=1)
    try:
        return RepetitionPenaltyLogitsProcessor(float(penalty), prompt_ignore_length=ignored)
    except ValueError:
        return RepetitionPenaltyLogitsProcessor(float(penalty))
