"""MixKV: importance and diversity, mixed head by head (arXiv 2510.20707)."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from baselines.snapkv import SnapKV
from plphp_core.pruning.validation import fraction
from plphp_core.pruning.view import LayerView


@dataclass(frozen=True)
class MixKV(SnapKV):
    """SnapKV's score and the norm of the value, and how unlike the other keys a key is, weighed by their redundancy.

    https://arxiv.org/abs/2510.20707. score = (1 − r̄)·(attention + ‖v‖) + r̄·(−⟨k̂, mean k̂⟩), value norm and diversity
    scaled to [0, 1] and then to the attention's mean; r̄ is the mean cosine of two keys of the head. The released code
    (github.com/xuyang-liu16/MixKV at 850ec26) computes r̄ and then uses a table made offline for one model; here it is
    each prompt's own, as in the paper's ablation.

    Args:
        weight: of diversity in place of r̄, in [0, 1]; None: r̄.

    Raises:
        ValueError: as `SnapKV`; or a weight outside of [0, 1].
    """

    name: ClassVar[str] = "mixkv"

    kernel_size: int = 5
    pooling: Literal["max", "avg"] = "avg"
    weight: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weight is not None:
            fraction("MixKV", "weight", self.weight)

    def scores(self, view: LayerView) -> Tensor:
        attention = super().scores(view)
        among = self.candidates(view, [min(self.window_size, length) for length in view.lengths])[:, None]
        unit = normalize(view.keys.float(), dim=-1) * view.valid[:, None, :, None]
        lengths = view.valid.sum(-1).view(-1, 1, 1)
        mean = unit.sum(2, keepdim=True) / lengths[..., None]
        redundancy = (lengths * mean.square().sum(-1) - 1) / (lengths - 1).clamp(min=1)
        if self.weight is not None:
            redundancy = torch.full_like(redundancy, self.weight)
        norms = scaled(view.values.float().norm(dim=-1), attention, among)
        diversity = scaled(-(unit * mean).sum(-1), attention, among)
        return (1 - redundancy) * (attention + norms) + redundancy * diversity


def scaled(values: Tensor, like: Tensor, among: Tensor) -> Tensor:
    """`values` min-max scaled over the tokens `among`, then to the mean of `like`; equal ones become 0."""
    low = values.masked_fill(~among, float("inf")).amin(-1, keepdim=True)
    high = values.masked_fill(~among, float("-inf")).amax(-1, keepdim=True)
    unit = ((values - low) / (high - low)).nan_to_num(0.0, 0.0, 0.0).masked_fill(~among, 0)
    means = (unit.sum(-1, keepdim=True), like.masked_fill(~among, 0).sum(-1, keepdim=True))
    return unit * (means[1] / means[0]).nan_to_num(0.0, 0.0, 0.0)
