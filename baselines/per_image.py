"""What encode methods share: image by image, or crop by crop, so many tokens stay."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from plphp_core.pruning.encode_view import EncodeView, ImageView, KeptTokens
from plphp_core.pruning.method import Method
from plphp_core.pruning.renumbering import POSITIONS
from plphp_core.pruning.selection import Selection
from plphp_core.pruning.validation import choice, fraction, require, whole_number

ROUNDINGS: dict[str, Callable[[float], int]] = {
    "round": round,
    "floor": lambda x: math.floor(x + 1e-9),
    "ceil": lambda x: math.ceil(x - 1e-9),
}
CHOICES: dict[str, Sequence[str]] = {
    "rounding": tuple(ROUNDINGS),
    "per": ("image", "crop"),
    "newlines": ("compete", "drop", "rows"),
    "positions": POSITIONS,
}


def check_budget(owner: str, ratio: object, tokens: object) -> None:
    """Raise ValueError unless these can say how many tokens stay."""
    fraction(owner, "ratio", ratio)
    whole_number(owner, "tokens", tokens, 1, optional=True)


def share_of(size: int, ratio: float, tokens: int | None, rounding: str) -> int:
    """Kept of `size` tokens: `tokens`, or the share, at least 1."""
    return max(ROUNDINGS[rounding](ratio * size), 1) if tokens is None else tokens


@dataclass(frozen=True)
class PerImage(Method):
    """Some of each image's tokens enter the decoder, as many as the budget says, decided image by image.

    A budget of an image's size or more leaves the image as it is.

    Args:
        ratio: kept share of an image's tokens, in [0, 1].
        tokens: kept tokens of each image instead, as papers count.
        rounding: of the share, `"round"` (half to even, as Python's), `"floor"` or `"ceil"`.
        per: what the budget is of, `"image"` or each `"crop"` (tile) of it.
        newlines: tokens that end a row of tiles: `"compete"` like others; `"drop"`: they go, unless everything stays;
            `"rows"`: beside the budget stay those of rows that keep a token.
        positions: `"keep"`: a token that stays keeps its position, as official codes for Qwen-VL have it; `"compact"`:
            positions are counted anew, as those for LLaVA do, where a position is one number.

    Raises:
        ValueError: a parameter outside of what is allowed; a budget per crop in a family without known patches.
    """

    ratio: float = 1 / 3
    tokens: int | None = None
    rounding: Literal["round", "floor", "ceil"] = "round"
    per: Literal["image", "crop"] = "image"
    newlines: Literal["compete", "drop", "rows"] = "drop"
    positions: Literal["keep", "compact"] = "keep"

    def __post_init__(self) -> None:
        name = type(self).__name__
        check_budget(name, self.ratio, self.tokens)
        for field, allowed in CHOICES.items():
            choice(name, field, getattr(self, field), allowed)
        alone = self.per == "image" or self.newlines != "compete"
        require(alone, f"{name}: per = 'crop' with newlines = 'compete', but newlines are of no crop: drop or rows")

    def choose(self, image: ImageView, among: Tensor, budget: int) -> KeptTokens:
        """Some of the tokens `among` `(n,)` long, of one image or crop.

        Args:
            budget: at least 1, below n; as many tokens stay at most.
        """
        raise NotImplementedError

    def budgets(self, image: ImageView, units: list[Tensor]) -> list[int]:
        """Tokens to keep of each unit, the image or its crops; at least 1. An image's newlines count in its size."""
        sizes = [len(image)] if self.per == "image" else [len(unit) for unit in units]
        return [share_of(size, self.ratio, self.tokens, self.rounding) for size in sizes]

    def encode(self, view: EncodeView) -> Selection | None:
        return view.select([[self._of(image) for image in images] for images in view.images])

    def _of(self, image: ImageView) -> KeptTokens | None:
        """What is kept of one image; None: all of it."""
        require(
            self.per == "image" or image.patches is not None,
            f"{type(self).__name__}: per = 'crop', but this family does not say which crop a token is of: take 'image'",
        )
        newline = image.newline if self.newlines != "compete" else torch.zeros_like(image.newline)
        crops = image.crop_of if self.per == "crop" else torch.where(newline, -1, 0)
        units = [(crops == crop).nonzero()[:, 0] for crop in range(int(crops.max()) + 1)]
        budgets = self.budgets(image, units)
        enough = all(budget >= len(unit) for budget, unit in zip(budgets, units, strict=True))
        if enough and (self.per == "crop" or budgets[0] >= len(image) or not bool(newline.any())):
            return None
        parts = [
            self.choose(image, unit, budget) if budget < len(unit) else whole(image, unit)
            for unit, budget in zip(units, budgets, strict=True)
        ]
        kept = joined(parts)
        if self.newlines == "rows" and bool(newline.any()):
            kept.mask.logical_or_(ends_of_rows(image, kept.mask))
        return kept


def whole(image: ImageView, among: Tensor) -> KeptTokens:
    """These tokens, unchanged."""
    mask = torch.zeros(len(image), dtype=torch.bool, device=among.device)
    return KeptTokens(mask.index_fill(0, among, True))


def joined(parts: list[KeptTokens]) -> KeptTokens:
    """What is kept of several parts of an image."""
    mask = torch.stack([part.mask for part in parts]).any(0)
    written = [part for part in parts if part.slots is not None]
    if not written:
        return KeptTokens(mask)
    weighted = all(part.weights is not None for part in written)
    return KeptTokens(
        mask,
        torch.cat([part.slots for part in written]),
        torch.cat([part.features for part in written]),
        torch.cat([part.weights for part in written]) if weighted else None,
    )


def ends_of_rows(image: ImageView, mask: Tensor) -> Tensor:
    """Of `(S_j,)` bool: the newlines of rows that keep a token. A base crop, which ends in none, belongs to no row."""
    newline, crops = image.newline, image.crop_of
    row = newline.cumsum(0) - newline.long()  # a newline is of the row that it ends
    in_row = torch.ones_like(mask) if int(crops.max()) == 0 else crops > 0
    used = torch.zeros(len(mask), dtype=torch.bool, device=mask.device).index_fill(0, row[mask & in_row], True)
    return newline & used[row]


def best_of(scores: Tensor, among: Tensor, count: int) -> Tensor:
    """The `count` of the tokens `among` with the highest `scores` `(S_j,)`, in the order of their scores; ties go to
    the earlier one."""
    return among[scores[among].argsort(descending=True, stable=True)[:count]]


def normalised(features: Tensor) -> Tensor:
    """Rows of length 1, in fp32; a row of zeros stays one."""
    return torch.nn.functional.normalize(features.float(), dim=-1, eps=1e-12)
