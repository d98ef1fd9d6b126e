"""The fast decode path: the usual prefill, then slots written in place and the model's own forward per token."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import (
    Cache,
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from plphp_core.families import family_of
from plphp_core.method import Method, require
from plphp_core.prune import prune
from plphp_core.slots import ATTENTION, slot_cache
from plphp_core.trace import Trace

# What generation configurations can ask for beside greedy choice and sampling; `generate()` does these.
REFUSED = {
    "num_beams": 1,
    "num_return_sequences": 1,
    "no_repeat_ngram_size": 0,
    "min_length": 0,
    "min_new_tokens": 0,
    "guidance_scale": 1,
    "suppress_tokens": [],
    "bad_words_ids": [],
    "forced_eos_token_id": None,
    "typical_p": 1,
    "min_p": 0,
}
# Of `generate()`, where neither the call nor the checkpoint says otherwise; used for sampling, but for the penalty.
DEFAULTS = {"temperature": 1.0, "top_k": 50, "top_p": 1.0, "repetition_penalty": 1.0}
CHECK_EVERY = 8  # steps between two looks at which samples have ended: each look waits for the device


@dataclass(frozen=True, eq=False)
class Generated:
    """What `fast_generate` returns.

    Attributes:
        sequences: `(batch, prompt_length + new tokens)`, as from `generate()`: padded behind each sample's end.
        trace: of the prefill.
        prefill_ms, decode_ms: wall time up to the first token, and from there to the last.
        decode_steps: forward passes after the prefill.
    """

    sequences: Tensor
    trace: Trace
    prefill_ms: float
    decode_ms: float
    decode_steps: int


@torch.inference_mode()
def fast_generate(
    model: nn.Module,
    inputs: dict,
    method: Method | None = None,
    *,
    max_new_tokens: int = 64,
    do_sample: bool = False,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    repetition_penalty: float | None = None,
    eos_token_id: int | list[int] | None = None,
    pad_token_id: int | None = None,
    record_attention: bool = True,
    check_every: int = CHECK_EVERY,
) -> Generated:
    """`model.generate(**inputs, …)` under `prune(model, method)`, with the same tokens, faster.

    Args:
        inputs: what the processor returns, on the model's device; prompts padded on the left.
        temperature, top_k, top_p, repetition_penalty, eos_token_id, pad_token_id: by default, as in `generate()`, the
            model's generation configuration decides; `eos_token_id=[]` never ends.
        record_attention: as in `prune`.

    Raises:
        TypeError, ValueError: as `prune`; or options that cannot be.
    """
    require(max_new_tokens >= 1, f"max_new_tokens = {max_new_tokens}, but must be at least 1")
    _refuse(model.generation_config)
    asked = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "repetition_penalty": repetition_penalty}
    choose = _Choice(do_sample, **{name: _default(model, name, value) for name, value in asked.items()})
    ends, pad = _ends(model, eos_token_id, pad_token_id)
    _synchronise(model)
    began = time.perf_counter()
    with prune(model, method, record_attention=record_attention) as trace:
        logits, cache, position = _prefill(model, inputs)
    require(bool(trace.layers), "this prompt cannot be followed (see prune): use model.generate()")
    ids = inputs["input_ids"]
    tokens = choose(logits, ids)
    ended = torch.isin(tokens, ends)
    _synchronise(model)
    first = time.perf_counter()
    new = tokens.new_full((len(tokens), max_new_tokens), pad)
    new[:, 0] = tokens
    steps = 0
    if max_new_tokens > 1 and not bool(ended.all()):
        cache = slot_cache(cache, [layer.counts for layer in trace.layers], max_new_tokens - 1, ids.shape[1])
        with decode_steps(model, cache, position) as step:
            for steps in range(1, max_new_tokens):
                logits = step(tokens)
                tokens = torch.where(ended, pad, choose(logits, ids, new[:, :steps]))
                ended = ended | torch.isin(tokens, ends)
                new[:, steps] = tokens
                if steps % check_every == 0 and bool(ended.all()):
                    break
    _synchronise(model)
    done = time.perf_counter()
    new = new[:, : _longest(new[:, : steps + 1], ends)]
    return Generated(torch.cat([ids, new], dim=1), trace, (first - began) * 1e3, (done - first) * 1e3, steps)


@contextmanager
def decode_steps(model: nn.Module, cache: Cache, position: Tensor) -> Iterator[Callable[[Tensor], Tensor]]:
    """Within the block, a function from tokens `(batch,)` to the logits `(batch, vocabulary)` of the next ones.

    On CUDA the model's own forward is captured once in a graph and replayed. The logits are valid until the next call.

    Args:
        cache: from `slot_cache`.
        position: `position_ids` of the first token to come, `(batch, 1)`, or `(3, batch, 1)` for M-RoPE.
    """
    config = family_of(model).decoder(model).config
    before, config._attn_implementation = config._attn_implementation, ATTENTION
    try:
        yield _Graph(model, cache, position) if position.is_cuda else _Eager(model, cache, position)
    finally:
        config._attn_implementation = before


class _Eager:
    """One forward after the other."""

    def __init__(self, model: nn.Module, cache: Cache, position: Tensor):
        self.model, self.cache, self.position = model, cache, position.clone()

    def __call__(self, tokens: Tensor) -> Tensor:
        logits = self._forward(tokens[:, None])
        self.position += 1
        return logits

    def _forward(self, ids: Tensor) -> Tensor:
        out = self.model(input_ids=ids, position_ids=self.position, past_key_values=self.cache, use_cache=True)
        return out.logits[:, -1]


class _Graph(_Eager):
    """The same forward, recorded at the first call; input ids, positions and slots are static buffers."""

    WARM_UP = 3

    def __init__(self, model: nn.Module, cache: Cache, position: Tensor):
        super().__init__(model, cache, position)
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, tokens: Tensor) -> Tensor:
        if self.graph is None:
            self._capture(tokens)
        self.ids.copy_(tokens[:, None])
        self.graph.replay()
        for layer in self.cache.layers:
            layer.count()
        self.position += 1
        return self.logits

    def _capture(self, tokens: Tensor) -> None:
        """Record one step. Warm-up steps and the recording write slots too, so the counts are put back after them."""
        self.ids = tokens[:, None].clone()
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(self.WARM_UP):
                self._forward(self.ids)
                self._uncount()
        torch.cuda.current_stream().wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.logits = self._forward(self.ids)
        for layer in self.cache.layers:  # recording ran nothing on the device, but counted on the host
            layer.uncount(on_device=False)

    def _uncount(self) -> None:
        for layer in self.cache.layers:
            layer.uncount(on_device=True)


def _prefill(model: nn.Module, inputs: dict) -> tuple[Tensor, object, Tensor]:
    """Logits `(batch, vocabulary)` after the prompt, the cache, and the next token's `position_ids`."""
    decoder = family_of(model).decoder(model)
    arguments = dict(inputs)
    mask = inputs.get("attention_mask")
    rotary = getattr(decoder.config, "rope_parameters", None) or {}
    if mask is not None and "mrope_section" not in rotary:  # M-RoPE models count positions themselves
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
    return out.logits[:, -1], out.past_key_values, last


class _Choice:
    """Logits `(batch, vocabulary)` → tokens `(batch,)`, as `generate()` chooses them."""

    def __init__(self, do_sample: bool, temperature: float, top_k: int, top_p: float, repetition_penalty: float):
        self.do_sample = do_sample
        self.penalty = None if repetition_penalty == 1 else RepetitionPenaltyLogitsProcessor(repetition_penalty)
        self.warpers = LogitsProcessorList()
        if temperature != 1:
            self.warpers.append(TemperatureLogitsWarper(temperature))
        if top_k:
            self.warpers.append(TopKLogitsWarper(top_k))
        if top_p < 1:
            self.warpers.append(TopPLogitsWarper(top_p))

    def __call__(self, logits: Tensor, *so_far: Tensor) -> Tensor:
        """`so_far`: the sequences up to here, `(batch, tokens)` in pieces."""
        scores = logits.float()
        if self.penalty is not None:
            scores = self.penalty(torch.cat(so_far, dim=1), scores)
        if not self.do_sample:
            return scores.argmax(-1)
        scores = self.warpers(None, scores)
        return torch.multinomial(scores.softmax(-1), 1).squeeze(1)


def _default(model: nn.Module, name: str, value: float | None) -> float:
    """What `generate()` would use for an option that was not given."""
    configured = getattr(model.generation_config, name, None)
    return next(one for one in (value, configured, DEFAULTS[name]) if one is not None)


def _refuse(config) -> None:
    """Raise ValueError where the generation configuration asks for something that this path does not do."""
    for name, nothing in REFUSED.items():
        value = getattr(config, name, None)
        require(
            value is None or value == nothing,
            f"generation_config.{name} = {value!r}: the fast path chooses greedily or samples; use model.generate()",
        )


def _ends(model: nn.Module, eos_token_id, pad_token_id) -> tuple[Tensor, int]:
    config = model.generation_config
    ends = config.eos_token_id if eos_token_id is None else eos_token_id
    ends = [] if ends is None else [ends] if isinstance(ends, int) else list(ends)
    pad = config.pad_token_id if pad_token_id is None else pad_token_id
    if pad is None:
        pad = ends[0] if ends else 0
    return torch.tensor(ends, dtype=torch.long, device=model.device), pad


def _longest(new: Tensor, ends: Tensor) -> int:
    """New tokens of the sample that ends last, its end token included."""
    is_end = torch.isin(new, ends)
    first_end = torch.where(is_end.any(1), is_end.int().argmax(1) + 1, new.shape[1])
    return int(first_end.max())


def _synchronise(model: nn.Module) -> None:
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)
