"""What the trainer, the tests and the measurements need to know of a toy model; one subclass per family in `models`."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from plphp_core.families import get_family
from plphp_core.families.base import Family
from tasks.toy import models
from tasks.toy.prompts import context
from tasks.toy.samples import Sample
from tasks.toy.stage import Stage

CHECKPOINTS = Path(__file__).parent / "checkpoints"


class Toy:
    """A toy model: its files, its prompts, its image tokens, its training.

    Images are always drawn scenes: SIZE x SIZE pixels (96), uint8 (n, 3, SIZE, SIZE) in training.
    """

    name: ClassVar[str]  # of the family in plphp_core
    image_token: ClassVar[str]  # stands in the prompt's ids where an image token goes
    end: ClassVar[str]  # ends an answer
    stages: ClassVar[tuple[Stage, ...]]  # in order; a stage without mixture trains the vision part
    styles: ClassVar[dict[str, float]] = {"lmms_eval": 1.0}  # how often a training batch has prompts of each style
    cells: ClassVar[tuple[int, ...]]  # the place (0-8) that each token of one of several images shows, -1: none

    @property
    def checkpoint(self) -> Path:
        return CHECKPOINTS / self.name

    @cached_property
    def family(self) -> Family:
        return get_family(self.name)

    # --- files -----------------------------------------------------------------------------------------------------

    def build_processor(self):
        """The Hugging Face processor, its tokenizer included, as the checkpoint has it."""
        raise NotImplementedError

    def build_model(self, seed: int) -> tuple[nn.Module, object]:
        """Where training starts: a float32 model and its processor."""
        raise NotImplementedError

    # --- what it reads ---------------------------------------------------------------------------------------------

    def chat(self, sample: Sample, style: str = "lmms_eval") -> str:
        """The chat string that the evaluation makes of a sample, one mark per image."""
        return get_family(self.name, style).prompt(context(sample), len(sample.scenes))

    def expand(self, chat: str, alone: bool) -> str:
        """The chat string as the processor hands it to the tokenizer: every mark once per image token."""
        return chat.replace(self.image_token, self.image_token * self.tokens_per_image(alone))

    def tokens_per_image(self, alone: bool) -> int:
        """Image tokens of an image, alone in its prompt or one of several."""
        return len(self.cells)

    def image_tokens(self, model: nn.Module, images: Tensor, alone: bool, learn_tower: bool = False) -> Tensor:
        """uint8 images (n, 3, SIZE, SIZE) → what replaces the image tokens' embeddings, (n, tokens_per_image, D).

        As the processor and the model's `get_image_features` make them (a test compares). No gradient reaches the
        vision tower unless `learn_tower`.
        """
        raise NotImplementedError

    def positions(self, ids: Tensor, image_mask: Tensor) -> Tensor:
        """ids (batch, length), right-padded → rotary positions (batch, length), or (3, batch, length) for M-RoPE."""
        return torch.arange(ids.shape[1]).expand_as(ids)

    # --- what is trained -------------------------------------------------------------------------------------------

    def tower(self, model: nn.Module) -> nn.Module:
        """The vision tower, which only vision stages train."""
        raise NotImplementedError

    def lesson(self, model: nn.Module, tokenizer) -> nn.Module:
        """The vision stage's loss: called with (stage, rng), gives the loss and numbers to show.

        Its own parameters are trained and saved with the state, but do not belong to the checkpoint. Without a vision
        stage there is nothing to learn.
        """
        return nn.Module()

    def vision_parameters(self, model: nn.Module) -> list[nn.Parameter]:
        """What of the model the vision stage trains."""
        return []


def toy_names() -> list[str]:
    """Families that have a toy model."""
    return sorted(info.name for info in pkgutil.iter_modules(models.__path__))


def get_toy(name: str) -> Toy:
    """The toy of a family.

    Raises:
        ValueError: no toy of this name; the message lists the known ones.
    """
    if name not in toy_names():
        raise ValueError(f"unknown toy model {name!r}; known: {', '.join(toy_names())}")
    return importlib.import_module(f"tasks.toy.models.{name}").TOY
