"""AdaKV: the heads of a layer compete for its budget (arXiv 2407.11550)."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from baselines.budgeted import of_cache
from baselines.snapkv import SnapKV
from plphp_core.pruning.selection import Count, head_budgets
from plphp_core.pruning.validation import fraction, require


@dataclass(frozen=True)
class AdaKV(SnapKV):
    """As SnapKV, but heads whose scores are concentrated give slots to heads whose scores are spread.

    https://arxiv.org/abs/2407.11550, scores of github.com/FFY0/AdaKV at efe4e2e. Heads really hold different numbers of
    tokens, and the cache that many bytes. Of every head's budget B, ⌊α·B⌋ are its own; the rest go to the layer's best
    scores, whatever their head. The layer keeps exactly heads · B (as kvpress counts; the official code rounds each
    head's share after the competition, see `official_rounding`).

    Args:
        alpha: share of its budget that a head keeps in any case, in [0, 1]; 1 is SnapKV.
        normalize: weigh a head's scores by the share of its mass that its best B hold, as later code bases do.
        official_rounding: round(c·(1 − α) + ⌊α·B⌋) of the c that a free competition gives a head: not always B on
            average.

    Raises:
        ValueError: as `SnapKV`; or α outside of [0, 1], or `official_rounding` under `kv_share`.
    """

    name: ClassVar[str] = "adakv"

    alpha: float = 0.2
    normalize: bool = False
    official_rounding: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        fraction("AdaKV", "alpha", self.alpha)
        exact = not (of_cache(self) and self.official_rounding)
        part = "kv_tokens" if self.kv_share is None else "kv_share"
        require(exact, f"AdaKV: {part} is held exactly, which official_rounding does not do; leave out one of them")

    def head_budgets(self, scores: Tensor, candidates: Tensor, keep: list[int]) -> tuple[Count, ...]:
        if self.normalize:
            scores = scores * concentration(scores.masked_fill(~candidates[:, None], 0), keep)
        if not self.official_rounding:
            return head_budgets(scores, candidates, keep, self.alpha)
        free = head_budgets(scores, candidates, keep, 0)
        return tuple(
            tuple(round(count * (1 - self.alpha) + math.floor(self.alpha * mean)) for count in heads)
            for heads, mean in zip(free, keep, strict=True)
        )


def concentration(scores: Tensor, keep: list[int]) -> Tensor:
    """Share of each head's mass that its best `keep` scores hold, `(batch, heads, 1)`."""
    best = scores.sort(-1, descending=True).values.cumsum(-1)
    total = best[..., -1:].clamp(min=1e-30)
    held = torch.stack([row[:, max(number, 1) - 1, None] for row, number in zip(best, keep, strict=True)])
    return held / total
