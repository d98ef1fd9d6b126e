"""TOVA: the tokens that the last one looks at, the same in every head (arXiv 2401.06104)."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from baselines.budgeted import Budgeted, mean_of_all_heads
from plphp_core.pruning.view import LayerView


@dataclass(frozen=True)
class TOVA(Budgeted):
    """One set per layer: the tokens with the highest attention from the last row, averaged over all heads.

    https://arxiv.org/abs/2401.06104, once after the prefill; the paper evicts at every step. In the scope of the prompt
    the last token stays, as in kvpress at 8bb29b9.
    """

    name: ClassVar[str] = "tova"

    def window(self, capacity: int) -> int:
        return 1

    def scores(self, view: LayerView) -> Tensor:
        return mean_of_all_heads(view)
