"""DART: tokens unlike a few pivots stay, duplicates leave (arXiv 2502.11494)."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from baselines.budgeted import last_tokens
from plphp_core.pruning.method import Method
from plphp_core.pruning.renumbering import POSITIONS
from plphp_core.pruning.selection import Selection
from plphp_core.pruning.validation import choice, enters, fraction, require, whole_number
from plphp_core.pruning.view import EntryView


@dataclass(frozen=True)
class DART(Method):
    """Before layer K, a few pivots stay, and for each of them in turn the vision tokens that resemble it least.

    https://arxiv.org/abs/2502.11494; semantics of github.com/ZichenWen1/DART. Pivots are the tokens whose keys in layer
    K−1 have the largest L1 norm, among vision tokens and among the text behind the last image. Resemblance is the
    cosine of the states that enter layer K, after the decoder's last norm. Of n vision tokens stay the vision pivots
    and t for every pivot, taken by the vision pivots first, by descending norm. All images of a sample compete as one.

    Args:
        K: layers that see every vision token, 1 … number of layers − 1.
        R: fraction of vision tokens dropped; t = ⌊n · (1 − R) / pivots⌋.
        tokens: instead of R, t = ⌊tokens / pivots⌋, as their scripts for LLaVA say it: 128 keeps 4 + 128.
        vision_pivots: how many; fewer where there are fewer tokens.
        text_pivots: the same.
        positions: as in `PyramidDrop`; `"keep"` as in their code.

    Raises:
        ValueError: a parameter out of range, or a layer that the model does not have.
    """

    name: ClassVar[str] = "dart"

    K: int = 2
    R: float = 0.778
    tokens: int | None = None
    vision_pivots: int = 4
    text_pivots: int = 4
    positions: Literal["keep", "compact"] = "keep"

    def __post_init__(self) -> None:
        whole_number("DART", "K", self.K, 1)
        fraction("DART", "R", self.R)
        whole_number("DART", "vision_pivots", self.vision_pivots, 0)
        whole_number("DART", "text_pivots", self.text_pivots, 0)
        whole_number("DART", "tokens", self.tokens, 0, optional=True)
        require(self.vision_pivots + self.text_pivots > 0, "DART: vision_pivots = text_pivots = 0: nothing to resemble")
        choice("DART", "positions", self.positions, POSITIONS)

    def check(self, num_layers: int) -> None:
        enters("DART", "K", self.K, num_layers)

    def withdraw(self, layer: int, entry: EntryView) -> Selection | None:
        if layer != self.K:
            return None
        counted = list(zip(entry.vision_counts, entry.post_vision, strict=True))
        vision = [min(self.vision_pivots, n) for n, _ in counted]
        text = [min(self.text_pivots, rows) if n else 0 for n, rows in counted]
        pivots = [v + t for v, t in zip(vision, text, strict=True)]
        each = [self.each(n, number) for (n, _), number in zip(counted, pivots, strict=True)]
        more = [number * t for number, t in zip(pivots, each, strict=True)]
        counts = tuple(min(n, v + m) for n, v, m in zip(entry.vision_counts, vision, more, strict=True))
        if counts == entry.vision_counts:
            return None
        places, kept = self.pivots(entry, vision, text)
        mask = self.unlike(entry, places, kept, torch.tensor(each, device=kept.device))
        text_and_padding = [entry.vision.shape[1] - n for n in entry.vision_counts]
        return Selection(mask | ~entry.vision, tuple(a + b for a, b in zip(text_and_padding, counts, strict=True)))

    def each(self, n: int, pivots: int) -> int:
        """t: vision tokens that each pivot adds, of `n`."""
        if not pivots:
            return 0
        return self.tokens // pivots if self.tokens is not None else int(n * (1 - self.R) / pivots)

    def pivots(self, entry: EntryView, vision: list[int], text: list[int]) -> tuple[Tensor, Tensor]:
        """Places of the pivots, `(batch, most)`, −1 for none; and those of vision as a mask `(batch, tokens)`."""
        norms = entry.keys.float().abs().sum((1, 3))
        tokens = norms.shape[1]
        behind = last_tokens(entry.valid, entry.post_vision)
        found = []
        for candidates, numbers in ((entry.vision, vision), (behind & ~entry.vision, text)):
            order = norms.masked_fill(~candidates, -1).argsort(dim=-1, descending=True, stable=True)[:, : max(numbers)]
            rank = torch.arange(order.shape[1], device=order.device)
            found.append(order.masked_fill(rank >= torch.tensor(numbers, device=order.device)[:, None], -1))
        chosen = torch.zeros(len(norms), tokens + 1, dtype=torch.bool, device=norms.device)
        return torch.cat(found, 1), chosen.scatter_(1, found[0] % (tokens + 1), True)[:, :tokens]

    def unlike(self, entry: EntryView, pivots: Tensor, kept: Tensor, each: Tensor) -> Tensor:
        """Vision tokens that stay, `(batch, tokens)`: `kept`, and for every pivot the `each` least like it."""
        states = normalize(entry.final_norm(entry.hidden).float(), dim=-1)
        rank = torch.arange(kept.shape[1], device=kept.device).expand_as(kept)
        for pivot in pivots.T:
            state = states.gather(1, pivot.clamp(min=0)[:, None, None].expand(-1, -1, states.shape[-1]))
            cosine = (states * state).sum(-1)
            free = entry.vision & ~kept
            order = cosine.masked_fill(~free, float("inf")).argsort(dim=-1, stable=True)
            taken = (rank < torch.where(pivot < 0, 0, each)[:, None]) & free.gather(1, order)
            kept = kept | torch.zeros_like(kept).scatter_(1, order, taken)
        return kept
