"""Batches answered under several methods: by transformers' `generate` or by the fast path, errors kept per sample.

Images are encoded once, and one prefill serves all methods that leave it as it is.
"""

from __future__ import annotations

import dataclasses
import inspect
import logging
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import nullcontext

import torch
from transformers import StoppingCriteriaList

from plphp_core.decoding.device import free_memory
from plphp_core.decoding.fast_generate import Generated, fast_generate
from plphp_core.decoding.features import FeatureClock, shared_features
from plphp_core.decoding.measure import StepClock
from plphp_core.decoding.shared_prefill import SharedPrefill, can_share
from plphp_core.evaluation.encoding import PreparedRequest, encode, prepare, read_answers
from plphp_core.evaluation.loading import LoadedModel
from plphp_core.evaluation.options import generation_arguments, may_share, pad_token, refuse, refused_of_task
from plphp_core.evaluation.requests import Failure, Request
from plphp_core.families import family_of
from plphp_core.pruning.hf import implementation
from plphp_core.pruning.hooks import prune
from plphp_core.pruning.method import Method
from plphp_core.pruning.prompt import questions, sample_keys
from plphp_core.records.journal_lines import Answer

log = logging.getLogger("plphp.generation")

FAST_ARGUMENTS = frozenset(inspect.signature(fast_generate).parameters)
Result = tuple[Request, Answer | Failure]


class JointAnswerer:
    """Answers batches with several methods on one loaded model, sharing what does not depend on the method."""

    def __init__(self, loaded: LoadedModel):
        self.loaded = loaded

    def check(self, method: Method | None) -> None:
        """Raises ValueError if a method does not fit the model."""
        with prune(self.loaded.model, method):
            pass

    def inputs(self, request: Request) -> tuple[dict, list[list]]:
        """What the model is called with for one request, on its device; and its images as the processor got them."""
        ready = prepare(self.loaded.family, 0, request)
        return encode(self.loaded, [ready]), [ready.images]

    def answer(
        self, batch: list[Request], methods: Sequence[Method | None]
    ) -> Generator[tuple[Method | None, list[Result]], None, None]:
        """Each method and one result per request, in order, as soon as the method has answered them all.

        Requests of a batch share their generation arguments. Where a batch fails under a method, the method tries again
        alone, with memory freed, and then sample by sample, so that one broken sample costs no other its answer.

        Args:
            methods: all different; those that come out are these very objects.
        """
        broken: dict[int, Answer | Failure] = {}
        ready: list[PreparedRequest] = []
        for index, request in enumerate(batch):
            try:
                ready.append(prepare(self.loaded.family, index, request))
            except Exception as error:
                broken[index] = failure = Failure.of(error)
                log.warning("%s failed: %s", request, failure)

        def in_order(results: Mapping[int, Answer | Failure]) -> list[Result]:
            return [(request, {**broken, **results}[index]) for index, request in enumerate(batch)]

        failed = []
        for method, results in self._together(ready, methods):
            if isinstance(results, Failure):
                failed.append((method, results))
            else:
                yield method, in_order(results)
        for method, failure in failed:
            alone_is_other = len(methods) > 1 or len(ready) > 1 or failure.kind == "OutOfMemoryError"
            which, again = f"batch of {len(ready)} with {ready[0].request}", "; again alone" if alone_is_other else ""
            log.warning("%s under %s: %s%s", which, _named(method), failure, again)
            alone = self._alone(ready, method, len(methods) > 1) if alone_is_other else {ready[0].index: failure}
            yield method, in_order(alone)

    def _together(
        self, ready: list[PreparedRequest], methods: Sequence[Method | None]
    ) -> Iterator[tuple[Method | None, dict[int, Answer] | Failure]]:
        """Each method's answers to what is ready, or why there are none; methods that change images come last."""
        plain = [method for method in methods if method is None or not method.redraws]
        if plain:
            yield from self._encoded(ready, plain)
        for method in methods:
            if method is None or not method.redraws:
                continue
            try:
                changed = [prepare(self.loaded.family, one.index, one.request, method) for one in ready]
            except Exception as error:
                yield method, Failure.of(error)
            else:
                yield from self._encoded(changed, [method], originals=ready)

    def _encoded(
        self,
        ready: list[PreparedRequest],
        methods: Sequence[Method | None],
        originals: Sequence[PreparedRequest] = (),
    ) -> Iterator[tuple[Method | None, dict[int, Answer] | Failure]]:
        """Answers of methods that are given the same images."""
        if not ready:
            yield from ((method, {}) for method in methods)
            return
        try:
            inputs = encode(self.loaded, ready)
            arguments = generation_arguments(ready[0].request.generation, self.loaded.family, self.loaded.processor)
        except Exception as error:
            failure = Failure.of(error)
            yield from ((method, failure) for method in methods)
            return
        found: Generated | dict[int, Answer] | Failure  # one name for all: what was decoded is let go when it is read
        keys = [one.key for one in ready]
        texts = [one.request.context for one in ready]
        for method, found in decode_each(self.loaded, methods, inputs, arguments, keys, texts):
            if not isinstance(found, Failure):
                try:
                    found = read_answers(self.loaded, found, ready, inputs, arguments.get("eos_token_id"), originals)
                except Exception as error:
                    found = Failure.of(error)
            yield method, found

    def _alone(
        self, ready: list[PreparedRequest], method: Method | None, whole_first: bool
    ) -> Mapping[int, Answer | Failure]:
        """One method's answers without company: of the whole batch, if that was not tried yet, or sample by sample."""
        found: dict[int, Answer | Failure] = {}
        for some in ([ready] if whole_first else []) + [[one] for one in ready]:
            free_memory()
            ((_, results),) = self._together(some, [method])
            if not isinstance(results, Failure):
                found |= results
            elif len(some) == 1:
                log.warning("%s under %s failed: %s", some[0].request, _named(method), results)
                found[some[0].index] = results
            if len(found) == len(ready):
                break
        return found


def decode_each(
    loaded: LoadedModel,
    methods: Sequence[Method | None],
    inputs: dict,
    arguments: dict,
    keys: Sequence[str] = (),
    texts: Sequence[str] = (),
) -> Iterator[tuple[Method | None, Generated | Failure]]:
    """Each method and the batch decoded under it, as soon as it is there; errors are failures.

    One full cache of the batch is held while the methods that only compress are decoded one after the other, each with
    its own cache on top, at most as large; it is let go before those that withdraw tokens, which prefill themselves.

    Args:
        keys: what the samples are called, for methods that draw: see `plphp_core.pruning.prompt.sample_keys`.
        texts: what they ask, for methods that rank by words: see `plphp_core.pruning.prompt.questions`.
    """
    share = len(methods) > 1 and may_share(arguments)
    with shared_features(loaded.model) if share else nullcontext() as features:
        for group in _groups(methods) if share else [[method] for method in methods]:
            with sample_keys(keys):
                shared = _prefill(loaded, group, inputs)
            for method in group:
                with sample_keys(keys), questions(texts):
                    found = _try(loaded, method, inputs, arguments, shared, features)
                yield method, found
            del shared


def _groups(methods: Sequence[Method | None]) -> list[list[Method | None]]:
    """The methods that one prefill serves, first; each method that withdraws is on its own."""
    sharing = [method for method in methods if can_share(method)]
    return [*([sharing] if sharing else []), *([method] for method in methods if not can_share(method))]


def _prefill(loaded: LoadedModel, methods: Sequence[Method | None], inputs: dict) -> SharedPrefill | None:
    """A shared prefill if it serves several; None where it does not, or did not work: each method then tries alone."""
    if len(methods) == 1:
        return None
    try:
        return SharedPrefill(loaded.model, inputs, methods)
    except Exception as error:
        log.info("no shared prefill: %s", Failure.of(error))
        return None


def _try(
    loaded: LoadedModel,
    method: Method | None,
    inputs: dict,
    arguments: dict,
    shared: SharedPrefill | None,
    features: FeatureClock | None,
) -> Generated | Failure:
    """A batch answered under a method; why it is not in words, since an error's frames hold the batch's tensors.

    Args:
        inputs: on the model's device; arguments: as `generation_arguments` makes them.
        shared: of the same inputs; its prefill is then not repeated.
    """
    reused = features.reused_ms if features is not None else 0.0
    run = _fast if loaded.engine == "fast" else _generate
    try:
        refuse("the task's generation_kwargs", refused_of_task(arguments, loaded.engine), loaded.engine)
        with torch.inference_mode():
            found = run(loaded.model, method, inputs, arguments | {"pad_token_id": pad_token(loaded.processor)}, shared)
    except Exception as error:
        return Failure.of(error)
    if shared is None and features is not None:  # what an earlier method has encoded, this one would take alone too
        found = dataclasses.replace(found, prefill_ms=found.prefill_ms + features.reused_ms - reused)
    return found


def _generate(model, method, inputs: dict, arguments: dict, shared: SharedPrefill | None) -> Generated:
    def timed(inputs) -> tuple:
        clock = StepClock()  # counts from here
        criteria = StoppingCriteriaList([clock])
        return model.generate(**inputs, **arguments, use_cache=True, stopping_criteria=criteria), clock

    attention = implementation(family_of(model).decoder(model).config)
    if shared is None:
        with prune(model, method, record_attention=False) as trace:  # timed: only what the method needs
            sequences, clock = timed(inputs)
        return Generated(sequences, trace, clock.prefill_ms, clock.decode_ms, clock.decode_steps, attention)
    with shared.resumed(method) as resumed:
        sequences, clock = timed(inputs)
    prefill_ms = clock.prefill_ms + resumed.unseen_ms
    return Generated(sequences, resumed.trace, prefill_ms, clock.decode_ms, clock.decode_steps, attention)


def _fast(model, method, inputs: dict, arguments: dict, shared: SharedPrefill | None) -> Generated:
    given = {name: value for name, value in arguments.items() if name in FAST_ARGUMENTS and value is not None}
    prefilled = None if shared is None else shared.prefilled(method)
    return fast_generate(model, inputs, method, record_attention=False, prefilled=prefilled, **given)


def _named(method: Method | None) -> str:
    return "none" if method is None else repr(method)
