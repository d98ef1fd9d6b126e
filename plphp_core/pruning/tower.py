"""The vision tower: what one of its layers attends to, computed beside it in fp32, and which patches make a token."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from plphp_core.pruning.attention import CHUNK_ROWS
from plphp_core.pruning.hf import tower_attention, tower_padding, tower_projection

# Which layer a method reads: the one whose output the projector is given, or the one behind it, whose input that is; of
# a tower that ends with the former, that one in both cases.
TowerLayer = Literal["features", "behind"]


@dataclass(frozen=True, eq=False)
class Tower:
    """Where a model's vision tower is; a family says so (`Family.tower`).

    Attributes:
        layers: its blocks.
        feature_layer: number of the one whose output the projector is given, 0-based.
        projector: from the tower's width to the decoder's.
        class_token: whether each crop's sequence begins with one.
        pointwise: whether the projector takes patches one by one, so that what is merged in the tower can be projected.
    """

    layers: Sequence[nn.Module]
    feature_layer: int
    projector: nn.Module
    class_token: bool = False
    pointwise: bool = False

    def number(self, which: TowerLayer) -> int:
        """Of the layer that is read."""
        return min(self.feature_layer + (which == "behind"), len(self.layers) - 1)


class TokenPatches(NamedTuple):
    """Of which places in the tower's sequence the tokens of one image are made.

    Attributes:
        places: `(S_j, g)` long, counted from the image's first; −1 for a token of no patch, which ends a row.
        length: tower tokens of the image, class tokens included.
        crop: tower tokens of each of its crops.
        weights: `(S_j, g)` fp32 with rows of sum 1; None: equal ones.
    """

    places: Tensor
    length: int
    crop: int
    weights: Tensor | None = None

    @property
    def newline(self) -> Tensor:
        """`(S_j,)` bool, tokens of no patch."""
        return self.places[:, 0] < 0

    @property
    def crop_of(self) -> Tensor:
        """`(S_j,)` long, the crop of each token, −1 for newlines; of a token between crops that of its first patch."""
        return torch.where(self.newline, -1, self.places[:, 0] // self.crop)


def square_blocks(side: int, factor: int) -> Tensor:
    """Places `(side², factor²)` of a square raster of patches of which `factor` × `factor` make a token."""
    patches = torch.arange((side * factor) ** 2).view(side, factor, side, factor)
    return patches.transpose(1, 2).reshape(side**2, factor**2)


def several_crops(places: Sequence[Tensor], crop: int) -> Tensor:
    """Places `(n, g)` within each of an image's crops, one crop after another."""
    return torch.cat([one + number * crop for number, one in enumerate(places)])


@dataclass(eq=False)
class TowerRun:
    """What a tower did with the images of a batch, one crop after another: one layer's input, and its features.

    Attributes:
        features: output of the feature layer, `(tower tokens, width)`.
        hidden: input of the attention that is read, `(tower tokens, width)`.
        bounds: where its sequences begin and end, for attention stays within one.
        rotary: cos and sin, `(tower tokens, head_dim)`, where the tower rotates.
        padding: `(tower tokens,)` bool, patches of nothing, which nobody attends to; None: there are none.
    """

    tower: Tower
    attention: nn.Module
    features: Tensor = field(default_factory=lambda: torch.empty(0, 0))
    hidden: Tensor = field(default_factory=lambda: torch.empty(0, 0))
    bounds: list[int] = field(default_factory=list)
    rotary: tuple[Tensor, Tensor] | None = None
    padding: Tensor | None = None

    def projected(self, which: Literal["q", "k"], first: int, last: int) -> Tensor:
        """Queries or keys of some tower tokens, rotated where the tower does, `(tokens, heads, head_dim)`."""
        rotary = None if self.rotary is None else tuple(table[first:last] for table in self.rotary)
        return tower_projection(self.attention, self.hidden[first:last], which, rotary)

    def attended(self, first: int, last: int, rows: Literal["cls", "received"], joined: bool = False) -> Tensor:
        """Attention that the tower tokens `first … last` get, `(tokens,)` fp32, a mean over heads; 0 for padding.

        Args:
            rows: from each sequence's first token, or from all of a sequence in the mean, padding left out.
            joined: all heads as one, as PruMerge computes it.
        """
        found = []
        for start, end in zip(self.bounds[:-1], self.bounds[1:], strict=True):
            if start < first or end > last:
                continue
            query, key = (self.projected(which, start, end).float() for which in ("q", "k"))
            padding = None if self.padding is None else self.padding[start:end]
            if rows == "cls":
                query = query[:1]
            elif padding is not None:
                query = query[~padding]
            if joined:
                query, key = (one.flatten(1)[:, None] for one in (query, key))
            query, key = query.transpose(0, 1) * query.shape[-1] ** -0.5, key.permute(1, 2, 0)
            total = torch.zeros(end - start, device=key.device)
            for some in query.split(CHUNK_ROWS, dim=1):
                scores = some @ key
                scores = scores if padding is None else scores.masked_fill(padding, float("-inf"))
                total += scores.softmax(-1).sum(1).mean(0)
            found.append(total / query.shape[1])
        return torch.cat(found)


class TowerWatch:
    """Hooks that note the latest run of a model's tower in each thread, for one layer.

    Attributes:
        layer: number of the layer that is read.
    """

    def __init__(self, tower: Tower, which: TowerLayer):
        self.tower, self.layer = tower, tower.number(which)
        self.attention = tower_attention(tower.layers[self.layer])
        self._threads = threading.local()

    @property
    def run(self) -> TowerRun | None:
        """Of this thread; None before the first and once it is forgotten."""
        return getattr(self._threads, "run", None)

    @run.setter
    def run(self, run: TowerRun | None) -> None:
        self._threads.run = run

    def install(self) -> list[Any]:
        """Hook handles."""
        feature_block = self.tower.layers[self.tower.feature_layer]
        return [
            self.attention.register_forward_pre_hook(self._before_attention, with_kwargs=True),
            feature_block.register_forward_hook(self._after_features),
        ]

    def _before_attention(self, attention: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        run = self._noted(begins=self.layer == self.tower.feature_layer)
        hidden = args[0] if args else kwargs["hidden_states"]
        run.hidden = hidden.detach().flatten(0, -2)
        run.rotary, run.padding = kwargs.get("position_embeddings"), tower_padding(kwargs.get("attention_mask"))
        bounds, length = kwargs.get("cu_seqlens"), hidden.shape[-2]
        run.bounds = list(range(0, len(run.hidden) + 1, length)) if bounds is None else bounds.tolist()

    def _after_features(self, block: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        features = output[0] if isinstance(output, tuple) else output
        self._noted(begins=self.layer != self.tower.feature_layer).features = features.detach().flatten(0, -2)

    def _noted(self, begins: bool) -> TowerRun:
        """The run that begins, or that has begun: a layer's attention comes before its output."""
        if begins or self.run is None:
            self.run = TowerRun(self.tower, self.attention)
        return self.run
