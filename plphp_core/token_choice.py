"""From logits to tokens as `generate()` goes: its options, its defaults, its processors."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from plphp_core.method import require

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


class TokenChoice:
    """Logits `(batch, vocabulary)` → tokens `(batch,)`.

    Args:
        model: its generation configuration decides what is not given.
        temperature, top_k, top_p, repetition_penalty: None: not given.

    Raises:
        ValueError: the configuration asks for something that this does not do.
    """

    def __init__(self, model: nn.Module, do_sample: bool, **given: float | None):
        _refuse(model.generation_config)
        chosen = {name: _default(model, name, given[name]) for name in DEFAULTS}
        self.do_sample = do_sample
        penalty = chosen["repetition_penalty"]
        self.penalty = None if penalty == 1 else RepetitionPenaltyLogitsProcessor(penalty)
        self.warpers = LogitsProcessorList()
        if chosen["temperature"] != 1:
            self.warpers.append(TemperatureLogitsWarper(chosen["temperature"]))
        if chosen["top_k"]:
            self.warpers.append(TopKLogitsWarper(chosen["top_k"]))
        if chosen["top_p"] < 1:
            self.warpers.append(TopPLogitsWarper(chosen["top_p"]))

    def __call__(self, logits: Tensor, *so_far: Tensor) -> Tensor:
        """`so_far`: the sequences up to here, `(batch, tokens)` in pieces."""
        scores = logits.float()
        if self.penalty is not None:
            scores = self.penalty(torch.cat(so_far, dim=1), scores)
        if not self.do_sample:
            return scores.argmax(-1)
        scores = self.warpers(None, scores)
        return torch.multinomial(scores.softmax(-1), 1).squeeze(1)


def ends_and_pad(
    model: nn.Module, eos_token_id: int | list[int] | None, pad_token_id: int | None
) -> tuple[Tensor, int]:
    """End tokens `(n,)` on the model's device, and what fills up behind them; None: as the checkpoint says."""
    config = model.generation_config
    ends = config.eos_token_id if eos_token_id is None else eos_token_id
    ends = [] if ends is None else [ends] if isinstance(ends, int) else list(ends)
    pad = config.pad_token_id if pad_token_id is None else pad_token_id
    if pad is None:
        pad = ends[0] if ends else 0
    return torch.tensor(ends, dtype=torch.long, device=model.device), pad


def _default(model: nn.Module, name: str, value: float | None) -> float:
    """What `generate()` would use for an option that was not given."""
    configured = getattr(model.generation_config, name, None)
    return next(one for one in (value, configured, DEFAULTS[name]) if one is not None)


def _refuse(config) -> None:
    for name, nothing in REFUSED.items():
        value = getattr(config, name, None)
        require(
            value is None or value == nothing,
            f"generation_config.{name} = {value!r}: the fast path chooses greedily or samples; use model.generate()",
        )


def unsupported_options(generation_config) -> dict:
    """Option → value, of a generation configuration that the fast path does not do."""
    done = {"temperature", "top_k", "top_p", "repetition_penalty", "do_sample", "max_new_tokens", "use_cache"}
    done |= {"bos_token_id", "eos_token_id", "pad_token_id", "transformers_version"}
    found = {name: value for name, value in generation_config.to_dict().items() if not name.startswith("_")}
    nothing = lambda name, value: value in (None, False, [], {}, REFUSED.get(name, 0))  # noqa: E731
    return {name: value for name, value in found.items() if name not in done and not nothing(name, value)}
