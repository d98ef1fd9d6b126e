"""DivPrune: the tokens that are least alike (arXiv 2503.02175)."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from baselines.per_image import PerImage, normalised, whole
from plphp_core.pruning.encode_view import ImageView, KeptTokens


@dataclass(frozen=True)
class DivPrune(PerImage):
    """Before the decoder: of each image, tokens so that the smallest distance between two of them is large.

    https://arxiv.org/abs/2503.02175, written from the paper. Distance is 1 − cosine of the features as they enter the
    decoder. The first token is the one farthest from its nearest neighbour; then always the one farthest from those
    picked. Positions are kept.

    Args:
        ratio: the paper's 0.098 are 56 of LLaVA-1.5's 576 tokens.
        newlines: `"compete"`, as the official code has it; see `PerImage`.

    Raises:
        ValueError: as `PerImage`.
    """

    name: ClassVar[str] = "divprune"
    label: ClassVar[str] = "DivPrune"

    ratio: float = 0.098
    newlines: Literal["compete", "drop", "rows"] = "compete"

    def choose(self, image: ImageView, among: Tensor, budget: int) -> KeptTokens:
        return whole(image, among[farthest(image.features[among], budget)])


def farthest(features: Tensor, number: int) -> Tensor:
    """Max–min diversity, greedily: `(number,)` long, in the order of picking; ties go to the earlier token.

    Args:
        features: `(n, width)`, with n ≥ number.
    """
    unit = normalised(features)
    distance = 1 - unit @ unit.T
    distance.fill_diagonal_(float("inf"))
    picked = [distance.amin(1).argmax()]  # farthest from its nearest
    nearest = torch.full_like(distance[0], float("inf"))
    for _ in range(number - 1):
        # What is picked is out: among equal tokens (newlines) all distances are 0 and it would be picked again.
        nearest = torch.minimum(nearest, distance[picked[-1]]).index_fill(0, torch.stack(picked), float("-inf"))
        picked.append(nearest.argmax())
    return torch.stack(picked)
