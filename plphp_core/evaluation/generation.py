"""One encoded batch, decoded under several methods: by transformers' `generate` or by the fast path.

Images are encoded once, and one prefill serves all methods that leave it as it is.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from transformers import StoppingCriteriaList

from plphp_core.decoding.fast_generate import fast_generate
from plphp_core.decoding.features import FeatureClock, shared_features
from plphp_core.decoding.measure import StepClock
from plphp_core.decoding.shared_prefill import SharedPrefill, can_share
from plphp_core.evaluation.loading import LoadedModel
from plphp_core.evaluation.options import NOT_PASSED, SAMPLING, refuse, refused_of_task
from plphp_core.evaluation.requests import Failure
from plphp_core.families import family_of
from plphp_core.families.base import Family
from plphp_core.pruning.hf import implementation
from plphp_core.pruning.hooks import prune
from plphp_core.pruning.method import Method
from plphp_core.pruning.trace import Trace

log = logging.getLogger("plphp.generation")

FAST_ARGUMENTS = frozenset(inspect.signature(fast_generate).parameters)


@dataclass(frozen=True, eq=False)
class Decoded:
    """A batch with its answers. Times in milliseconds, of the whole batch; `prefill_ms` as if it had run alone.

    `kernel`: what decoded, the fast path's kernel or the attention implementation of `generate()`; None if nothing did.
    """

    sequences: torch.Tensor
    trace: Trace
    prefill_ms: float
    decode_ms: float
    decode_steps: int
    kernel: str | None = None


def generation_arguments(generation: dict, family: Family, processor) -> dict:
    """Arguments for `generate` as lmms-eval's wrapper of the family makes them, on a copy.

    `until` is the family's to apply when decoding; `image_aspect_ratio` is upstream's image switch; sampling arguments
    go when nothing is sampled, and nothing is sampled unless the task says so.

    Raises:
        UserError: they hold an option that evaluations do not know (`options.OF_TASKS`), several answers for example.
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


def decode_each(
    loaded: LoadedModel, methods: Sequence[Method | None], inputs: dict, arguments: dict
) -> Iterator[tuple[Method | None, Decoded | Failure]]:
    """Each method and the batch decoded under it, as soon as it is there; errors are failures.

    One full cache of the batch is held while the methods that only compress are decoded one after the other, each with
    its own cache on top, at most as large; it is let go before those that withdraw tokens, which prefill themselves.
    """
    if len(methods) == 1 or not may_share(arguments):
        for method in methods:
            yield method, _try(loaded, method, inputs, arguments)
        return
    with shared_features(loaded.model) as features:
        for group in _groups(methods):
            shared = _prefill(loaded, group, inputs)
            for method in group:
                yield method, _try(loaded, method, inputs, arguments, shared, features)
            del shared


def _groups(methods: Sequence[Method | None]) -> list[list[Method | None]]:
    """The methods that one prefill serves, largest group first; a method that withdraws is on its own."""
    sharing = [method for method in methods if method is not None and can_share(method)]
    rows_of_none = sharing[0].query_rows if sharing else 1  # it reads none, so it joins any group
    groups: dict[object, list[Method | None]] = {}
    for method in methods:
        rows = rows_of_none if method is None else method.query_rows
        groups.setdefault(("shared", rows) if can_share(method) else id(method), []).append(method)
    return sorted(groups.values(), key=len, reverse=True)


def _prefill(loaded: LoadedModel, methods: Sequence[Method | None], inputs: dict) -> SharedPrefill | None:
    """A shared prefill if it serves several; None where it does not, or did not work: each method then tries alone."""
    if len(methods) == 1:
        return None
    try:
        return SharedPrefill(
            loaded.model, inputs, next((method.query_rows for method in methods if method is not None), 1)
        )
    except Exception as error:
        log.info("no shared prefill: %s", Failure.of(error))
        return None


def _try(
    loaded: LoadedModel,
    method: Method | None,
    inputs: dict,
    arguments: dict,
    shared: SharedPrefill | None = None,
    features: FeatureClock | None = None,
) -> Decoded | Failure:
    encoded = features.milliseconds if features is not None else 0.0
    try:
        found = decode(loaded, method, inputs, arguments, shared)
    except Exception as error:  # as words: its frames hold the batch's tensors
        return Failure.of(error)
    if shared is None:  # images that an earlier method has encoded are part of what this one takes alone
        found = dataclasses.replace(found, prefill_ms=found.prefill_ms + encoded)
    return found


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
        UserError: the engine cannot do what the arguments ask for.
    """
    refuse("the task's generation_kwargs", refused_of_task(arguments, loaded.engine), loaded.engine)
    run = _fast if loaded.engine == "fast" else _generate
    return run(loaded.model, method, inputs, arguments | {"pad_token_id": pad_token(loaded.processor)}, shared)


def _generate(model, method, inputs: dict, arguments: dict, shared: SharedPrefill | None) -> Decoded:
    def timed(inputs) -> tuple:
        clock = StepClock()  # counts from here
        criteria = StoppingCriteriaList([clock])
        return model.generate(**inputs, **arguments, use_cache=True, stopping_criteria=criteria), clock

    attention = implementation(family_of(model).decoder(model).config)
    if shared is None:
        with prune(model, method, record_attention=False) as trace:  # timed: only what the method needs
            sequences, clock = timed(inputs)
        return Decoded(sequences, trace, clock.prefill_ms, clock.decode_ms, clock.decode_steps, attention)
    with shared.resumed(method) as resumed:
        sequences, clock = timed(inputs)
    prefill_ms = clock.prefill_ms + resumed.unseen_ms
    return Decoded(sequences, resumed.trace, prefill_ms, clock.decode_ms, clock.decode_steps, attention)


def _fast(model, method, inputs: dict, arguments: dict, shared: SharedPrefill | None) -> Decoded:
    given = {name: value for name, value in arguments.items() if name in FAST_ARGUMENTS and value is not None}
    prefilled = None if shared is None else shared.prefilled(method)
    found = fast_generate(model, inputs, method, record_attention=False, prefilled=prefilled, **given)
    return Decoded(found.sequences, found.trace, found.prefill_ms, found.decode_ms, found.decode_steps, found.kernel)
