"""VisionZip: the patches that the tower attends to, and the rest merged into a few (arXiv 2412.04467)."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from baselines.per_image import best_of, normalised, whole
from baselines.tower_ranked import TowerRanked, entering, mergeable, others_of
from plphp_core.pruning.encode_view import ImageView, KeptTokens
from plphp_core.pruning.validation import choice, fraction


@dataclass(frozen=True)
class VisionZip(TowerRanked):
    """Before the decoder: of each image its dominant tokens, and contextual ones, into which the others are merged.

    https://arxiv.org/abs/2412.04467; semantics of github.com/dvlab-research/VisionZip at 3151f6d. Dominant are those
    with most attention. Of the others, evenly spaced ones are targets; each of the rest joins the target whose keys are
    most like its own, and a target becomes its feature plus its members' mean, before the projector where a token is a
    patch. A contextual token has its target's place. A budget, `ratio` or `tokens`, is of dominant and contextual
    tokens together, the class token among them.

    Args:
        contextual: share of these that is contextual, rounded down: the paper's 30 of 192, 20 of 128, 10 of 64.
        merge: `"sum"` of target and members' mean, as in the official code, or `"mean"` of target and members.
        class_token: whether the first dominant token is the tower's class token, where it has one and a token is a
            patch: of each image the first crop's, with `per="crop"` each crop's. It takes the place of the first token
            that goes.

    Raises:
        ValueError: as `TowerRanked`; or a share outside [0, 1].
    """

    name: ClassVar[str] = "visionzip"
    label: ClassVar[str] = "VisionZip"

    contextual: float = 1 / 6.4
    merge: Literal["sum", "mean"] = "sum"
    class_token: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        fraction("VisionZip", "contextual", self.contextual)
        choice("VisionZip", "merge", self.merge, ("sum", "mean"))

    def choose(self, image: ImageView, among: torch.Tensor, budget: int) -> KeptTokens:
        with_class = self.class_token and image.has_class_token and image.projects
        contextual = min(math.floor(self.contextual * budget + 1e-9), budget - with_class)
        dominant = best_of(self.attended(image), among, budget - contextual - with_class)
        rest = others_of(image, among, dominant)
        targets = rest[:: max(1, len(rest) // max(contextual, 1))][:contextual]
        members = others_of(image, rest, targets)
        features, slots, weights = mergeable(image), targets, None
        merged = features[targets]
        if contextual:
            keys = normalised(image.tower_keys.mean(1))
            joins = (keys[members] @ keys[targets].T).argmax(1)
            weights = self._weights(image, targets, members, joins)
            merged = weights @ features
        new = entering(image, merged)
        if with_class and image.class_features is not None:
            crop = image.class_features[image.crop_of[among[:1]]]
            slots, new = torch.cat([slots, members[:1]]), torch.cat([new, image.project(crop)])
        kept = whole(image, torch.cat([dominant, slots]))
        return KeptTokens(kept.mask, slots, new, None if image.projects else weights) if len(slots) else kept

    def _weights(
        self, image: ImageView, targets: torch.Tensor, members: torch.Tensor, joins: torch.Tensor
    ) -> torch.Tensor:
        """Of which tokens the contextual ones are made, `(contextual, S_j)`."""
        share = torch.zeros(len(targets), len(image), device=image.features.device)
        share[joins, members] = 1.0
        number = share.sum(1, keepdim=True)
        share = share / (number + 1 if self.merge == "mean" else number.clamp(min=1))
        own = 1 / (number[:, 0] + 1) if self.merge == "mean" else torch.ones_like(number[:, 0])
        share[torch.arange(len(targets), device=share.device), targets] = own
        return share
