"""Controls of methods that shorten the prompt: as many tokens of each image, by chance or evenly spaced."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from baselines.controls import generator_of
from baselines.per_image import ROUNDINGS, check_budget, share_of
from plphp_core.pruning.encode_view import EncodeView
from plphp_core.pruning.method import Method
from plphp_core.pruning.renumbering import POSITIONS
from plphp_core.pruning.selection import Selection
from plphp_core.pruning.validation import choice, require, whole_number
from plphp_core.pruning.view import EntryView


@dataclass(frozen=True)
class _WithdrawControl(Method):
    """The tokens of each image that `places` names go on into layer K; K = 0: they enter the decoder.

    Args:
        K: layers that see every token, 0 … number of layers.
        ratio: kept share of an image's tokens, in [0, 1], at least one token.
        tokens: kept tokens of each image instead.
        rounding: of the share, `"round"`, `"floor"` or `"ceil"`.
        positions: `"keep"` or `"compact"`, as in `PerImage`.

    Raises:
        ValueError: a parameter out of range, or more layers than the model has.
    """

    control: ClassVar[bool] = True

    K: int = 0
    ratio: float = 1 / 3
    tokens: int | None = None
    rounding: Literal["round", "floor", "ceil"] = "round"
    positions: Literal["keep", "compact"] = "keep"

    def __post_init__(self) -> None:
        name = type(self).__name__
        whole_number(name, "K", self.K, 0)
        check_budget(name, self.ratio, self.tokens)
        choice(name, "rounding", self.rounding, tuple(ROUNDINGS))
        choice(name, "positions", self.positions, POSITIONS)

    def check(self, num_layers: int) -> None:
        require(self.K <= num_layers, f"{type(self).__name__}: K = {self.K}, but the model has {num_layers} layers")

    def places(self, image: str, size: int, number: int) -> Tensor:
        """`(number,)` long: which of an image's `size` tokens stay; `image` is its name."""
        raise NotImplementedError

    def encode(self, view: EncodeView) -> Selection | None:
        return self._keep(view) if self.K == 0 else None

    def withdraw(self, layer: int, entry: EntryView) -> Selection | None:
        return self._keep(entry) if layer == self.K else None

    def _keep(self, view: EncodeView | EntryView) -> Selection:
        mask = torch.ones(view.prompt.image_of.shape, dtype=torch.bool)
        for row, (key, images) in enumerate(zip(view.sample_keys, view.prompt.images, strict=True)):
            for number, image in enumerate(images):
                kept = share_of(len(image), self.ratio, self.tokens, self.rounding)
                mask[row, image] = False
                mask[row, image[self.places(f"{key}/{number}", len(image), min(kept, len(image)))]] = True
        return Selection(mask.to(view.image_of.device), tuple(mask.sum(-1).tolist()))


@dataclass(frozen=True)
class RandomWithdraw(_WithdrawControl):
    """Tokens drawn at random. The draw depends on seed, sample and image, not on the batch; fewer are a part of more.

    Args:
        seed: of the draw.
    """

    name: ClassVar[str] = "random_withdraw"
    label: ClassVar[str] = "Random, withdrawn"

    seed: int = 0

    def places(self, image: str, size: int, number: int) -> Tensor:
        return torch.randperm(size, generator=generator_of(f"{self.seed}/{image}"))[:number]


@dataclass(frozen=True)
class UniformWithdraw(_WithdrawControl):
    """Of n tokens, T at even distances, ⌊(i + ½) · n / T⌋: what shrinking the grid would keep."""

    name: ClassVar[str] = "uniform_withdraw"
    label: ClassVar[str] = "Uniform, withdrawn"

    def places(self, image: str, size: int, number: int) -> Tensor:
        return torch.tensor([math.floor((i + 0.5) * size / number) for i in range(number)])
