"""One stage of a training: how many steps, how fast, on what."""

from __future__ import annotations

import math
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Stage:
    """A learning rate with a linear warm-up and a cosine over `horizon` steps (default: all) to `floor` of the peak."""

    name: str
    steps: int
    rate: float
    batch: int
    warmup: int = 100
    horizon: int | None = None
    floor: float = 0.02
    mixture: dict[str, float] = field(default_factory=dict)  # how often a batch comes from each group; empty: vision

    def rate_at(self, step: int) -> float:
        cosine = 0.5 * (1 + math.cos(math.pi * step / (self.horizon or self.steps)))
        return self.rate * min(1.0, (step + 1) / self.warmup) * (self.floor + (1 - self.floor) * cosine)
