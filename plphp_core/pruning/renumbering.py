"""Positions counted without the tokens that were withdrawn, as codes have it that shorten the sequence itself.

In the prefill a token takes the rotary tables of the place that it has moved up to (`Prefill`). Tokens that come later
are counted by `generate()` from the whole prompt, and the layers of a decoder share their tables; but each stage has
lost other tokens. So every layer whose cache knows of any gets tables of its own, here.
"""

from typing import Any

import torch
from torch import Tensor, nn

from plphp_core.pruning import hf

POSITIONS = ("keep", "compact")  # what a method's parameter `positions` may be
STAGES = 64  # tables remembered: of a few steps at most


class Renumbering:
    """Rotary tables for tokens behind a prompt, layer by layer; made once per step and stage."""

    def __init__(self, decoder: nn.Module):
        self.decoder = decoder
        self._known: dict[tuple[int, int], tuple[Any, Tensor, tuple[Tensor, Tensor]]] = {}

    def __call__(self, attention: nn.Module, hidden: Tensor, kwargs: dict[str, Any], removed: Tensor) -> dict[str, Any]:
        """Keyword arguments of an attention module with tables for positions that are `removed` `(batch,)` lower."""
        given, ids = kwargs["position_embeddings"], kwargs["position_ids"]
        key = (id(given), id(removed))
        if key not in self._known:
            if len(self._known) >= STAGES:
                self._known.clear()
            lower = ids - removed.to(ids.device)[:, None]
            tables = hf.rotary_tables(self.decoder, attention, hidden, lower)
            self._known[key] = given, removed, tables  # all of it: what is freed may lend its id again
        return {**kwargs, "position_embeddings": self._known[key][2]}


def moved_up(valid: Tensor, prompt_valid: Tensor) -> Tensor:
    """The place in the prompt whose position each token of the stream takes, `(batch, n)` long.

    Args:
        valid: `(batch, n)`, which tokens of the stream are none of padding or filler.
        prompt_valid: `(batch, prompt_length)`, the same of the prompt.
    """
    places = (~prompt_valid).to(torch.int8).argsort(dim=-1, stable=True)  # of the first token, the second, …
    return places.gather(1, (valid.cumsum(-1) - 1).clamp(min=0))
