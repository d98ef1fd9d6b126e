"""One batch under several methods: images encoded once, and one prefill for all methods that leave it as it is."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Sequence

from plphp_core.decoding.features import FeatureClock, shared_features
from plphp_core.decoding.shared_prefill import SharedPrefill, can_share
from plphp_core.evaluation.failure import Failure
from plphp_core.evaluation.generation import Decoded, decode
from plphp_core.evaluation.loading import LoadedModel
from plphp_core.pruning.method import Method

log = logging.getLogger("plphp.sharing")


def may_share(arguments: dict) -> bool:
    """Whether answers from a shared prefill are those of separate runs.

    With beams a prefill has another batch, and what is sampled depends on everything sampled before.
    """
    return not arguments.get("do_sample") and arguments.get("num_beams", 1) in (None, 1)


def decode_each(
    loaded: LoadedModel, methods: Sequence[Method | None], inputs: dict, arguments: dict
) -> Iterator[tuple[int, Decoded | Failure]]:
    """The number of each method and the batch decoded under it, as soon as it is there; errors are failures.

    One full cache of the batch is held while the methods that only compress are decoded one after the other, each with
    its own cache on top, at most as large; it is let go before those that withdraw tokens, which prefill themselves.
    """
    if len(methods) == 1 or not may_share(arguments):
        for number, method in enumerate(methods):
            yield number, _try(loaded, method, inputs, arguments)
        return
    with shared_features(loaded.model) as features:
        for numbers in _groups(methods):
            shared = _prefill(loaded, [methods[number] for number in numbers], inputs)
            for number in numbers:
                yield number, _try(loaded, methods[number], inputs, arguments, shared, features)
            del shared


def _groups(methods: Sequence[Method | None]) -> list[list[int]]:
    """Numbers of the methods that one prefill serves, largest group first; a method that withdraws is on its own."""
    sharing = [method for method in methods if method is not None and can_share(method)]
    rows_of_none = sharing[0].query_rows if sharing else 1  # it reads none, so it joins any group
    groups: dict[object, list[int]] = {}
    for number, method in enumerate(methods):
        rows = rows_of_none if method is None else method.query_rows
        groups.setdefault(("shared", rows) if can_share(method) else number, []).append(number)
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
