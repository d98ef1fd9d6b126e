"""One encoded batch, decoded: by transformers' `generate` or by the fast path, alone or from a shared prefill."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from transformers import StoppingCriteriaList

from plphp_core import prune
from plphp_core.decode import fast_generate
from plphp_core.evaluation.loading import LoadedModel
from plphp_core.family import Family
from plphp_core.measure import StepClock
from plphp_core.method import Method
from plphp_core.shared import SharedPrefill
from plphp_core.trace import Trace

# What the fast path takes of a task's generation arguments.
FAST_ARGUMENTS = {"max_new_tokens", "do_sample", "temperature", "top_p", "top_k", "eos_token_id", "num_beams"}
SAMPLING = ("temperature", "top_p", "top_k")


@dataclass(frozen=True, eq=False)
class Decoded:
    """A batch with its answers. Times in milliseconds, of the whole batch; `prefill_ms` as if it had run alone."""

    sequences: torch.Tensor
    trace: Trace
    prefill_ms: float
    decode_ms: float
    decode_steps: int


def generation_arguments(generation: dict, family: Family, processor) -> dict:
    """Arguments for `generate` as lmms-eval's wrapper of the family makes them, on a copy.

    `until` is the family's to apply when decoding; `image_aspect_ratio` is upstream's image switch; sampling arguments
    go when nothing is sampled, and nothing is sampled unless the task says so.

    Raises:
        ValueError: several answers are asked for.
    """
    arguments = copy.deepcopy(generation)
    for key in ("until", "image_aspect_ratio"):
        arguments.pop(key, None)
    arguments.setdefault("max_new_tokens", family.max_new_tokens)
    if arguments.get("num_return_sequences") not in (None, 1):
        raise ValueError("num_return_sequences: a sample has one answer; leave it out of the generation arguments")
    if arguments.get("num_beams") is None:
        arguments.pop("num_beams", None)
    if (ends := family.end_tokens(processor)) is not None:
        arguments.setdefault("eos_token_id", ends)
    if not arguments.setdefault("do_sample", False):
        for key in SAMPLING:  # None, not absent: a checkpoint's own sampling defaults would only cause warnings
            arguments[key] = None
    return arguments


def pad_token(processor) -> int:
    """What stands behind an answer that has ended before others of its batch."""
    tokenizer = processor.tokenizer
    return tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id


@torch.inference_mode()
def decode(
    loaded: LoadedModel, method: Method | None, inputs: dict, arguments: dict, shared: SharedPrefill | None = None
) -> Decoded:
    """Answer a batch under `method`.

    Args:
        inputs: on the model's device.
        arguments: as `generation_arguments` makes them.
        shared: of the same inputs; its prefill is then not repeated.

    Raises:
        ValueError: the engine cannot do what the arguments ask for.
    """
    run = _fast if loaded.engine == "fast" else _generate
    return run(loaded.model, method, inputs, arguments | {"pad_token_id": pad_token(loaded.processor)}, shared)


def _generate(model, method, inputs: dict, arguments: dict, shared: SharedPrefill | None) -> Decoded:
    def timed(inputs) -> tuple:
        clock = StepClock()  # counts from here
        criteria = StoppingCriteriaList([clock])
        return model.generate(**inputs, **arguments, use_cache=True, stopping_criteria=criteria), clock

    if shared is None:
        with prune(model, method, record_attention=False) as trace:  # timed: only what the method needs
            sequences, clock = timed(inputs)
        return Decoded(sequences, trace, clock.prefill_ms, clock.decode_ms, clock.decode_steps)
    with shared.resumed(method) as resumed:
        sequences, clock = timed(inputs)
    prefill_ms = clock.prefill_ms + resumed.unseen_ms
    return Decoded(sequences, resumed.trace, prefill_ms, clock.decode_ms, clock.decode_steps)


def _fast(model, method, inputs: dict, arguments: dict, shared: SharedPrefill | None) -> Decoded:
    if extra := set(arguments) - FAST_ARGUMENTS - {"pad_token_id"}:
        raise ValueError(f"engine=fast does not know {', '.join(sorted(extra))}; use engine=generate")
    if arguments.pop("num_beams", 1) not in (None, 1):
        raise ValueError("engine=fast does not search with beams; use engine=generate")
    given = {name: value for name, value in arguments.items() if value is not None}
    prefilled = None if shared is None else shared.prefilled(method)
    found = fast_generate(model, inputs, method, record_attention=False, prefilled=prefilled, **given)
    return Decoded(found.sequences, found.trace, found.prefill_ms, found.decode_ms, found.decode_steps)
