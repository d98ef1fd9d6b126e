"""What methods share that rank an image's tokens by the attention of the vision tower."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from baselines.per_image import PerImage
from plphp_core.pruning.encode_view import ImageView
from plphp_core.pruning.tower import Tower, TowerLayer
from plphp_core.pruning.validation import choice, require


@dataclass(frozen=True)
class TowerRanked(PerImage):
    """As `PerImage`, by the layer of the vision tower whose output the projector is given.

    Args:
        attention: whose attention ranks: the `"cls"` token's; what a token has `"received"`, the mean over all rows of
            its crop; `"auto"`: the class token's in towers that have one, else received.

    Raises:
        ValueError: as `PerImage`; a family whose tokens are made of no known patches; `"cls"` in a tower without one.
    """

    attention: Literal["auto", "cls", "received"] = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        choice(type(self).__name__, "attention", self.attention, ("auto", "cls", "received"))

    @property
    def tower_layer(self) -> TowerLayer:
        return "features"

    def check_tower(self, tower: Tower) -> None:
        require(
            self.attention != "cls" or tower.class_token,
            "attention = 'cls', but it has no class token: take 'received' or 'auto'",
        )

    def attended(self, image: ImageView, joined: bool = False) -> Tensor:
        """`(S_j,)` fp32: the higher, the more looked at."""
        by_class = self.attention == "cls" or (self.attention == "auto" and image.has_class_token)
        return image.tower_attention("cls" if by_class else "received", joined)


def mergeable(image: ImageView) -> Tensor:
    """Features that tokens are compared and merged by, `(S_j, width)` fp32.

    The tower's own where a token is a patch, so that what is merged can be projected; else those entering the decoder.
    """
    return image.tower_features if image.projects else image.features.float()


def entering(image: ImageView, merged: Tensor) -> Tensor:
    """What was merged of `mergeable` features, `(n, width)`, as it enters the decoder."""
    return image.project(merged) if image.projects else merged.to(image.features.dtype)


def others_of(image: ImageView, among: Tensor, chosen: Tensor) -> Tensor:
    """The tokens `among` that are not `chosen`, in their order."""
    left = torch.zeros(len(image), dtype=torch.bool, device=among.device).index_fill(0, among, True)
    return left.index_fill(0, chosen, False).nonzero()[:, 0]
