"""Stands in front of `model.generate` and, for compiled models, of `model.forward`, while a `prune` block is open."""

import functools
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import nn


def guard_model(model: nn.Module, around: Callable[[tuple, dict], AbstractContextManager]) -> None:
    """Until `unguard_model`, calls of `model.generate` run within `around(args, kwargs)`; on this object only.

    What `torch.compile` made of the model before would run without the hooks of the block. It looks at the object's own
    `forward`, though: a new one, which is never compiled, makes it start from the model's call again.
    """
    generate = model.generate

    @functools.wraps(generate)
    def guarded(*args, **kwargs):
        if not guarded.on:
            return generate(*args, **kwargs)
        with around(args, kwargs):
            return generate(*args, **kwargs)

    guards = {"generate": guarded}
    if "torch._dynamo" in sys.modules:  # else nothing is compiled, and importing it would take seconds
        forward = model.forward

        @functools.wraps(forward)
        def uncompiled(*args, **kwargs):
            return forward(*args, **kwargs)

        guards["forward"] = torch.compiler.disable(uncompiled)
    guarded.on = True
    before = {name: model.__dict__.get(name) for name in guards}  # somebody else's wrappers of this object, if any
    model.__dict__.update(guards)
    _GUARDS[id(model)] = guards, before


def unguard_model(model: nn.Module) -> None:
    """Take the guards away again; where somebody has wrapped one meanwhile, their wrapper stays."""
    guards, before = _GUARDS.pop(id(model), ({}, {}))
    for name, guard in guards.items():
        guard.on = False
        if model.__dict__.get(name) is guard:
            del model.__dict__[name]
            if before[name] is not None:
                model.__dict__[name] = before[name]


_GUARDS: dict[int, tuple[dict, dict]] = {}  # of the models that are inside a prune block, which keeps them alive
