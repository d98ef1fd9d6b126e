"""Random tokens enter a layer: the control of methods that shorten the prefill."""

from dataclasses import dataclass
from typing import ClassVar

from baselines.controls import drawn
from plphp_core.pruning.encode_view import EncodeView
from plphp_core.pruning.method import Method
from plphp_core.pruning.prompt import Prompt
from plphp_core.pruning.selection import Selection, top_per_image
from plphp_core.pruning.validation import enters, fraction, require
from plphp_core.pruning.view import EntryView


@dataclass(frozen=True)
class RandomEntry(Method):
    """Some vision tokens of each image, chosen at random, enter layer K and all later ones.

    The choice depends on seed and sample, not on K nor on the batch that the sample is in; fewer tokens are among more.

    Args:
        K: layers that see every vision token, 0 … number of layers − 1; 0: tokens leave before the decoder.
        ratio: fraction of vision tokens kept; `round(n · ratio)` of an image's n are.
        tokens: kept tokens of each image instead.
        seed: of the choice.

    Raises:
        ValueError: a ratio outside [0, 1], a count below 1, or a layer that the model does not have.
    """

    name: ClassVar[str] = "random_entry"
    label: ClassVar[str] = "Random entry"
    control: ClassVar[bool] = True

    K: int = 0
    ratio: float = 0.5
    tokens: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        fits = type(self.K) is int and self.K >= 0
        require(fits, f"RandomEntry: K = {self.K!r}, but must be a whole number from 0 on")
        fraction("RandomEntry", "ratio", self.ratio)
        fits = self.tokens is None or (type(self.tokens) is int and self.tokens >= 1)
        require(fits, f"RandomEntry: tokens = {self.tokens!r}, but must be None or a whole number from 1 on")

    def check(self, num_layers: int) -> None:
        if self.K:
            enters("RandomEntry", "K", self.K, num_layers)

    def encode(self, view: EncodeView) -> Selection | None:
        return self.choose(view.prompt) if self.K == 0 else None

    def withdraw(self, layer: int, entry: EntryView) -> Selection | None:
        return self.choose(entry.prompt) if layer == self.K else None

    def choose(self, prompt: Prompt) -> Selection:
        """Of every image, so many tokens."""
        tokens = prompt.image_of.shape[1]
        scores = drawn(f"{self.seed}/entry", prompt.sample_keys, prompt.lengths, tokens, 1)
        keep = [[self.kept(size) for size in sizes] for sizes in prompt.image_sizes]
        device = prompt.image_of.device
        kept = top_per_image(scores.to(device), prompt.image_of, tuple(prompt.vision_counts), keep)
        return Selection(kept.mask[:, 0], kept.counts)

    def kept(self, size: int) -> int:
        """Of an image of `size` tokens."""
        return min(size, round(size * self.ratio) if self.tokens is None else self.tokens)
