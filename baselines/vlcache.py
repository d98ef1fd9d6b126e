"""VL-Cache: layers whose attention is dense keep more (arXiv 2410.23317)."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from baselines.budgeted import Budgeted, of_cache, part_of, rounded
from plphp_core.pruning.attention import group_mean
from plphp_core.pruning.selection import Selection
from plphp_core.pruning.validation import fraction
from plphp_core.pruning.view import LayerView, QueryRows


@dataclass(frozen=True)
class VLCache(Budgeted):
    """Budgets by the density of each layer's attention behind the last image, tokens by the attention of those rows.

    https://arxiv.org/abs/2410.23317, Algorithm 1, from the paper (no code is public). Decided after the last layer.
    Desired shares of a layer are clipped to [0.01, 1] and not renormalised, except under `kv_share` or `kv_tokens`,
    which are held exactly; what is left by rounding goes to the largest remainders, up to the budget.

    Args:
        p: entries below this share of their row's largest count as zero, in [0, 1].
        recent: in the scope of the prompt, share of the budget that goes to the last tokens, in [0, 1].

    Raises:
        ValueError: as `Budgeted`; or a share outside of [0, 1].
    """

    name: ClassVar[str] = "vlcache"
    label: ClassVar[str] = "VL-Cache"
    query_rows: ClassVar[QueryRows] = "post_vision"

    p: float = 0.01
    recent: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        fraction("VLCache", "p", self.p)
        fraction("VLCache", "recent", self.recent)

    def window(self, capacity: int) -> int:
        return part_of(self.recent, capacity)

    def scores(self, view: LayerView) -> Tensor:
        return group_mean(view.column_sum(view.post_vision), view.kv_heads)

    def observe(self, layer: int, view: LayerView) -> Any:
        if not self.prunes(layer, view.num_layers):
            return None
        return view, self.scores(view), view.row_density(view.post_vision, self.p).mean(-1)

    def allocate(self, observed: list[Any]) -> list[Selection | None]:
        seen = [number for number, one in enumerate(observed) if one is not None]
        view = observed[seen[0]][0]
        densities = torch.stack([observed[number][2] for number in seen], 1).tolist()  # (batch, layers)
        sizes, least = self.sizes(view), int(self.scope == "prompt")
        exact = of_cache(self)
        kept = [
            layer_budgets(*sample, least, exact) for sample in zip(densities, self.totals(view), sizes, strict=True)
        ]
        selections: list[Selection | None] = [None] * len(observed)
        for place, number in enumerate(seen):
            view, scores, _ = observed[number]
            selections[number] = self.choose(view, scores, [budgets[place] for budgets in kept])
        return selections


def layer_budgets(density: list[float], total: int, size: int, least: int, exact: bool = False) -> list[int]:
    """Tokens that each layer keeps of a sample, `total` together unless a share is clipped.

    Args:
        density: share of large entries, per layer.
        total: the budget of all layers, in tokens.
        size: tokens of a layer that it is a part of.
        least: tokens that every layer keeps.
        exact: clipped shares are made up for by the others.
    """
    layers = len(density)
    if total >= layers * size:
        return [size] * layers
    # A layer without a large entry grows too, where all the others are full.
    shares = [max(value / sum(density), 1e-9) if sum(density) else 1 / layers for value in density]
    low = max(0.01 * size, least)

    def desired(scale: float) -> list[float]:
        return [min(max(share * scale, min(low, total / layers) if exact else low), size) for share in shares]

    below, above = 0.0, size / min(shares)
    for _ in range(100 if exact else 0):
        middle = (below + above) / 2
        below, above = (middle, above) if sum(desired(middle)) < total else (below, middle)
    wanted = desired(above if exact else total)
    return rounded(wanted, total if exact else min(total, math.floor(sum(wanted) + 1e-6)))
