"""SnapKV: the tokens that the end of the prompt looks at, smoothed (arXiv 2404.14469)."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from baselines.budgeted import Budgeted, pool
from plphp_core.pruning.attention import group_mean
from plphp_core.pruning.validation import choice, require, whole_number
from plphp_core.pruning.view import LayerView, QueryRows


@dataclass(frozen=True)
class SnapKV(Budgeted):
    """Per KV head, the tokens that the last `window` rows attend to most.

    https://arxiv.org/abs/2404.14469, semantics of github.com/FasterDecoding/SnapKV at e216ddc, with one set per KV head
    (the official cache repeats keys for every query head) and the group's mean.

    Args:
        window_size: rows at the end of the prompt that score. In the scope of vision those behind the last image, at
            most so many, or the last row where the prompt ends in an image; in that of the prompt so many, which stay.
        kernel_size: neighbours that a score is pooled over, odd; in the scope of vision within an image.
        pooling: `"max"`, as in the experiments of the paper, or `"avg"`.

    Raises:
        ValueError: as `Budgeted`; or a kernel that is even.
    """

    name: ClassVar[str] = "snapkv"

    window_size: int = 32
    kernel_size: int = 7
    pooling: Literal["max", "avg"] = "max"

    def __post_init__(self) -> None:
        super().__post_init__()
        name = type(self).__name__
        whole_number(name, "window_size", self.window_size, 1)
        whole_number(name, "kernel_size", self.kernel_size, 1)
        require(self.kernel_size % 2 == 1, f"{name}: kernel_size = {self.kernel_size}, but must be odd")
        choice(name, "pooling", self.pooling, ("max", "avg"))

    @property
    def query_rows(self) -> QueryRows:
        return self.window_size

    def window(self, capacity: int) -> int:
        return self.window_size

    def scores(self, view: LayerView) -> Tensor:
        rows = self.observed(view)
        means = view.column_sum(rows) / view.row_counts(rows)[:, None, None]
        return self.smoothed(view, group_mean(means, view.kv_heads))

    def observed(self, view: LayerView) -> list[int]:
        """Rows that score, per sample."""
        behind = view.post_vision if self.scope == "vision" else view.lengths
        return [min(self.window_size, rows) for rows in behind]

    def smoothed(self, view: LayerView, scores: Tensor) -> Tensor:
        if self.scope == "vision":
            return pool(scores, view.image_of, self.kernel_size, self.pooling)
        before = self.candidates(view, [min(self.window_size, length) for length in view.lengths])
        return pool(scores, torch.where(before, 0, -1), self.kernel_size, self.pooling)
