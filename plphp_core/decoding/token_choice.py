"""From logits to tokens as `generate()` goes: its options, its defaults, its processors."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import (
    GenerationConfig,
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from plphp_core.pruning.hf import repetition_penalty
from plphp_core.pruning.validation import require

# Of `generate()`, where neither the call nor the checkpoint says otherwise; used for sampling, but for the penalty.
DEFAULTS = {"temperature": 1.0, "top_k": 50, "top_p": 1.0, "repetition_penalty": 1.0}
# What a generation configuration may say to the fast path: what it obeys, and what changes no token of one sequence
# chosen greedily or sampled. Anything else that is set is refused, also what releases to come may add.
OBEYED = {*DEFAULTS, "do_sample", "max_new_tokens", "eos_token_id", "pad_token_id"}
WITHOUT_EFFECT = {
    *("bos_token_id", "decoder_start_token_id", "transformers_version", "_from_model_config", "max_length"),
    *("use_cache", "cache_implementation", "cache_config", "max_cache_len", "compile_config", "disable_compile"),
    *("return_dict_in_generate", "output_scores", "output_logits", "output_attentions", "output_hidden_states"),
    *("early_stopping", "length_penalty", "low_memory", "continuous_batching_config"),
    *("num_assistant_tokens", "num_assistant_tokens_schedule", "assistant_confidence_threshold", "is_assistant"),
    *("assistant_lookbehind", "target_lookbehind", "assistant_ensemble_weight", "max_matching_ngram_size"),
}
ALL_OPTIONS = {name for name in GenerationConfig().to_dict() if not name.startswith("_")}
NEUTRAL_ONE = {  # of these options a 1 asks for nothing, of others a 0
    *("num_beams", "num_return_sequences", "num_beam_groups", "guidance_scale", "typical_p", "temperature", "top_p"),
    *("repetition_penalty", "encoder_repetition_penalty", "length_penalty"),
}


def neutral(name: str, value: object) -> bool:
    """Whether an option of a generation configuration does nothing with this value."""
    if value is None or value is False or value in ("", [], {}, ()):
        return True
    if isinstance(value, bool) or name.endswith("_token_id"):
        return False
    return value == (1 if name in NEUTRAL_ONE else 0)


def unsupported_options(generation_config: GenerationConfig) -> dict[str, object]:
    """What a generation configuration asks for and the fast path does not do, by name."""
    return {
        name: value
        for name, value in generation_config.to_dict().items()
        if name not in OBEYED | WITHOUT_EFFECT and not neutral(name, value)
    }


class TokenChoice:
    """Logits `(batch, vocabulary)` → tokens `(batch,)`.

    Args:
        model: its generation configuration decides what is not given.
        mask: `(batch, prompt length)`, of the prompts; None: no padding. The penalty passes over padding if
            `generate()` of the installed release does.
        do_sample, temperature, top_k, top_p, repetition_penalty: None: not given.

    Raises:
        ValueError: the configuration asks for something that this does not do.
    """

    def __init__(self, model: nn.Module, mask: Tensor | None, do_sample: bool | None, **given: float | None):
        asked = ", ".join(f"{name} = {value!r}" for name, value in unsupported_options(model.generation_config).items())
        require(not asked, f"generation_config: {asked}: not done by the fast path; use model.generate()")
        chosen = {name: _default(model, name, given[name]) for name in DEFAULTS}
        self.do_sample = bool(model.generation_config.do_sample) if do_sample is None else do_sample
        penalty = chosen["repetition_penalty"]
        self.penalty = None if penalty == 1 else repetition_penalty(penalty, mask)
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
