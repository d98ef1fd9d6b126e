"""VTW: visual tokens withdrawal (arXiv 2405.05803)."""

from dataclasses import dataclass
from typing import ClassVar

from plphp_core.pruning.method import Method
from plphp_core.pruning.selection import Selection
from plphp_core.pruning.validation import require, whole_number
from plphp_core.pruning.view import EntryView


@dataclass(frozen=True)
class VTW(Method):
    """From layer K on, no vision token stays in the residual stream.

    https://arxiv.org/abs/2405.05803; semantics of github.com/lzhxmu/VTW at a3d8cfc, with every image's tokens withdrawn
    (the original removes one span of the last image's length).

    Args:
        K: layers that see vision, 1 … number of layers.

    Raises:
        ValueError: K outside the model's layers.
    """

    name: ClassVar[str] = "vtw"

    K: int = 14

    def __post_init__(self) -> None:
        whole_number("VTW", "K", self.K, 1)

    def check(self, num_layers: int) -> None:
        require(self.K <= num_layers, f"VTW: K = {self.K}, but the model has {num_layers} layers")

    def withdraw(self, layer: int, entry: EntryView) -> Selection | None:
        if layer != self.K:
            return None
        tokens = entry.image_of.shape[1]
        return Selection(~entry.vision, tuple(tokens - n for n in entry.vision_counts))
