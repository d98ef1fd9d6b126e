"""H2O: heavy hitters, the tokens that all rows of the prompt look at (arXiv 2306.14048)."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from baselines.budgeted import Budgeted, part_of
from plphp_core.pruning.attention import group_mean
from plphp_core.pruning.validation import fraction
from plphp_core.pruning.view import LayerView


@dataclass(frozen=True)
class H2O(Budgeted):
    """Per KV head, the tokens that receive the most attention from all query rows.

    https://arxiv.org/abs/2306.14048, once after the prefill, as EffiVLM-Bench runs it on vision-language models; the
    paper also evicts at every decode step.

    Args:
        recent: in the scope of the prompt, share of the budget that goes to the last tokens, at least one; in [0, 1].

    Raises:
        ValueError: as `Budgeted`; or `recent` outside of [0, 1].
    """

    name: ClassVar[str] = "h2o"
    query_rows: ClassVar[None] = None  # all of them

    recent: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        fraction("H2O", "recent", self.recent)

    def window(self, capacity: int) -> int:
        return part_of(self.recent, capacity)

    def scores(self, view: LayerView) -> Tensor:
        return group_mean(view.mean_row(), view.kv_heads)
