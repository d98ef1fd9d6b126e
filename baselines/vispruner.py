"""VisPruner: what the tower attends to, and what is unlike the rest (arXiv 2412.01818)."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from baselines.per_image import best_of, normalised, whole
from baselines.tower_ranked import TowerRanked, mergeable
from plphp_core.pruning.encode_view import ImageView, KeptTokens
from plphp_core.pruning.validation import fraction

REMOVED = 8  # at a time


@dataclass(frozen=True)
class VisPruner(TowerRanked):
    """Before the decoder: of each image the tokens with most attention, and of the others those unlike each other.

    https://arxiv.org/abs/2412.01818; semantics of github.com/Theia-4869/VisPruner at aefa01a. The others are thinned
    step by step: every second one is compared with those between, and the most alike go. With `important` = 1 it is in
    essence FasterVLM. Positions are kept, nothing is merged.

    Args:
        important: share of the kept tokens that attention alone decides, rounded down.

    Raises:
        ValueError: as `TowerRanked`; or a share outside [0, 1].
    """

    name: ClassVar[str] = "vispruner"
    label: ClassVar[str] = "VisPruner"

    important: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        fraction("VisPruner", "important", self.important)

    def choose(self, image: ImageView, among: Tensor, budget: int) -> KeptTokens:
        ranked = best_of(self.attended(image), among, len(among))
        important = math.floor(self.important * budget + 1e-9)
        unit, rest = normalised(mergeable(image)), ranked[important:]
        return whole(image, torch.cat([ranked[:important], thinned(unit, rest, budget - important)]))


def thinned(unit: Tensor, rest: Tensor, number: int) -> Tensor:
    """`number` of the tokens `rest`, those left when the most alike have gone.

    Args:
        unit: `(S_j, width)`, rows of length 1.
        rest: `(n,)` long, by attention.
    """
    if number == 0:
        return rest[:0]
    while len(rest) > number:
        some, others = rest[::2], rest[1::2]
        likest = (unit[some] @ unit[others].T).amax(1)
        some = some[likest.argsort(descending=True, stable=True)]
        rest = torch.cat([some[min(REMOVED, len(rest) - number, len(some)) :], others])
    return rest
