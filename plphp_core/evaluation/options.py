"""Generation options: what an evaluation takes of a task's arguments and of a checkpoint's generation configuration.

A run gives one answer per prompt, as token ids. How it searches or samples is the task's to say alone; what else
changes the choice of tokens is obeyed, whoever sets it, as upstream. What no list here names is refused before anything
is answered: an option of tomorrow's transformers must not be passed over in silence.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from transformers import GenerationConfig

from plphp_core.decoding.token_choice import neutral, unsupported_options
from plphp_core.families.base import Family
from plphp_core.records.errors import UserError

FILE = "generation_config.json"
# Change which token is chosen, and `generate` obeys them.
OBEYED = {
    "repetition_penalty", "encoder_repetition_penalty", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size",
    "bad_words_ids", "suppress_tokens", "begin_suppress_tokens", "sequence_bias", "forced_bos_token_id",
    "forced_eos_token_id", "min_length", "min_new_tokens", "exponential_decay_length_penalty", "renormalize_logits",
    "remove_invalid_values",
}  # fmt: skip
SAMPLING = {"temperature", "top_k", "top_p", "min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff"}
SEARCH = {"do_sample", "num_beams", "length_penalty", "early_stopping", *SAMPLING}
# Of a checkpoint: set by the run itself, or without meaning where no draft model takes part.
SET_BY_RUN = {
    "num_return_sequences", "num_beam_groups", "diversity_penalty", "max_length", "max_new_tokens", "max_time",
    "use_cache", "cache_implementation", "cache_config", "max_cache_len", "return_dict_in_generate", "output_scores",
    "output_logits", "output_attentions", "output_hidden_states", "compile_config", "disable_compile",
    "continuous_batching_config", "low_memory", "is_assistant", "num_assistant_tokens",
    "num_assistant_tokens_schedule", "assistant_confidence_threshold", "assistant_ensemble_weight",
    "assistant_lookbehind", "target_lookbehind", "max_matching_ngram_size",
}  # fmt: skip
ASIDE = SEARCH | SET_BY_RUN
IDS = {"bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id"}
NOT_PASSED = {"until", "image_aspect_ratio", "use_cache"}  # of tasks: the family's, upstream's, the run's to set
# Of lmms-eval's own tasks, what its models take; they pass over whatever else a task file says, and so do runs.
PASSED_ON = {"max_new_tokens", "temperature", "top_p", "num_beams", "do_sample", "until"}
OF_TASKS = OBEYED | SEARCH | NOT_PASSED | {"max_new_tokens", "eos_token_id"}


def in_force(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that do something, of a configuration's content or a task's arguments."""
    return {name: value for name, value in options.items() if not neutral(name, value)}


def set_aside(content: Mapping[str, Any]) -> dict[str, Any]:
    """What a run does not take over from a checkpoint. Args: content: of its generation configuration."""
    return {name: value for name, value in in_force(content).items() if name in ASIDE}


def obeyed(content: Mapping[str, Any]) -> dict[str, Any]:
    """What changes answers of a checkpoint, as upstream."""
    return {name: value for name, value in in_force(content).items() if name in OBEYED}


def one_answer(config: GenerationConfig) -> GenerationConfig:
    """A checkpoint's configuration without what a run does not take over."""
    found = copy.deepcopy(config)
    for name in ASIDE & vars(found).keys():
        setattr(found, name, None)
    return found


def refused_of_checkpoint(content: Mapping[str, Any], engine: str) -> dict[str, Any]:
    """Option → value, of a checkpoint's generation configuration that no run with `engine` can serve.

    What transformers does not know changes nothing and is no option.
    """
    known = {name for name in GenerationConfig().to_dict() if not name.startswith("_")} - {"transformers_version"}
    left = {name: value for name, value in in_force(content).items() if name in known - ASIDE - IDS}
    return {name: left[name] for name in left if name not in OBEYED} | _not_by(engine, left)


def refused_of_task(generation: Mapping[str, Any], engine: str) -> dict[str, Any]:
    """Option → value, of a task's generation arguments that no run with `engine` can serve."""
    left = {name: value for name, value in in_force(generation).items() if name not in NOT_PASSED}
    if not left.get("do_sample"):
        left = {name: value for name, value in left.items() if name not in SAMPLING}
    return {name: left[name] for name in left if name not in OF_TASKS} | _not_by(engine, left)


def refuse(source: str, refused: Mapping[str, Any], engine: str) -> None:
    """Raise UserError if there is anything in `refused`; the message names each option and `source`."""
    if refused:
        listed = ", ".join(f"{name}={value!r}" for name, value in sorted(refused.items()))
        other = ", or use engine=generate" if refused.keys() <= OBEYED | SEARCH else ""
        raise UserError(
            f"{source} sets {listed}, which an evaluation with engine={engine} does not do: "
            f"take it out of {source}{other}"
        )


def _not_by(engine: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """What the engine does not do of the options that evaluations know: one list, the fast path's own."""
    if engine != "fast":
        return {}
    return unsupported_options(as_config(options))


def as_config(options: Mapping[str, Any]) -> GenerationConfig:
    """A configuration of nothing but these options, none of them judged."""
    config = GenerationConfig()
    for name, value in options.items():
        setattr(config, name, value)
    return config


def generation_arguments(generation: dict, family: Family, processor) -> dict:
    """Arguments for `generate` as lmms-eval's wrapper of the family makes them, on a copy.

    `until` is the family's to apply when decoding; `image_aspect_ratio` is upstream's image switch; sampling arguments
    go when nothing is sampled, and nothing is sampled unless the task says so.

    Raises:
        UserError: they hold an option that evaluations do not know (`OF_TASKS`), several answers for example.
    """
    refuse("the task's generation_kwargs", refused_of_task(generation, "generate"), "generate")
    arguments = {name: copy.deepcopy(value) for name, value in generation.items() if name not in NOT_PASSED}
    arguments.setdefault("max_new_tokens", family.max_new_tokens)
    if arguments.get("num_beams") is None:
        arguments.pop("num_beams", None)
    if (ends := family.end_tokens(processor)) is not None:
        arguments.setdefault("eos_token_id", ends)
    if not arguments.setdefault("do_sample", False):
        for key in {"temperature", "top_k", "top_p"} | (SAMPLING & arguments.keys()):
            arguments[key] = None  # not absent: a checkpoint's own sampling defaults would only cause warnings
    return arguments


def pad_token(processor) -> int:
    """What stands behind an answer that has ended before others of its batch."""
    tokenizer = processor.tokenizer
    return tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id


def may_share(arguments: dict) -> bool:
    """Whether answers from a shared prefill are those of separate runs.

    With beams a prefill has another batch, and what is sampled depends on everything sampled before.
    """
    return not arguments.get("do_sample") and arguments.get("num_beams", 1) in (None, 1)
