"""Stands in front of `model.generate` and, for compiled models, of `model.forward`, while a `prune` block is open."""

import functools
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn

from plphp_core.pruning.hf import GENERATING


def guard_model(
    model: nn.Module, around: Callable[[str, tuple[Any, ...], dict[str, Any]], AbstractContextManager[Any]]
) -> None:
    """Until `unguard_model`, calls of the model's GENERATING methods run within `around(name, args, kwargs)`.

    On this object only. What `torch.compile` made of the model before would run without the hooks of the block. It
    looks at the object's own `forward`, though: a new one, which is never compiled, makes it start from the model's
    call again.
    """
    guards = {name: _guarded(getattr(model, name), name, around) for name in GENERATING if hasattr(model, name)}
    if "torch._dynamo" in sys.modules:  # else nothing is compiled, and importing it would take seconds
        forward = model.forward

        @functools.wraps(forward)
        def uncompiled(*args: Any, **kwargs: Any) -> Any:
            return forward(*args, **kwargs)

        guards["forward"] = torch.compiler.disable(uncompiled)
    before = {name: model.__dict__.get(name) for name in guards}  # somebody else's wrappers of this object, if any
    model.__dict__.update(guards)
    _GUARDS[id(model)] = guards, before


def _guarded(call: Callable[..., Any], name: str, around: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(call)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        if not vars(guarded)["on"]:
            return call(*args, **kwargs)
        with around(name, args, kwargs):
            return call(*args, **kwargs)

    vars(guarded)["on"] = True
    return guarded


def unguard_model(model: nn.Module) -> None:
    """Take the guards away again; where somebody has wrapped one meanwhile, their wrapper stays."""
    guards, before = _GUARDS.pop(id(model), ({}, {}))
    for name, guard in guards.items():
        guard.on = False
        if model.__dict__.get(name) is guard:
            del model.__dict__[name]
            if before[name] is not None:
                model.__dict__[name] = before[name]


# Of the models that are inside a prune block, which keeps them alive: the guards, and what was there before.
_GUARDS: dict[int, tuple[dict[str, Any], dict[str, Any]]] = {}
