"""PruMerge and PruMerge+: outliers of the tower's attention, and evenly spaced tokens, merged (arXiv 2403.15388)."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from baselines.per_image import best_of, normalised, whole
from baselines.tower_ranked import TowerRanked, entering, mergeable, others_of
from plphp_core.pruning.encode_view import ImageView, KeptTokens
from plphp_core.pruning.tower import TowerLayer
from plphp_core.pruning.validation import require, whole_number


@dataclass(frozen=True)
class PruMerge(TowerRanked):
    """Before the decoder: each image's outliers in attention, and for "+" evenly spaced tokens, with others merged in.

    https://arxiv.org/abs/2403.15388; semantics of github.com/42Shawn/LLaVA-PruMerge at 097c041. Outliers have attention
    above the third quartile by more than 1.5 times the distance between the quartiles. To every kept token the tokens
    most like it by their keys are added, each times its attention; a last token is the sum of all that go. Attention is
    that of the layer behind the one of the features, with all heads as one. Positions are kept.

    Args:
        adaptive: outliers decide how many tokens stay, and no budget can be given; False: `ratio` or `tokens` does, the
            last token included.
        plus: beside the outliers, evenly spaced tokens: about four times as many, or with a given number what is left
            of it. False, with a given number: those with most attention.
        neighbours: tokens that are added to each kept one.
        extra: whether there is the last token; it takes the place of the first that goes.

    Raises:
        ValueError: as `TowerRanked`; neighbours below 0; or a budget where outliers decide.
    """

    name: ClassVar[str] = "prumerge"
    label: ClassVar[str] = "PruMerge+"

    adaptive: bool = True
    plus: bool = True
    neighbours: int = 32
    extra: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        whole_number("PruMerge", "neighbours", self.neighbours, 0)
        for name in ("ratio", "tokens", "rounding"):
            value = getattr(self, name)
            require(
                not self.adaptive or value == getattr(PruMerge, name),
                f"PruMerge: {name} = {value!r}, but with adaptive = True outliers decide how many tokens stay: leave "
                "it out, or take adaptive = False",
            )

    @property
    def tower_layer(self) -> TowerLayer:
        return "behind"

    def budgets(self, image: ImageView, units: list[Tensor]) -> list[int]:
        if not self.adaptive:
            return super().budgets(image, units)
        return [len(self._spread(image, unit, self._outliers(image, unit))) + self.extra for unit in units]

    def choose(self, image: ImageView, among: Tensor, budget: int) -> KeptTokens:
        scores, kept = self.attended(image, joined=True), self._outliers(image, among)
        if self.adaptive:
            kept = self._spread(image, among, kept)
        else:
            number = max(budget - self.extra, 1)
            kept = self._filled(image, among, kept, number) if self.plus else best_of(scores, among, number)
        gone = others_of(image, among, kept)
        weights = self._weights(image, among, kept, scores)
        slots = kept
        if self.extra and self.adaptive | (budget > 1):
            last = torch.zeros_like(weights[:1]).index_copy(1, gone, scores[gone][None])
            weights, slots = torch.cat([weights, last]), torch.cat([kept, gone[:1]])
        merged = entering(image, weights @ mergeable(image))
        return KeptTokens(whole(image, slots).mask, slots, merged, None if image.projects else weights)

    def _outliers(self, image: ImageView, among: Tensor) -> Tensor:
        """By attention; one at least, the highest."""
        scores = self.attended(image, joined=True)
        low, high = torch.quantile(scores[among], torch.tensor([0.25, 0.75], device=scores.device))
        number = int((scores[among] > high + 1.5 * (high - low)).sum())
        return best_of(scores, among, max(number, 1))

    def _spread(self, image: ImageView, among: Tensor, outliers: Tensor) -> Tensor:
        """For "+" every so-manieth token too, three for each that outliers would be apart."""
        if not self.plus:
            return outliers
        grid = among[: len(among) - 1 : max(len(among) // len(outliers) // 3, 1)]
        return torch.cat([outliers, others_of(image, grid, outliers)])

    def _filled(self, image: ImageView, among: Tensor, outliers: Tensor, number: int) -> Tensor:
        """`number` tokens: outliers first, then others at even distances."""
        outliers = outliers[:number]
        rest = others_of(image, among, outliers)
        missing = number - len(outliers)
        at = [math.floor((i + 0.5) * len(rest) / missing) for i in range(missing)]
        return torch.cat([outliers, rest[torch.tensor(at, dtype=torch.long, device=rest.device)]])

    def _weights(self, image: ImageView, among: Tensor, kept: Tensor, scores: Tensor) -> Tensor:
        """Of which tokens the kept ones are made, `(kept, S_j)`: itself, and its neighbours times their attention."""
        keys = normalised(image.tower_keys.flatten(1))
        like = torch.full((len(kept), len(image)), float("-inf"), device=keys.device)
        like[:, among] = keys[kept] @ keys[among].T
        own = torch.zeros_like(like).scatter(1, kept[:, None], 1.0)
        like = like.scatter(1, kept[:, None], float("-inf"))
        near = like.argsort(dim=1, descending=True, stable=True)[:, : min(self.neighbours, len(among) - 1)]
        return own.scatter(1, near, scores[near]).scatter(1, kept[:, None], 1.0)
