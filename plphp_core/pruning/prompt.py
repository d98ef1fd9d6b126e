"""Where the vision tokens of each image sit in a prompt."""

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor

from plphp_core.pruning.validation import require


@dataclass(frozen=True, eq=False)
class Prompt:
    """A prefilled batch of prompts.

    Attributes:
        images: per sample, the prompt positions of each image (long, on the CPU); all crops of an image are one image.
        image_of: `(batch, prompt_length)` long, index of the token's image in its sample; −1 for text and padding.
        valid: `(batch, prompt_length)` bool, False for padding.
        padding: padding tokens, per sample.
        sample_keys: what a sample is called, for draws that should not depend on its batch: see `sample_keys`.
        mutual: whether the tokens of an image see each other in both directions.
        input_ids: `(batch, prompt_length)`.
        questions: what each sample asks, in words, where `questions` says it; else empty.
    """

    images: list[list[Tensor]]
    image_of: Tensor
    valid: Tensor
    padding: tuple[int, ...]
    sample_keys: tuple[str, ...] = ()
    mutual: bool = False
    input_ids: Tensor | None = None
    questions: tuple[str, ...] = ()

    @functools.cached_property
    def image_sizes(self) -> list[list[int]]:
        """S_j: tokens of each image, per sample."""
        return [[len(image) for image in images] for images in self.images]

    @property
    def ends_in_image(self) -> bool:
        """Whether the last token of some prompt belongs to an image."""
        length = self.image_of.shape[1]
        return any(bool(images) and int(images[-1][-1]) == length - 1 for images in self.images)

    @property
    def text_behind(self) -> int:
        """Tokens behind the last image, in the sample that has fewest."""
        return min(self._behind())

    @functools.cached_property
    def post_vision(self) -> tuple[int, ...]:
        """Query rows behind the last image, per sample; one, the last, where there are none or there is no image."""
        return tuple(max(rows, 1) if images else 1 for rows, images in zip(self._behind(), self.images, strict=True))

    def _behind(self) -> list[int]:
        length = self.image_of.shape[1]
        return [length - 1 - int(images[-1][-1]) if images else length for images in self.images]

    @functools.cached_property
    def text_counts(self) -> list[int]:
        """Tokens that are neither vision nor padding, per sample."""
        length = self.image_of.shape[1]
        return [length - n - pads for n, pads in zip(self.vision_counts, self.padding, strict=True)]

    @functools.cached_property
    def lengths(self) -> list[int]:
        """Prompt tokens without padding, per sample."""
        return [self.image_of.shape[1] - pads for pads in self.padding]

    @functools.cached_property
    def vision_counts(self) -> list[int]:
        """Vision tokens, per sample."""
        return [sum(sizes) for sizes in self.image_sizes]


def read_prompt(
    input_ids: Tensor,
    image_token_id: int,
    image_sizes: list[int],
    attention_mask: Tensor | None,
    mutual: bool = False,
) -> Prompt:
    """Split the image tokens of each sample by the images' own sizes (never by runs: adjacent images form one run).

    Args:
        input_ids: `(batch, prompt_length)`, each image token already repeated once per vision token.
        image_sizes: tokens of every image of the batch, in order.
        attention_mask: `(batch, prompt_length)`, or `(batch, 1, prompt_length, prompt_length or more)`, as for a static
            cache, or None for no padding.
        mutual: as in `Prompt`.

    Raises:
        ValueError: sizes and image tokens disagree, or the prompts are not padded on the left.
    """
    valid = _valid(input_ids, attention_mask)
    ids, is_valid = input_ids.cpu(), valid.cpu()
    require(
        bool(is_valid[:, -1].all()),
        "prompts are padded on the right, but the last prompt token decides what is kept: set padding_side='left'",
    )
    require(
        bool(is_valid[ids == image_token_id].all()),
        "attention_mask hides some image tokens; leave the image out of the prompt instead",
    )
    remaining = list(image_sizes)
    images, image_of = [], torch.full(ids.shape, -1, dtype=torch.long)
    for sample, row in enumerate(ids):
        positions = (row == image_token_id).nonzero().flatten()
        sizes: list[int] = []
        while sum(sizes) < len(positions):
            require(bool(remaining), f"sample {sample} has more image tokens than its images have features")
            sizes.append(remaining.pop(0))
        require(
            sum(sizes) == len(positions),
            f"sample {sample} has {len(positions)} image tokens, which does not divide into images of {sizes} tokens",
        )
        images.append(list(positions.split(sizes)) if sizes else [])
        for j, image in enumerate(images[-1]):
            image_of[sample, image] = j
    require(not remaining, f"{len(remaining)} images have no image tokens in the prompt")
    padding = tuple((~is_valid).sum(-1).tolist())
    keys = _sample_keys(ids, is_valid)
    return Prompt(images, image_of.to(input_ids.device), valid, padding, keys, mutual, input_ids, _questions(len(ids)))


@contextmanager
def sample_keys(keys: Sequence[object]) -> Iterator[None]:
    """Within the block, the samples of a batch are called `keys`, as in `view.sample_keys`; else by their token ids."""
    token = _KEYS.set(tuple(map(str, keys)))
    try:
        yield
    finally:
        _KEYS.reset(token)


@contextmanager
def questions(texts: Sequence[str]) -> Iterator[None]:
    """Within the block, the samples of a batch ask `texts`: for methods that rank by words, as `image.question`."""
    token = _QUESTIONS.set(tuple(texts))
    try:
        yield
    finally:
        _QUESTIONS.reset(token)


_QUESTIONS: ContextVar[tuple[str, ...]] = ContextVar("plphp_questions", default=())


def _questions(batch: int) -> tuple[str, ...]:
    """One per row of the batch: beams of a sample ask the same; none where their number does not fit."""
    given = _QUESTIONS.get()
    repeats = batch // len(given) if given and batch % len(given) == 0 else 0
    return tuple(text for text in given for _ in range(repeats))


_KEYS: ContextVar[tuple[str, ...]] = ContextVar("plphp_sample_keys", default=())


def _sample_keys(ids: Tensor, valid: Tensor) -> tuple[str, ...]:
    """`ids`, `valid`: `(batch, prompt_length)`, on the CPU. Beams of a sample have its key."""
    given = _KEYS.get()
    if given and len(ids) % len(given) == 0:
        return tuple(key for key in given for _ in range(len(ids) // len(given)))
    return tuple(str(row[shown].tolist()) for row, shown in zip(ids, valid, strict=True))


def _valid(input_ids: Tensor, attention_mask: Tensor | None) -> Tensor:
    if attention_mask is None:
        return torch.ones_like(input_ids, dtype=torch.bool)
    if attention_mask.ndim == 4:  # already a causal mask: what the last row may see
        row = attention_mask[:, 0, -1, : input_ids.shape[1]]
        row = row if row.dtype == torch.bool else row >= 0
        return row.expand(input_ids.shape).to(input_ids.device)
    return attention_mask.bool().to(input_ids.device)
