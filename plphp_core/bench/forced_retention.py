"""How many tokens every layer keeps, decided without trained weights."""

from __future__ import annotations

import functools
from collections.abc import Hashable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor

from plphp_core.pruning.method import Method, make_method
from plphp_core.pruning.plphp import FIRST_PRUNED_LAYER, PLPHP
from plphp_core.pruning.prompt import Prompt
from plphp_core.pruning.selection import Selection
from plphp_core.pruning.view import EntryView, LayerView
from plphp_core.records.errors import UserError

FORCED = ("r", "delta_r")  # what can be forced of PLPHP; its thresholds need a trained model's attention


@dataclass(frozen=True)
class ForcedPLPHP(PLPHP):
    """PLPHP whose layers are balanced, attentive and indifferent in turn, whatever they attend to.

    So the mean rate over the pruned layers is r, up to one layer. Everything else, scoring included, is PLPHP's own.
    """

    name: ClassVar[str] = "plphp"

    def __str__(self) -> str:
        return f"PLPHP(r={self.r}, delta_r={self.delta_r}), forced"

    def rate(self, layer: int) -> float:
        """Retention rate of `layer`, one of those that are pruned."""
        offset = (0.0, self.delta_r, -self.delta_r)[(layer - FIRST_PRUNED_LAYER) % 3]
        return max(0.0, min(1.0, self.r + offset))

    def compress(self, layer: int, view: LayerView) -> Selection | None:
        # Where Δr = 0, PLPHP's rate is r in every layer.
        return _of_rate(self.rate(layer), self.gqa).compress(layer, view)


@functools.cache  # its checks are no part of a layer's work
def _of_rate(rate: float, gqa: Literal["mean", "max"]) -> PLPHP:
    return PLPHP(r=rate, delta_r=0.0, gqa=gqa)


def forced_method(name: str, params: dict) -> Method | None:
    """The method for a model with random weights; PLPHP's classes of layers are forced.

    Raises:
        UserError: parameters that only a trained model's attention could follow, or that the method refuses.
    """
    try:
        method = make_method(name, **params)
    except (ValueError, TypeError) as error:
        raise UserError(str(error)) from None
    if not isinstance(method, PLPHP):
        return method
    scored = sorted(set(params) - {*FORCED, "gqa"})
    if scored:
        raise UserError(
            f"plphp.{scored[0]} = {params[scored[0]]!r} needs attention scores, which random weights do not give; "
            f"force the retention with {' and '.join(FORCED)}"
        )
    return ForcedPLPHP(**params)


def forced_lengths(method: Method | None, layers: int, kv_heads: int, image_sizes: list[int], text: int) -> list[int]:
    """Tokens of one sample that each layer holds after the prefill.

    The method's verbs are asked with made-up attention, once all on vision and once all on text.

    Args:
        image_sizes: tokens of each image of the prompt.
        text: its other tokens.

    Raises:
        UserError: the answer depends on the attention, so it takes a trained model.
    """
    found = [_ask(method, layers, kv_heads, image_sizes, text, on_vision) for on_vision in (True, False)]
    if method is None or found[0] == found[1]:
        return found[0]
    raise UserError(
        f"method {method.name!r} keeps tokens by attention scores, which random weights do not give: "
        "choose among none, plphp, fastv, vtw"
    )


def _ask(method: Method | None, layers: int, kv_heads: int, sizes: list[int], text: int, on_vision: bool) -> list[int]:
    """Lengths per layer of one sample, by the method's own verbs on one made-up row of attention."""
    vision, before = sum(sizes), text // 2
    image_of = torch.full((1, text + vision), -1)
    image_of[0, before : before + vision] = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    whole = torch.ones_like(image_of, dtype=torch.bool)
    images = (before + torch.arange(vision)).split(sizes) if sizes else ()
    prompt, tokens = Prompt([list(images)], image_of, whole, (0,)), torch.arange(text + vision)[None]
    lengths = []
    for layer in range(layers):
        lengths.append(image_of.shape[1])
        if method is None:
            continue
        wanted = (image_of >= 0) == on_vision
        row = (wanted.float() / max(int(wanted.sum()), 1)).expand(1, kv_heads, -1)
        count = int((image_of >= 0).sum())
        nothing = torch.zeros(1, kv_heads, image_of.shape[1], 1)
        view = EntryView(
            layer=layer,
            num_layers=layers,
            keys=nothing,
            values=nothing,
            image_of=image_of,
            valid=torch.ones_like(image_of, dtype=torch.bool),
            image_sizes=[sizes],
            vision_counts=(count,),
            text_counts=(text,),
            post_vision=(1,),
            sample_keys=("made up",),
            mutual=False,
            scaling=1.0,
            rotated=partial(Tensor.clone, nothing[:, :, -1:]),
            once=partial(_whatever, row),
            hidden=nothing[:, 0],
            tokens=tokens,
            prompt=prompt,
            coming_row=partial(Tensor.clone, row),
            final_norm=torch.clone,
            embedded=torch.zeros(1, text + vision, 1),
        )
        kept = method.compress(layer, view)
        if kept is not None:
            lengths[-1] = kept.counts[0]
        onward = method.withdraw(layer + 1, view) if layer + 1 < layers else None
        if onward is not None:
            image_of, tokens = image_of[onward.mask][None], tokens[onward.mask][None]
    return lengths


def _whatever(row: Tensor, what: Hashable, compute: object) -> Tensor:
    """The made-up row, whatever is asked of the attention."""
    return row
