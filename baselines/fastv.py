"""FastV: an image is worth half its tokens after layer K (arXiv 2403.06764)."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from plphp_core.pruning.method import Method
from plphp_core.pruning.selection import Selection, top_per_image
from plphp_core.pruning.validation import choice, fraction, require, whole_number
from plphp_core.pruning.view import EntryView


@dataclass(frozen=True)
class FastV(Method):
    """From layer K on, only the vision tokens that layer K−1 attended to most stay in the residual stream.

    https://arxiv.org/abs/2403.06764, the variant with KV cache; semantics of github.com/pkunlp-icler/FastV at d165972:
    one global ranking over the pooled tokens of all images, original positions, text always kept.

    Args:
        K: layers that see every vision token, 1 … number of layers.
        R: fraction of vision tokens dropped; `round(n · (1 − R))` of n are kept.
        rows: which rows of layer K−1's attention rank the tokens: `"last"` as in their code, `"all"` as in their text.

    Raises:
        ValueError: R outside [0, 1], or K outside the model's layers.
    """

    name: ClassVar[str] = "fastv"

    K: int = 3
    R: float = 0.5
    rows: Literal["last", "all"] = "last"

    def __post_init__(self) -> None:
        whole_number("FastV", "K", self.K, 1)
        fraction("FastV", "R", self.R)
        choice("FastV", "rows", self.rows, ("last", "all"))

    @property
    def query_rows(self) -> int | None:
        return 1 if self.rows == "last" else None

    def check(self, num_layers: int) -> None:
        require(self.K <= num_layers, f"FastV: K = {self.K}, but the model has {num_layers} layers")

    def withdraw(self, layer: int, entry: EntryView) -> Selection | None:
        if layer != self.K:
            return None
        row = entry.last_row if self.rows == "last" else entry.mean_row()
        pooled = entry.image_of.clamp(max=0)  # all images of a sample compete as one
        keep = [[round(sum(sizes) * (1 - self.R))] if sizes else [] for sizes in entry.image_sizes]
        kept = top_per_image(row.mean(1, keepdim=True), pooled, entry.vision_counts, keep)
        return Selection(kept.mask[:, 0], kept.counts)
