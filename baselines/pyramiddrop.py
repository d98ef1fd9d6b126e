"""PyramidDrop: vision tokens leave in stages (arXiv 2410.17247)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from plphp_core.pruning.method import Method
from plphp_core.pruning.renumbering import POSITIONS
from plphp_core.pruning.selection import Selection, top_tokens
from plphp_core.pruning.validation import choice, enters, falling, fraction, numbers, stages
from plphp_core.pruning.view import EntryView


@dataclass(frozen=True)
class PyramidDrop(Method):
    """Before each layer of a list, only the vision tokens that the last prompt token attends to most go on.

    https://arxiv.org/abs/2410.17247; semantics of github.com/Cooperx521/PyramidDrop at 6444f30: the row that the
    *entered* layer's own projections give, mean over query heads, fp32; `int(n · ratio)` tokens of the n that the
    prompt began with. The vision tokens of all images of a sample compete as one.

    Args:
        layer_list: layers before which tokens leave, ascending, 1 … number of layers − 1. Lists may be written as text,
            "8+16+24".
        image_token_ratio_list: kept fraction of the prompt's vision tokens from each of these layers on, never rising.
        of: whose row ranks: `"entering"`, of the layer that is entered, as in their code; `"previous"`, of the layer
            before it, as in their text.
        positions: `"keep"`: a token keeps its own, the only way under M-RoPE; `"compact"`: counted anew at every stage,
            as in their code, and in runs where that is possible.

    Raises:
        ValueError: lists of different lengths, out of order or out of range; layers that the model does not have.
    """

    name: ClassVar[str] = "pyramiddrop"
    label: ClassVar[str] = "PyramidDrop"

    layer_list: Sequence[int] | str = (8, 16, 24)
    image_token_ratio_list: Sequence[float] | str = (0.5, 0.25, 0.125)
    of: Literal["entering", "previous"] = "entering"
    positions: Literal["keep", "compact"] = "keep"

    def __post_init__(self) -> None:
        object.__setattr__(self, "layer_list", numbers("PyramidDrop", "layer_list", self.layer_list, int))
        ratios = numbers("PyramidDrop", "image_token_ratio_list", self.image_token_ratio_list, float)
        object.__setattr__(self, "image_token_ratio_list", ratios)
        for ratio in ratios:
            fraction("PyramidDrop", "image_token_ratio_list", ratio)
        falling("PyramidDrop", "image_token_ratio_list", ratios)
        stages("PyramidDrop", "layer_list", self.layer_list, "image_token_ratio_list", ratios)
        choice("PyramidDrop", "of", self.of, ("entering", "previous"))
        choice("PyramidDrop", "positions", self.positions, POSITIONS)

    def check(self, num_layers: int) -> None:
        for layer in self.layer_list:
            enters("PyramidDrop", "layer_list", int(layer), num_layers)

    def withdraw(self, layer: int, entry: EntryView) -> Selection | None:
        ratio: Any = dict(zip(self.layer_list, self.image_token_ratio_list, strict=True)).get(layer)
        if ratio is None:
            return None
        began = (sum(sizes) for sizes in entry.image_sizes)
        keep = tuple(min(int(n * ratio), now) for n, now in zip(began, entry.vision_counts, strict=True))
        if keep == entry.vision_counts:
            return None
        row = entry.entering_row() if self.of == "entering" else entry.last_row
        kept = top_tokens(row.mean(1, keepdim=True), entry.vision, entry.vision_counts, keep)
        return Selection(kept.mask[:, 0], kept.counts)
