"""Random tokens enter a layer: the control of methods that shorten the prefill."""

from dataclasses import dataclass
from typing import ClassVar

from baselines.controls import drawn
from plphp_core.pruning.method import Method
from plphp_core.pruning.selection import Selection, top_per_image
from plphp_core.pruning.validation import depth, fraction, require
from plphp_core.pruning.view import EntryView


@dataclass(frozen=True)
class RandomEntry(Method):
    """From layer K on, some vision tokens of each image stay in the residual stream, chosen at random.

    The choice depends on seed and sample, not on the batch that the sample is in; of a sample it is nested: fewer
    tokens are among more.

    Args:
        K: layers that see every vision token, 1 … number of layers.
        ratio: fraction of vision tokens kept; `round(n · ratio)` of an image's n are.
        tokens: kept tokens of each image instead.
        seed: of the choice.

    Raises:
        ValueError: a ratio outside [0, 1], a count below 1, or K outside the model's layers.
    """

    name: ClassVar[str] = "random_entry"
    label: ClassVar[str] = "Random entry"
    control: ClassVar[bool] = True

    K: int = 1
    ratio: float = 0.5
    tokens: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        depth("RandomEntry", self.K)
        fraction("RandomEntry", "ratio", self.ratio)
        fits = self.tokens is None or (type(self.tokens) is int and self.tokens >= 1)
        require(fits, f"RandomEntry: tokens = {self.tokens!r}, but must be None or a whole number from 1 on")

    def check(self, num_layers: int) -> None:
        require(self.K <= num_layers, f"RandomEntry: K = {self.K}, but the model has {num_layers} layers")

    def withdraw(self, layer: int, entry: EntryView) -> Selection | None:
        if layer != self.K:
            return None
        keep = [[self.kept(size) for size in sizes] for sizes in entry.image_sizes]
        scores = drawn(entry, f"{self.seed}/entry", 1).to(entry.image_of.device)
        kept = top_per_image(scores, entry.image_of, entry.vision_counts, keep)
        return Selection(kept.mask[:, 0], kept.counts)

    def kept(self, size: int) -> int:
        """Of an image of `size` tokens."""
        return min(size, round(size * self.ratio) if self.tokens is None else self.tokens)
