"""Which tokens stay: masks, their counts, and the gather that turns them into smaller tensors."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Selection:
    """Tokens that stay.

    Attributes:
        mask: bool, `(batch, kv_heads, tokens)` for `compress`, `(batch, tokens)` for `withdraw`. Text and padding are
            True (padding goes later, by itself).
        counts: True entries per sample; every head of a sample keeps equally many, so the kept part is a rectangle.
            Plain integers, because a count becomes a shape and reading it back from the device would wait for it.
    """

    mask: Tensor
    counts: tuple[int, ...]


def top_per_image(
    scores: Tensor, image_of: Tensor, vision_counts: tuple[int, ...], budget: list[list[int]]
) -> Selection:
    """Keep, per head and image, the `budget` tokens with the highest score, and all text.

    Ties go to the earlier token. One stable sort, no loop over images and no device synchronisation.

    Args:
        scores: `(batch, heads, tokens)`, fp32.
        image_of: `(batch, tokens)`, index of the token's image in its sample, −1 for text and padding.
        vision_counts: tokens with `image_of ≥ 0`, per sample.
        budget: tokens to keep of each image, per sample; lists may differ in length.
    """
    batch, heads, tokens = scores.shape
    most = max((len(row) for row in budget), default=0)
    # Column 0 stands for text, which is always kept.
    limit = torch.tensor([[tokens, *row, *[0] * (most - len(row))] for row in budget])
    limit = limit.to(scores.device, non_blocking=True)

    # Sorted by group, then by score from high to low, then by position.
    key, order = ((image_of + 1)[:, None] * 2**32 - _ordinal(scores)).sort(dim=-1, stable=True)
    group = (key[:, 0] + (2**31 - 1)) >> 32  # the same for every head
    first = torch.searchsorted(group, torch.arange(most + 1, device=group.device).expand(batch, -1).contiguous())
    rank = torch.arange(tokens, device=group.device) - first.gather(-1, group)
    keep_sorted = rank < limit.gather(-1, group)

    mask = torch.zeros_like(scores, dtype=torch.bool).scatter_(-1, order, keep_sorted[:, None].expand(-1, heads, -1))
    return Selection(mask, tuple(tokens - n + sum(row) for n, row in zip(vision_counts, budget, strict=True)))


def _ordinal(scores: Tensor) -> Tensor:
    """int32 numbers in the order of fp32 `scores`: the bits of a float, read as an integer, grow with it."""
    bits = (scores.float() + 0.0).view(torch.int32)  # + 0.0, since −0 is no less than 0
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)  # of a negative number they grow the other way


def gather_index(mask: Tensor, counts: tuple[int, ...]) -> tuple[Tensor, Tensor | None]:
    """Positions of the True entries, in order, right-aligned in a rectangle.

    A sample that keeps fewer tokens than the longest one is filled up *in front* with tokens that are not kept, as left
    padding would be; the caller masks them.

    Args:
        mask: bool, `(batch, …, tokens)`; `counts[b]` True entries along the last axis.

    Returns:
        index: long, `(batch, …, max(counts))`.
        filler: bool, `(batch, max(counts))`, True in the slots that only fill up; None if there are none.
    """
    width = max(counts)
    if min(counts) == width and mask.device.type == "cpu":  # others would have to wait for the number of entries
        return mask.nonzero()[:, -1].view(*mask.shape[:-1], width), None
    index = mask.to(torch.int8).argsort(dim=-1, stable=True)[..., mask.shape[-1] - width :]
    if min(counts) == width:
        return index, None
    missing = torch.tensor([width - count for count in counts]).to(mask.device, non_blocking=True)
    return index, torch.arange(width, device=mask.device) < missing[:, None]
