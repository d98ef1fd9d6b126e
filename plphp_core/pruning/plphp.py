"""PLPHP: per-layer per-head vision token pruning (arXiv 2502.14504, section 3.2)."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from plphp_core.pruning.method import Method
from plphp_core.pruning.selection import Selection, head_budgets, top_per_image, top_tokens
from plphp_core.pruning.validation import choice, fraction, require
from plphp_core.pruning.view import LayerView

FIRST_PRUNED_LAYER = 2  # the first two layers and the last one look at images globally and are left whole
OWN_SHARE = 0.2  # of its budget that a head keeps in any case under head_budget = "ada", as AdaKV advises with GQA


@dataclass(frozen=True)
class PLPHP(Method):
    """Layers that attend to vision keep more of it, and every head keeps its own tokens.

    https://arxiv.org/abs/2502.14504. Prefill is exact; only what later tokens can read of layers 2 … N−2 changes.

    Args:
        r: retention rate of a balanced layer.
        delta_r: added in vision-attentive layers, taken away in vision-indifferent ones; `0 ≤ Δr ≤ r ≤ 1 − Δr`.
        alpha: γ from which a layer is vision-attentive.
        beta: γ below which a layer is vision-indifferent; `β ≤ α`.
        gqa: how the query heads that share a KV head vote, `"mean"` or `"max"`.
        head_budget: `"equal"` as in the paper; `"ada"`, an experiment: the heads of a layer compete for its tokens as
            in AdaKV (a fifth of its budget is each head's own), over the images of a sample together.

    Raises:
        ValueError: a constraint of equation 9 does not hold.
    """

    name: ClassVar[str] = "plphp"

    r: float = 0.4
    delta_r: float = 0.3
    alpha: float = 0.25
    beta: float = 0.1
    gqa: Literal["mean", "max"] = "mean"
    head_budget: Literal["equal", "ada"] = "equal"

    def __post_init__(self) -> None:
        for name in ("r", "delta_r", "alpha", "beta"):
            fraction("PLPHP", name, getattr(self, name))
        require(self.beta <= self.alpha, f"PLPHP: beta = {self.beta} > alpha = {self.alpha}; beta ≤ alpha is needed")
        require(self.delta_r <= self.r, f"PLPHP: delta_r = {self.delta_r} > r = {self.r}; delta_r ≤ r is needed")
        # 0.7 + 0.3 is 1 on paper but not always in floating point.
        require(
            self.r + self.delta_r <= 1 + 1e-9,
            f"PLPHP: r + delta_r = {self.r} + {self.delta_r} > 1; r ≤ 1 − delta_r is needed",
        )
        choice("PLPHP", "gqa", self.gqa, ("mean", "max"))
        choice("PLPHP", "head_budget", self.head_budget, ("equal", "ada"))

    def retention(self, gamma: float) -> float:
        """r^l (equation 9) of a layer whose last prompt token puts `gamma` of its attention on vision."""
        if gamma >= self.alpha:
            return self.r + self.delta_r  # vision-attentive
        if gamma < self.beta:
            return self.r - self.delta_r  # vision-indifferent
        return self.r  # vision-balanced

    def compress(self, layer: int, view: LayerView) -> Selection | None:
        if not self.prunes(layer, view.num_layers):
            return None
        return self.keep(view, self.scores(view), self.counts(view))

    def prunes(self, layer: int, num_layers: int) -> bool:
        """Whether a layer is pruned at all."""
        return is_pruned(layer, num_layers)

    def counts(self, view: LayerView) -> list[list[int]]:
        """K_j: tokens that a layer keeps of each image, per sample."""
        gammas = view.vision_attention.tolist()  # equation 8
        rates = [self.retention(gamma) for gamma in gammas]  # equation 9
        # Equation 10. Floor: the kept part "does not exceed" r^l (figure 4). 1e-9: 0.7 · 10 may be 6.999… in binary.
        return [
            [math.floor(rate * size + 1e-9) for size in sizes]
            for rate, sizes in zip(rates, view.image_sizes, strict=True)
        ]

    def scores(self, view: LayerView) -> Tensor:
        """Equation 11: what the query heads of a KV head make of a token, `(batch, kv_heads, tokens)`, fp32."""
        if self.gqa == "mean":
            return view.group_row
        return view.last_row.unflatten(1, (view.kv_heads, -1)).amax(2)

    def keep(self, view: LayerView, scores: Tensor, counts: list[list[int]]) -> Selection:
        """Equation 12: per image, each KV head keeps its best tokens."""
        if self.head_budget == "equal":
            return top_per_image(scores, view.image_of, view.vision_counts, counts)
        budgets = head_budgets(scores, view.vision, [sum(images) for images in counts], OWN_SHARE)
        return top_tokens(scores, view.vision, view.vision_counts, budgets)


def is_pruned(layer: int, num_layers: int) -> bool:
    """Whether a layer is none of those that PLPHP leaves whole."""
    return FIRST_PRUNED_LAYER <= layer <= num_layers - 2
