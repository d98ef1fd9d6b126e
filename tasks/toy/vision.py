"""From drawn scenes to what a vision tower sees, and what every patch should know."""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as transforms

from plphp_core.families.base import Family
from tasks.toy.captions import ORDINALS
from tasks.toy.samples import make_sample
from tasks.toy.scenes import CHARACTERS, COLORS, GRID, PLACES, SHAPES, SPOTS, Scene, draw, random_scene
from tasks.toy.sizes import SIDE, TILE

IGNORED = -100
# The place (0-8) that every patch of a whole view shows, row by row.
WHOLE_CELL = np.kron(np.arange(GRID * GRID).reshape(GRID, GRID), np.ones((SIDE // GRID,) * 2, dtype=np.int64)).reshape(
    -1
)
# What a patch is asked, in the order of `spot_labels`; the answer after the last word is "nothing here".
QUESTIONS: dict[str, tuple[str, ...]] = {
    "color": tuple(COLORS),
    "shape": (*SHAPES, *CHARACTERS),
    "place": PLACES,
    "rank": ORDINALS,
}


MANY_THINGS = (("reading", "all"), ("reading", "all"), ("finding", "place"), ("long", "tour"))


def draw_scenes(rng: random.Random, count: int) -> list[Scene]:
    """Training scenes: half of one to three things, the others crowded, full or written."""
    scenes: list[Scene] = []
    while len(scenes) < count:
        scene = random_scene(rng, rng.choice((1, 2, 3, 3)))
        if rng.random() < 0.5:
            (scene,) = make_sample(*rng.choice(MANY_THINGS), rng, "train").scenes
        if scene.split() == "train":
            scenes.append(scene)
    return scenes


def pixels(scenes: list[Scene], seeds: list[int], family: Family | None = None) -> Tensor:
    """Drawn scenes as uint8 (scenes, 3, SIZE, SIZE), as the family hands them to its processor if one is given."""
    drawn = [draw(scene, seed) for scene, seed in zip(scenes, seeds, strict=True)]
    drawn = family.images(drawn) if family else drawn
    return torch.from_numpy(np.stack([np.asarray(image) for image in drawn])).permute(0, 3, 1, 2)


def normal(images: Tensor) -> Tensor:
    """uint8 to float in [-1, 1]."""
    return images.float() / 127.5 - 1


def shrunk(images: Tensor, how: InterpolationMode = InterpolationMode.BICUBIC) -> Tensor:
    """Every image shrunk to one tile: float (images, 3, TILE, TILE)."""
    return normal(transforms.resize(images, [TILE, TILE], how, antialias=True))


def spot_labels(scene: Scene) -> np.ndarray:
    """(36 spots row by row, 4 questions): index of the right word, or the index after the last for "nothing here".

    Every spot knows its place. The rank of a thing is asked only where there are at most three.
    """
    side = GRID * SPOTS
    labels = np.empty((side * side, len(QUESTIONS)), dtype=np.int64)
    labels[:] = [len(answers) for answers in QUESTIONS.values()]
    labels[:, 2] = np.kron(np.arange(GRID * GRID).reshape(GRID, GRID), np.ones((SPOTS, SPOTS), dtype=np.int64)).ravel()
    for rank, thing in enumerate(scene.things):
        row, column = thing.cell
        seen = list(COLORS).index(thing.color), QUESTIONS["shape"].index(thing.shape), thing.place
        labels[row * side + column] = [*seen, rank if len(scene.things) <= len(ORDINALS) else IGNORED]
    return labels


class PatchLabels(nn.Module):
    """Reads a patch's answers off its projected vector by the model's own word vectors.

    So the projector learns to speak the decoder's language: the sum of the words for colour, shape, place and rank.
    The vectors for "nothing here" and the temperature serve this stage only and are thrown away.
    """

    def __init__(self, model, tokenizer) -> None:
        super().__init__()
        width = model.get_input_embeddings().weight.shape[1]
        self.words = [torch.tensor(tokenizer.convert_tokens_to_ids(list(words))) for words in QUESTIONS.values()]
        self.nothing = nn.Parameter(torch.randn(len(QUESTIONS), width) * width**-0.5)
        self.scale = nn.Parameter(torch.tensor(5.0))

    def read(self, model, features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """features (patches, D), labels (patches, questions) -> mean loss, accuracy per question on objects."""
        vectors = model.get_input_embeddings().weight
        loss, right = features.new_zeros(()), []
        seen = labels[:, 0] < len(COLORS)
        for question, ids in enumerate(self.words):
            answers = torch.cat((vectors[ids], self.nothing[question, None]))
            logits = self.scale * (features @ answers.T).float()
            loss = loss + F.cross_entropy(logits, labels[:, question], ignore_index=IGNORED)
            counted = seen & (labels[:, question] != IGNORED)
            right.append((logits.argmax(-1) == labels[:, question])[counted].float().mean())
        return loss / len(self.words), torch.stack(right)
