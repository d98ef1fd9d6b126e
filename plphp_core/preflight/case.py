"""What is checked, and what earlier checks found out for later ones."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from plphp_core.config.run_settings import Settings
from plphp_core.families.base import Family

if TYPE_CHECKING:
    from plphp_core.preflight.checkpoint import Checkpoint
    from plphp_core.preflight.data import TaskData
    from plphp_core.preflight.longest import LongestPrompt


@dataclass(eq=False)
class Case:
    """A run that somebody is about to start.

    Attributes:
        settings: of that run.
        weights: whether to load the real weights.
        checkpoint: files and tensor shapes, once located.
        config: the checkpoint's transformers configuration.
        model: its model on the meta device: every shape, no numbers.
        tokenizer, processor: as the family loads them.
        metrics: of the chosen benchmarks: name → aggregation over items.
        tasks: what is known of each benchmark whose data could be opened.
        longest: size of the longest prompt of those benchmarks.
    """

    settings: Settings
    weights: bool = True
    checkpoint: Checkpoint | None = None
    config: Any = None
    model: Any = None
    tokenizer: Any = None
    processor: Any = None
    metrics: dict[str, Callable] = field(default_factory=dict)
    tasks: list[TaskData] = field(default_factory=list)
    longest: LongestPrompt | None = None

    @functools.cached_property
    def family(self) -> Family:
        return self.settings.model.make_family()

    @property
    def dtype(self):
        """The torch dtype that weights are loaded in."""
        import torch

        return getattr(torch, self.settings.model.dtype)
