"""Refuses, at the door of `generate`, what a pruned cache cannot do."""

import functools
from collections.abc import Callable

from torch import nn

DRAFTS = "it feeds drafted tokens together with the prompt, so the last row is not the prompt's"
REFUSED = {
    "assistant_model": DRAFTS,
    "prompt_lookup_num_tokens": DRAFTS,
    "assistant_early_exit": DRAFTS,
    "use_mtp": DRAFTS,
    "prefill_chunk_size": "a chunked prefill has no single last row that sees the whole prompt",
}


def guard_generate(model: nn.Module, pruning: Callable[[], bool], resume: Callable) -> None:
    """Put the guard in front of `model.generate`, on this object only; it looks at options while `pruning()`.

    A cache to go on with is given to `resume`: positions are made before the first forward.
    """
    before = model.__dict__.get("generate")  # somebody else's wrapper of this object, if any
    generate = model.generate

    @functools.wraps(generate)
    def guarded(*args, **kwargs):
        if guarded.on and pruning():
            positional = args[1] if len(args) > 1 else None  # generate(inputs, generation_config, …)
            _check(kwargs, kwargs.get("generation_config") or positional or model.generation_config)
        if guarded.on and kwargs.get("past_key_values") is not None:
            resume(kwargs["past_key_values"])
        return generate(*args, **kwargs)

    guarded.on, guarded.before = True, before
    model.__dict__["generate"] = guarded
    _GUARDS[id(model)] = guarded


def unguard_generate(model: nn.Module) -> None:
    """Take the guard away again. If somebody has wrapped it meanwhile, their wrapper stays and the guard sleeps."""
    guarded = _GUARDS.pop(id(model), None)
    if guarded is None:
        return
    guarded.on = False
    if model.__dict__.get("generate") is guarded:
        del model.__dict__["generate"]
        if guarded.before is not None:
            model.__dict__["generate"] = guarded.before


_GUARDS: dict[int, Callable] = {}  # of the models that are inside a prune block, which keeps them alive


def _check(kwargs: dict, config) -> None:
    def option(name):
        value = kwargs.get(name)
        return getattr(config, name, None) if value is None else value

    for name, reason in REFUSED.items():
        if option(name):
            raise ValueError(f"{name}: cannot be used while pruning: {reason}; leave {name} unset")
    if option("cache_implementation") not in (None, "dynamic", "dynamic_full"):
        value = option("cache_implementation")
        raise ValueError(f"cache_implementation={value!r}: only the dynamic cache can shrink; leave it unset")
    if option("use_cache") is False:
        raise ValueError("use_cache=False: nothing can be pruned without a KV cache; leave use_cache unset")
