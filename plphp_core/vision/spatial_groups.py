"""Five spatial groups of an image's vision tokens (Figure 2), which the paper draws without saying how they are cut."""

from __future__ import annotations

import torch
from torch import Tensor

from plphp_core.pruning.validation import require

GROUPS = 5
LABELS = {
    "bands": ("top", "upper", "middle", "lower", "bottom"),
    "centre": ("centre", "top left", "top right", "bottom left", "bottom right"),
    "order": ("first fifth", "second fifth", "third fifth", "fourth fifth", "last fifth"),
}
CUTS = tuple(LABELS)


def group_of(boxes: Tensor, cut: str) -> Tensor:
    """The group of every token of an image, `(tokens,)` long, 0 … 4; −1 for a token that is in none.

    bands: five horizontal bands of equal height, by the middle of the token's box. centre: the middle quarter of the
    image's area, and the quadrants of the rest. order: five runs of the token sequence, as equal as can be, newline
    tokens included. In the first two, tokens without a place on the image are in no group.

    Args:
        boxes: `(tokens, 4)`, as `Family.token_boxes` makes them.

    Raises:
        ValueError: an unknown cut.
    """
    require(cut in CUTS, f"unknown cut {cut!r} of an image into groups; allowed: {', '.join(CUTS)}")
    if cut == "order":
        return torch.arange(len(boxes)) * GROUPS // max(len(boxes), 1)
    x, y = (boxes[:, 0] + boxes[:, 2]) / 2, (boxes[:, 1] + boxes[:, 3]) / 2
    inside = (x >= 0) & (x <= 1) & (y >= 0) & (y <= 1)  # False for nan
    x, y = x.nan_to_num(), y.nan_to_num()
    if cut == "bands":
        group = (y * GROUPS).long().clamp(0, GROUPS - 1)
    else:
        in_middle = ((x - 0.5).abs() < 0.25) & ((y - 0.5).abs() < 0.25)
        group = torch.where(in_middle, 0, 1 + (x >= 0.5).long() + 2 * (y >= 0.5).long())
    return torch.where(inside, group, -1)


def group_masses(values: Tensor, groups: Tensor) -> Tensor:
    """Sums of `values` `(…, tokens)` over the groups 0 … 4 and then over tokens in none, `(…, 6)`."""
    member = torch.stack([groups == group for group in (*range(GROUPS), -1)], dim=-1).to(values)
    return values @ member
