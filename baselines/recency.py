"""Recency: the last tokens, a control; in the scope of the prompt StreamingLLM's choice (arXiv 2309.17453)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from baselines.budgeted import Budgeted
from plphp_core.pruning.validation import whole_number
from plphp_core.pruning.view import LayerView


@dataclass(frozen=True)
class Recency(Budgeted):
    """The same tokens in every layer and head, whatever the prompt says: the last ones.

    Args:
        sinks: in the scope of the prompt, first tokens that stay too. Positions are those of the prompt; the original
            StreamingLLM counts positions within the cache.

    Raises:
        ValueError: as `Budgeted`; or a negative number of sinks.
    """

    name: ClassVar[str] = "recency"
    control: ClassVar[bool] = True

    sinks: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        whole_number("Recency", "sinks", self.sinks, 0)

    def window(self, capacity: int) -> int:
        return 1

    def scores(self, view: LayerView) -> Tensor:
        tokens = view.valid.shape[1]
        place = torch.arange(tokens, device=view.valid.device).expand(len(view.valid), -1).float()
        if self.scope == "prompt":
            starts = torch.tensor([tokens - length for length in view.lengths], device=view.valid.device)[:, None]
            place = place.masked_fill(place < starts + self.sinks, tokens)
        return place[:, None].expand(-1, view.kv_heads, -1)
