"""Controls: PLPHP without one of its choices, at its own bytes, sample by sample. A method has to beat them."""

import hashlib
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from baselines.budgeted import check_of_cache, compressed_layers, dealt, mean_of_all_heads, of_cache, share_of_cache
from plphp_core.pruning.plphp import PLPHP
from plphp_core.pruning.selection import Selection, top_tokens
from plphp_core.pruning.validation import choice
from plphp_core.pruning.view import LayerView


@dataclass(frozen=True)
class _Control(PLPHP):
    """PLPHP's parameters decide how many tokens stay; with Δr = 0 that is ⌊r·S_j⌋ of every image.

    Args:
        whole_layers: `"plphp"`: the first two layers and the last are left whole, as PLPHP does; `"none"`: no layer is.
        kv_share: instead of r and Δr, share of the prompt's KV cache that is held, as in `Budgeted`, layer by layer
            alike; the images of a sample then compete as one. kv_tokens: the same as a count.
    """

    control: ClassVar[bool] = True

    whole_layers: Literal["plphp", "none"] = "plphp"
    kv_share: float | None = field(default=None, kw_only=True)
    kv_tokens: int | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        choice(type(self).__name__, "whole_layers", self.whole_layers, ("plphp", "none"))
        check_of_cache(self)

    def prunes(self, layer: int, num_layers: int) -> bool:
        return self.whole_layers == "none" or super().prunes(layer, num_layers)

    def counts(self, view: LayerView) -> list[list[int]]:
        if not of_cache(self):
            return super().counts(view)
        layers = compressed_layers(self, view.num_layers)
        place = layers.index(view.layer)
        return [[dealt(total, place, len(layers))] for total in share_of_cache(self, view)]

    def keep(self, view: LayerView, scores: Tensor, counts: list[list[int]]) -> Selection:
        if not of_cache(self) or self.head_budget == "ada":
            return super().keep(view, scores, counts)
        return top_tokens(scores, view.vision, view.vision_counts, tuple(map(sum, counts)))


@dataclass(frozen=True)
class RandomTokens(_Control):
    """As many tokens of each image as PLPHP keeps, layer by layer, chosen at random. Does scoring help at all?

    The choice depends on seed, layer, head and sample, not on the batch that the sample is in.

    Args:
        seed: of the choice.
        shared: one choice per layer for all of its heads.
    """

    name: ClassVar[str] = "random"
    label: ClassVar[str] = "Random"

    seed: int = 0
    shared: bool = False

    def scores(self, view: LayerView) -> Tensor:
        batch, tokens = view.image_of.shape
        heads = 1 if self.shared else view.kv_heads
        drawn = torch.zeros(batch, heads, tokens)
        for row, key in enumerate(view.sample_keys):
            length = view.lengths[row]  # prompts are padded in front
            drawn[row, :, tokens - length :] = torch.rand(
                heads, length, generator=generator_of(f"{self.seed}/{view.layer}/{key}")
            )
        return drawn.expand(-1, view.kv_heads, -1).to(view.image_of.device)


def generator_of(name: str) -> torch.Generator:
    """Random numbers that depend on a name alone."""
    return torch.Generator().manual_seed(int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest()) >> 1)


@dataclass(frozen=True)
class SharedHeads(_Control):
    """PLPHP with one set of tokens per layer, by the mean over all query heads. Do heads of their own help?"""

    name: ClassVar[str] = "shared_heads"
    label: ClassVar[str] = "Shared heads"

    def scores(self, view: LayerView) -> Tensor:
        return mean_of_all_heads(view)


@dataclass(frozen=True)
class Uniform(_Control):
    """PLPHP's tokens in total, in equal parts over the layers. Do layers of their own help? Δr = 0: each keeps r."""

    name: ClassVar[str] = "uniform"

    def observe(self, layer: int, view: LayerView) -> Any:
        if not self.prunes(layer, view.num_layers):
            return None
        return view, self.scores(view), self.counts(view)

    def allocate(self, observed: list[Any]) -> list[Selection | None]:
        seen = [number for number, one in enumerate(observed) if one is not None]
        of_layers = [observed[number][2] for number in seen]
        selections: list[Selection | None] = [None] * len(observed)
        for place, number in enumerate(seen):
            view, scores, _ = observed[number]
            counts = [
                [dealt(total, place, len(seen)) for total in map(sum, zip(*images, strict=True))]
                for images in zip(*of_layers, strict=True)
            ]
            selections[number] = self.keep(view, scores, counts)
        return selections
