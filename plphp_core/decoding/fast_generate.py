"""The fast decode path: the usual prefill, then slots written in place and the model's own forward per token."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from plphp_core.decoding.device import synchronise
from plphp_core.decoding.slots import slot_cache
from plphp_core.decoding.stepping import stepper
from plphp_core.decoding.token_choice import ALL_OPTIONS, TokenChoice, ends_and_pad
from plphp_core.families import family_of
from plphp_core.pruning.hf import CACHE_NAMES, Cache, cache_among, multimodal_rotary, window_of
from plphp_core.pruning.hooks import prune, refuse_inside
from plphp_core.pruning.method import Method
from plphp_core.pruning.trace import Trace
from plphp_core.pruning.validation import require

# Of the model's forward, and not of a processor: what the fast path decides.
SET_HERE = {"position_ids", "inputs_embeds", "labels", "logits_to_keep", "return_dict", *CACHE_NAMES}
CHECK_EVERY = 8  # steps between two looks at which samples have ended: each look waits for the device


@dataclass(frozen=True, eq=False)
class Prefilled:
    """A prefill that has happened: what `prefill` returned, what was kept of it, and what it cost.

    Attributes:
        logits: `(batch, vocabulary)`, after the prompt.
        cache: keys and values. `fast_generate` takes its layers out one by one; their tensors it only reads.
        position: `position_ids` of the next token, `(batch, 1)`, or `(3, batch, 1)` for M-RoPE.
        trace: of the prefill; its layers tell how many slots of `cache` count.
        prefill_ms: wall time up to `logits`, scoring and gathering included.
    """

    logits: Tensor
    cache: Cache
    position: Tensor
    trace: Trace
    prefill_ms: float


@dataclass(frozen=True, eq=False)
class Generated:
    """A batch with its answers: what `fast_generate` returns, and what evaluations make of `generate()`.

    Attributes:
        sequences: `(batch, prompt_length + new tokens)`, as from `generate()`: padded behind each sample's end.
        trace: of the prefill.
        prefill_ms, decode_ms: wall time of the batch up to the first token, and from there to the last.
        decode_steps: forward passes after the prefill.
        kernel: what decoded: an attention kernel, or `generate()`'s implementation; None if one token was all.
    """

    sequences: Tensor
    trace: Trace
    prefill_ms: float
    decode_ms: float
    decode_steps: int
    kernel: str | None


@torch.inference_mode()
def fast_generate(
    model: nn.Module,
    inputs: dict[str, Any],
    method: Method | None = None,
    *,
    max_new_tokens: int = 64,
    do_sample: bool | None = None,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    repetition_penalty: float | None = None,
    eos_token_id: int | list[int] | None = None,
    pad_token_id: int | None = None,
    record_attention: bool = True,
    check_every: int = CHECK_EVERY,
    prefilled: Prefilled | None = None,
) -> Generated:
    """`model.generate(**inputs, …)` under `prune(model, method)`, with the same tokens, faster.

    `do_sample`, `temperature`, `top_k`, `top_p`, `repetition_penalty`, `eos_token_id` and `pad_token_id` mean what they
    mean in `generate()`: where they are None, the model's generation configuration decides. What else it asks for
    (`token_choice.unsupported_options`) is refused.

    Args:
        model: a Hugging Face model of a known family.
        inputs: what the processor returns, on the model's device; prompts padded on the left.
        method: None prunes nothing.
        max_new_tokens: of each answer, at most.
        eos_token_id: `[]` never ends.
        record_attention: as in `prune`.
        check_every: steps between two looks at which samples have ended; each look waits for the device.
        prefilled: of these `inputs`; then there is no other prefill, `method` and `record_attention` are not looked at,
            and `Generated.prefill_ms` is its time and that of choosing the first token.

    Raises:
        TypeError, ValueError: as `prune`; or options that cannot be.
        RuntimeError: no attention kernel works on the device.
    """
    whole = isinstance(max_new_tokens, int) or (isinstance(max_new_tokens, float) and max_new_tokens.is_integer())
    require(whole and max_new_tokens >= 1, f"max_new_tokens = {max_new_tokens!r}, but must be a whole number from 1 on")
    max_new_tokens = int(max_new_tokens)
    family_of(model)  # names the model inside a wrapper
    require(
        not torch.is_autocast_enabled(model.device.type),
        "fast_generate under torch.autocast: a slot keeps one dtype, which autocast changes on the way; load the model "
        "in the dtype you want, as in family.load(dtype='bfloat16'), or use model.generate()",
    )
    _refuse_inputs(inputs)
    if prefilled is None and method is None:
        refuse_inside(model, "fast_generate without a method")
    asked = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "repetition_penalty": repetition_penalty}
    choose = TokenChoice(model, _padding(inputs), do_sample, **asked)
    ends, pad = ends_and_pad(model, eos_token_id, pad_token_id)
    if prefilled is None:
        prefilled = _prefilled(model, inputs, method, record_attention)
    trace, cache, position = prefilled.trace, prefilled.cache, prefilled.position
    require(bool(trace.layers), f"this prompt cannot be followed ({trace.missing}): use model.generate()")
    ids = inputs["input_ids"]
    synchronise(model.device)
    began = time.perf_counter()
    tokens = choose(prefilled.logits, ids)
    ended = torch.isin(tokens, ends)
    synchronise(model.device)
    first = time.perf_counter()
    new = tokens.new_full((len(tokens), max_new_tokens), pad)
    new[:, 0] = tokens
    steps, kernel = 0, None
    if max_new_tokens > 1 and not bool(ended.all()):
        window = window_of(cache)
        slots = slot_cache(cache, [layer.counts for layer in trace.layers], max_new_tokens - 1, ids.shape[1])
        step = stepper(model, slots, position)
        kernel = step.kernel
        room = None if window is None else window - ids.shape[1]  # steps until it is full
        with step.on():
            for steps in range(1, max_new_tokens):
                logits = step(tokens)
                tokens = torch.where(ended, pad, choose(logits, ids, new[:, :steps]))
                ended = ended | torch.isin(tokens, ends)
                new[:, steps] = tokens
                full = steps == room and steps + 1 < max_new_tokens
                if (steps % check_every == 0 or full) and bool(ended.all()):
                    break
                require(
                    not full,
                    f"sliding_window={window}: generation has reached it, where the model would forget and the fast "
                    "path does not; generate fewer tokens or use model.generate() without a method",
                )
    synchronise(model.device)
    done = time.perf_counter()
    new = new[:, : _longest(new[:, : steps + 1], ends)]
    prefill_ms = prefilled.prefill_ms + (first - began) * 1e3
    return Generated(torch.cat([ids, new], dim=1), trace, prefill_ms, (done - first) * 1e3, steps, kernel)


def _prefilled(model: nn.Module, inputs: dict[str, Any], method: Method | None, record_attention: bool) -> Prefilled:
    synchronise(model.device)
    began = time.perf_counter()
    with prune(model, method, record_attention=record_attention) as trace:
        logits, cache, position = prefill(model, inputs)
    synchronise(model.device)
    return Prefilled(logits, cache, position, trace, (time.perf_counter() - began) * 1e3)


def prefill(model: nn.Module, inputs: dict[str, Any]) -> tuple[Tensor, Cache, Tensor]:
    """The model's own forward over a prompt, under `prune` if there is one.

    Args:
        inputs: what the processor returns, on the model's device.

    Raises:
        ValueError: the attention mask does more than hide padding on the left.

    Returns:
        Logits `(batch, vocabulary)` after the prompt, the cache, and the next token's `position_ids`, `(batch, 1)`, or
        `(3, batch, 1)` for M-RoPE.
    """
    decoder = family_of(model).decoder(model)
    arguments = dict(inputs)
    mask = _padding(inputs)
    if mask is not None and not multimodal_rotary(decoder.config):  # M-RoPE models count positions themselves
        arguments["position_ids"] = (mask.long().cumsum(-1) - 1).clamp(min=0)
    seen = {}
    handle = decoder.register_forward_pre_hook(lambda _, args, kwargs: seen.update(kwargs), with_kwargs=True)
    try:
        out = model(**arguments, use_cache=True, logits_to_keep=1)
    finally:
        handle.remove()
    positions = seen.get("position_ids")
    if positions is None:
        positions = torch.arange(inputs["input_ids"].shape[1], device=out.logits.device).expand(len(out.logits), -1)
    # After text, the last position is the largest; after an image M-RoPE goes on behind its longest side.
    last = positions.amax(-1, keepdim=True) + 1
    if last.ndim == 3:
        last = last[-3:].amax(0, keepdim=True).expand(3, -1, -1)
    return out.logits[:, -1], cache_among(out.values()), last


def _longest(new: Tensor, ends: Tensor) -> int:
    """New tokens of the sample that ends last, its end token included."""
    is_end = torch.isin(new, ends)
    first_end = torch.where(is_end.any(1), is_end.int().argmax(1) + 1, new.shape[1])
    return int(first_end.max())


def _refuse_inputs(inputs: dict[str, Any]) -> None:
    """Raise ValueError for what is no processor's output: the model's forward would pass over it."""
    require(inputs.get("input_ids") is not None, "inputs have no input_ids, which tell where the images are")
    options = sorted(set(inputs) & (ALL_OPTIONS | SET_HERE))
    require(
        not options,
        f"inputs hold {', '.join(options)}: the fast path takes options as its own arguments and makes positions "
        "itself; take them out, or use model.generate()",
    )


def _padding(inputs: dict[str, Any]) -> Tensor | None:
    """The attention mask, `(batch, prompt length)`, if it hides nothing but padding on the left; None without one."""
    mask = inputs.get("attention_mask")
    if mask is None:
        return None
    shape = tuple(inputs["input_ids"].shape)
    require(tuple(mask.shape) == shape, f"attention_mask is {tuple(mask.shape)}, but must be {shape}, as input_ids")
    shown = mask != 0
    require(
        bool((shown[:, 1:] >= shown[:, :-1]).all()),
        "attention_mask hides tokens behind others that it shows: the fast path takes padding on the left only; use "
        "model.generate()",
    )
    return mask
