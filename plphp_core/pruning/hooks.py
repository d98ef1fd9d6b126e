"""`prune(model, method)`: hooks in, hooks out."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

from torch import nn

from plphp_core.pruning import hf
from plphp_core.pruning.method import Method
from plphp_core.pruning.open_blocks import acting, close_block, open_block
from plphp_core.pruning.prefill import Prefill
from plphp_core.pruning.session import Session
from plphp_core.pruning.tower import TowerWatch
from plphp_core.pruning.trace import Trace
from plphp_core.pruning.validation import require


@contextmanager
def prune(
    model: nn.Module,
    method: Method | None,
    record_attention: bool = True,
    around_work: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> Iterator[Trace]:
    """Within the block, every prefill of `model` prunes its cache by `method`; `generate()` works as always.

    Blocks may be nested (the innermost one acts), and a model can be pruned again after its block. Each thread or
    asyncio task that opens a block of its own is on its own; one without, such as a streaming worker, follows the block
    opened last, and several may do so at once; the trace is of the prefill that ended last. Continue a pruned cache, as
    in a second turn, inside a block too, of whatever method: masks must be told which slots are left. What
    `torch.compile` made of the whole model runs uncompiled inside the block.

    Args:
        model: a Hugging Face model of a known family.
        method: None changes nothing, refuses nothing, and still fills the trace where it can; where it cannot,
            `trace.missing` says why.
        record_attention: put γ of every layer into the trace; False leaves out (NaN) what the method does not ask for,
            so that a timing shows the method's own cost.
        around_work: makes the context in which each piece of the method's own work runs, to time it: reading the
            prompt; scores, choice and gather after a layer's attention; the choice and shorter stream before a layer.

    Yields:
        the trace of the latest prefill.

    Raises:
        TypeError: unknown model class; the message lists the known ones.
        ValueError: parameters that do not fit the model, or a model that does not work as this release knows it; inside
            the block, calls that cannot be pruned, and selections that break the rules of `Method`.
    """
    session = Session(model, method, record_attention, around_work)
    try:
        open_block(session, partial(_generating, model))
        yield session.trace
    finally:
        close_block(session)


@contextmanager
def _generating(model: nn.Module, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[None]:
    """Around a call of `generate`: refuses what cannot be pruned, and takes up the conversation of a cache."""
    session = acting(model)
    if session is None:
        yield
        return
    reason = hf.unprunable(model, name, args, kwargs)
    require(session.method is None or reason is None, str(reason))
    cache = hf.cache_among(kwargs.values())
    if cache is not None:  # positions are made before the first forward
        session.family.resume(model, cache)
    state = session.state
    outer, state.traced = state.traced, False
    state.inputs = kwargs | ({"input_ids": args[0]} if args else {})
    session.forget_tower()
    if reason is not None:  # its first forward is no prefill of the prompt alone
        session.trace.start(None, missing=reason)
        state.traced = None
        state.untraceable = True
    try:
        yield
    finally:
        state.traced, state.untraceable, state.inputs = outer, False, {}
        session.forget_tower()


def running_prefill(model: nn.Module) -> Prefill | None:
    """The prefill of the block that acts here, while a forward of it runs; None outside of a prefill."""
    session = acting(model)
    return None if session is None else session.prefill


def tower_watch(model: nn.Module) -> TowerWatch | None:
    """What the block that acts here notes of the model's vision tower; None without one or if it notes nothing."""
    session = acting(model)
    return None if session is None else session.watch


def refuse_inside(model: nn.Module, name: str) -> None:
    """Raise ValueError if a block with a method acts here: `name` does not look at blocks."""
    session = acting(model)
    inside = session is not None and session.method is not None
    require(not inside, f"{name} inside a prune block does not follow it: give it the method as its argument")
