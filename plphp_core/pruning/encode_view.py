"""What an `encode` method may look at: the images of a prompt, before the decoder's first layer."""

from __future__ import annotations

import functools
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from plphp_core.pruning.prompt import Prompt
from plphp_core.pruning.selection import Selection, Written
from plphp_core.pruning.tower import TokenPatches, TowerRun
from plphp_core.pruning.validation import choice, require


@dataclass(frozen=True, eq=False)
class ImageView:
    """One image of a sample. What costs anything is computed when a method asks, once.

    Attributes:
        features: `(S_j, hidden size)`, its tokens as they enter the decoder.
        patches: which places of the tower's sequence its tokens are made of; None where the family does not say.
        first: where its own places begin in `run`.
        run: of the tower; None unless the method's `tower_layer` asks for it.
        text: embeddings of the sample's text behind its last image, `(n, hidden size)`.
        question: what the sample asks, in words; None where nobody said so (see `plphp_core.pruning.prompt.questions`).
    """

    features: Tensor
    patches: TokenPatches | None
    first: int
    run: TowerRun | None
    text: Tensor
    question: str | None = None
    _attended: dict[Hashable, Tensor] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.features)

    @property
    def newline(self) -> Tensor:
        """`(S_j,)` bool: tokens that end a row of tiles and show nothing; none where the family does not say."""
        if self.patches is None:
            return torch.zeros(len(self), dtype=torch.bool, device=self.features.device)
        return self.patches.newline.to(self.features.device)

    @property
    def crop_of(self) -> Tensor:
        """`(S_j,)` long: the crop (tile) that a token is of, −1 for newlines.

        Raises:
            ValueError: the family does not say which patches its tokens are made of.
        """
        return self._located().crop_of.to(self.features.device)

    def tower_attention(self, rows: Literal["cls", "received"], joined: bool = False) -> Tensor:
        """Attention that each token gets in the layer that the method's `tower_layer` names, `(S_j,)` fp32.

        A mean over heads, and over a token's patches; 0 for newlines. In fp32, some rows at a time.

        Args:
            rows: the class token's, or the mean of all rows of a crop.
            joined: all heads as one.

        Raises:
            ValueError: other rows; `rows="cls"` and the tower has no class token; or the tower was not watched.
        """
        run = self._run()
        choice("tower_attention", "rows", rows, ("cls", "received"))
        require(rows == "received" or run.tower.class_token, "rows = 'cls', but the vision tower has no class token")
        if (rows, joined) not in self._attended:
            self._attended[rows, joined] = self.of_tokens(run.attended(self.first, self._last, rows, joined))
        return self._attended[rows, joined]

    @property
    def has_class_token(self) -> bool:
        """Whether each crop of the tower begins with a class token."""
        return self._run().tower.class_token

    @functools.cached_property
    def tower_features(self) -> Tensor:
        """What the tower hands on of each token, before the projector: `(S_j, tower width)`, mean of its patches."""
        return self.of_tokens(self._run().features[self.first : self._last])

    @functools.cached_property
    def tower_keys(self) -> Tensor:
        """`(S_j, heads, head_dim)`, rotated where the tower rotates, mean of a token's patches."""
        return self.of_tokens(self._run().projected("k", self.first, self._last))

    @functools.cached_property
    def tower_queries(self) -> Tensor:
        """As `tower_keys`."""
        return self.of_tokens(self._run().projected("q", self.first, self._last))

    @property
    def class_features(self) -> Tensor | None:
        """The class token of each crop before the projector, `(crops, tower width)`; None in towers without one."""
        run = self._run()
        if not run.tower.class_token:
            return None
        return run.features[self.first : self._last : self._located().crop].to(self.features.device)

    @property
    def projects(self) -> bool:
        """Whether a token is one patch that the projector takes alone, so that `project` can be used."""
        located = self._located()
        return self._run().tower.pointwise and located.places.shape[1] == 1

    def project(self, features: Tensor) -> Tensor:
        """`(n, tower width)` → `(n, hidden size)`: through the model's own projector, in its dtype."""
        run = self._run()
        return run.tower.projector(features.to(run.features)[None])[0].to(self.features.device)

    def of_tokens(self, values: Tensor) -> Tensor:
        """Values of the image's places, `(places, …)`, as those of its tokens, `(S_j, …)` fp32; 0 for newlines."""
        located = self._located()
        places = located.places.to(values.device)
        found = values.float()[places.clamp(min=0)]
        if located.weights is None:
            found = found.mean(1)
        else:
            weights = located.weights.to(values.device)
            found = (found * weights.view(*weights.shape, *[1] * (found.ndim - 2))).sum(1)
        none = (places[:, 0] < 0).view(-1, *[1] * (found.ndim - 1))
        return found.masked_fill(none, 0).to(self.features.device)

    @property
    def _last(self) -> int:
        return self.first + self._located().length

    def _run(self) -> TowerRun:
        require(self.run is not None, "the vision tower was not watched: say so in the method's tower_layer")
        assert self.run is not None
        return self.run

    def _located(self) -> TokenPatches:
        require(
            self.patches is not None,
            "this family does not say which patches its tokens are made of, so that nothing is known of crops (take "
            "per='image') and of the vision tower (take a method that looks at the tokens alone, such as divprune)",
        )
        assert self.patches is not None
        return self.patches


@dataclass(frozen=True, eq=False)
class EncodeView:
    """A batch of prompts, embedded, before the decoder's first layer.

    Attributes:
        hidden: `(batch, tokens, hidden size)`, the embedded prompts.
        prompt: its token ids, and where images are; `image_of` and `sample_keys` are its.
        images: per sample, in order.
        num_layers: decoder layers of the model.
    """

    hidden: Tensor
    prompt: Prompt
    images: list[list[ImageView]]
    num_layers: int

    @property
    def image_of(self) -> Tensor:
        """`(batch, tokens)` long, index of the token's image in its sample; −1 for text and padding."""
        return self.prompt.image_of.to(self.hidden.device)

    @property
    def sample_keys(self) -> tuple[str, ...]:
        return self.prompt.sample_keys

    def select(self, kept: Sequence[Sequence[KeptTokens | None]]) -> Selection | None:
        """The selection that keeps these tokens of each sample's images, and all text.

        Args:
            kept: per sample and image; None: the whole image.

        Raises:
            TypeError, ValueError: other numbers of samples or images, or what does not fit an image.
        """
        asked, given = [len(images) for images in self.images], [len(choices) for choices in kept]
        require(given == asked, f"select: got choices for {given} images per sample, but there are {asked}")
        if all(image is None for sample in kept for image in sample):
            return None
        device = self.hidden.device
        mask = torch.ones(self.image_of.shape, dtype=torch.bool, device=device)
        slots = torch.zeros_like(mask)
        features: list[Tensor] = []
        weights: list[Tensor] | None = []
        for sample, choices in enumerate(kept):
            for number, (places, image) in enumerate(zip(self.prompt.images[sample], choices, strict=True)):
                if image is None:
                    continue
                check_kept(image, len(places), self.hidden.shape[-1], f"sample {sample}, image {number}")
                at = places.to(device)
                mask[sample, at] = image.mask.to(device)
                if image.slots is None or image.features is None:
                    continue
                slots[sample, at[image.slots]] = True
                order = image.slots.argsort()
                features.append(image.features[order].to(self.hidden.dtype))
                if image.weights is None:
                    weights = None
                elif weights is not None:
                    whole = torch.zeros(len(order), mask.shape[1], device=device)
                    whole[:, at] = image.weights[order].to(device, whole.dtype)
                    weights.append(whole)
        counts = tuple(mask.sum(-1).tolist())
        if not features:
            return Selection(mask, counts)
        written = Written(slots, torch.cat(features), torch.cat(weights) if weights is not None else None)
        return Selection(mask, counts, written)


@dataclass(frozen=True, eq=False)
class KeptTokens:
    """What is kept of one image.

    Attributes:
        mask: `(S_j,)` bool.
        slots: `(m,)` long, those of them that get new features, each once; None: none.
        features: `(m, hidden size)`, for these slots.
        weights: `(m, S_j)`, of which tokens, and how much of them, each is made, if it is a sum of them: see `Written`.
    """

    mask: Tensor
    slots: Tensor | None = None
    features: Tensor | None = None
    weights: Tensor | None = None


def check_kept(kept: Any, size: int, width: int, place: str) -> None:
    """Raise TypeError or ValueError unless `kept` is what is kept of an image of `size` tokens, each `width` numbers.

    Looks at the device where something is written: merging is rare.
    """
    if not isinstance(kept, KeptTokens):
        raise TypeError(f"{place}: got {type(kept).__name__}, but KeptTokens or None is needed")
    mask, slots, features, weights = kept.mask, kept.slots, kept.features, kept.weights

    def fits(what: str, value: Any, right: bool, needed: str) -> None:
        found = f"{tuple(value.shape)} {value.dtype}" if isinstance(value, Tensor) else type(value).__name__
        require(isinstance(value, Tensor) and right, f"{place}: {what} is {found}, but must be {needed}")

    def shape(value: Any) -> tuple[int, ...]:
        return tuple(value.shape) if isinstance(value, Tensor) else ()

    fits("mask", mask, shape(mask) == (size,) and mask.dtype == torch.bool, f"({size},) bool, True for what stays")
    require((slots is None) == (features is None), f"{place}: slots and features belong together, but one is None")
    if slots is None or features is None:
        require(weights is None, f"{place}: weights say what slots are made of, but there are none")
        return
    number = len(slots)
    fits("slots", slots, shape(slots) == (number,) and slots.dtype == torch.long, "(m,) long, places in the image")
    inside = not number or bool((slots.amin() >= 0) & (slots.amax() < size))
    require(inside, f"{place}: slots = {slots.tolist()}, but must be from 0 to {size - 1}")
    projected = f"({number}, {width}), as they enter the decoder: image.project takes the tower's there"
    fits("features", features, shape(features) == (number, width), projected)
    if weights is not None:
        fits("weights", weights, shape(weights) == (number, size), f"({number}, {size})")


def image_views(
    hidden: Tensor, prompt: Prompt, patches: Sequence[TokenPatches] | None, run: TowerRun | None
) -> list[list[ImageView]]:
    """The images of a batch, per sample.

    Args:
        hidden: `(batch, tokens, hidden size)`.
        patches: of the images of the batch that the tower has seen, in order. The prompt may have each of its samples
            several times, one after another (beams).

    Raises:
        ValueError: the tower has not seen these images.
    """
    total = sum(len(images) for images in prompt.images)
    if run is None and patches is not None and (not patches or total % len(patches)):
        patches = None  # features that were made elsewhere; nobody needs to know of their patches
    repeats = total // len(patches) if patches else 1
    seen = sum(one.length for one in patches or ())
    require(
        run is None or (run.bounds[-1] == seen and total == repeats * len(patches or ())),
        f"the prompt's {total} images have {seen} places in the vision tower, but its latest run was over "
        f"{run and run.bounds[-1]}: features that were made elsewhere cannot be followed",
    )
    firsts = [0]
    for one in patches or ():
        firsts.append(firsts[-1] + one.length)
    found, begin = [], 0
    for sample, images in enumerate(prompt.images):
        views = []
        text = hidden[sample, int(images[-1][-1]) + 1 :] if images else hidden[sample, :0]
        question = prompt.questions[sample] if prompt.questions else None
        for number, places in enumerate(images):
            at = begin + number
            own = None if patches is None else patches[at]
            device = hidden.device
            features = hidden[sample, places.to(device)]
            first = firsts[at] if patches is not None else 0
            views.append(ImageView(features, own, first, run, text, question))
        found.append(views)
        if (sample + 1) % repeats == 0:  # its next row is another sample's
            begin += len(images)
    return found
