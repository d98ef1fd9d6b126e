"""From drawn scenes to image tokens, and what every patch should know.

Training calls this instead of the Hugging Face processor and `get_image_features`; a test holds the two equal.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as transforms

from tasks.toy.captions import ORDINALS
from tasks.toy.checkpoint import SIDE, TILE
from tasks.toy.scenes import COLORS, GRID, PLACES, SHAPES, SIZE, Scene, draw

FINE = SIZE // TILE  # tiles per side of one image shown alone
IGNORED = -100
TOKENS_ALONE = SIDE * SIDE + FINE * SIDE * (FINE * SIDE + 1)
TOKENS_AMONG_OTHERS = SIDE * SIDE + 1
# What a patch is asked, in the order of `patch_labels`; the answer after the last word is "nothing here".
QUESTIONS: dict[str, tuple[str, ...]] = {
    "color": tuple(COLORS),
    "shape": SHAPES,
    "place": PLACES,
    "rank": ORDINALS,
}


def pixels(scenes: list[Scene], seeds: list[int]) -> Tensor:
    """Drawn scenes as uint8 (scenes, 3, SIZE, SIZE)."""
    drawn = np.stack([np.asarray(draw(scene, seed)) for scene, seed in zip(scenes, seeds, strict=True)])
    return torch.from_numpy(drawn).permute(0, 3, 1, 2)


def _normal(images: Tensor) -> Tensor:
    return images.float() / 127.5 - 1


def whole_tiles(images: Tensor) -> Tensor:
    """Every image shrunk to one tile: float (images, 3, TILE, TILE)."""
    return _normal(transforms.resize(images, [TILE, TILE], InterpolationMode.BICUBIC, antialias=True))


def fine_tiles(images: Tensor) -> Tensor:
    """Every image cut into FINE x FINE tiles, row by row: float (images, FINE * FINE, 3, TILE, TILE)."""
    cut = _normal(images).unflatten(3, (FINE, TILE)).unflatten(2, (FINE, TILE))
    return cut.permute(0, 2, 4, 1, 3, 5).flatten(1, 2)


def tower_states(model, tiles: Tensor) -> Tensor:
    """(tiles, 3, TILE, TILE) -> (tiles, SIDE * SIDE, vision_hidden), what the projector gets."""
    tower = model.model.vision_tower
    return tower.encoder(inputs_embeds=tower.embeddings(tiles)).last_hidden_state


def pack(model, features: Tensor) -> Tensor:
    """Projected tiles of n images, (n, tiles, SIDE * SIDE, D), to image tokens (n, tokens, D).

    One image alone: its whole view, then the fine rows with a newline token after each. One of several: its whole view
    and one newline token. As `LlavaOnevisionModel.pack_image_features` does for square images that need no padding.
    """
    n, _, _, width = features.shape
    newline = model.model.image_newline.to(features.dtype)
    whole = features[:, 0]
    if features.shape[1] == 1:
        return torch.cat((whole, newline.expand(n, 1, width)), dim=1)
    rows = features[:, 1:].unflatten(1, (FINE, FINE)).unflatten(3, (SIDE, SIDE)).permute(0, 1, 3, 2, 4, 5)
    rows = rows.reshape(n, FINE * SIDE, FINE * SIDE, width)
    rows = torch.cat((rows, newline.expand(n, FINE * SIDE, 1, width)), dim=2)
    return torch.cat((whole, rows.flatten(1, 2)), dim=1)


def image_tokens(model, images: Tensor, alone: bool) -> Tensor:
    """uint8 images (n, 3, SIZE, SIZE) -> image tokens (n, tokens, D); no gradient reaches the vision tower."""
    tiles = whole_tiles(images)[:, None]
    if alone:
        tiles = torch.cat((tiles, fine_tiles(images)), dim=1)
    with torch.no_grad():
        states = tower_states(model, tiles.flatten(0, 1))
    return pack(model, model.model.multi_modal_projector(states).unflatten(0, tiles.shape[:2]))


def _cell_labels(scene: Scene) -> np.ndarray:
    """(9 cells, 4 questions): index of the right word, or the index after the last for "nothing here"."""
    labels = np.empty((len(PLACES), len(QUESTIONS)), dtype=np.int64)
    labels[:] = [len(COLORS), len(SHAPES), 0, len(ORDINALS)]
    labels[:, 2] = np.arange(len(PLACES))
    for rank, thing in enumerate(scene.things):
        labels[thing.place] = [list(COLORS).index(thing.color), SHAPES.index(thing.shape), thing.place, rank]
    return labels


_GRID_OF_CELLS = np.arange(len(PLACES)).reshape(GRID, GRID)
WHOLE_CELL = np.kron(_GRID_OF_CELLS, np.ones((SIDE // GRID,) * 2, dtype=np.int64)).reshape(-1)
_FINE_CELL = (
    np.kron(_GRID_OF_CELLS, np.ones((FINE * SIDE // GRID,) * 2, dtype=np.int64))
    .reshape(FINE, SIDE, FINE, SIDE)
    .transpose(0, 2, 1, 3)
    .reshape(FINE * FINE, -1)
)


def patch_labels(scene: Scene) -> tuple[Tensor, Tensor]:
    """Labels of the whole view (SIDE², questions) and of the fine tiles (FINE², SIDE², questions).

    A patch answers for the object in its cell. Place and rank cannot be seen in a fine tile: "nothing here" there, and
    ignored where the tile shows background only, since such a tile looks like an empty whole view.
    """
    cells = _cell_labels(scene)
    whole, fine = cells[WHOLE_CELL], cells[_FINE_CELL]
    empty = (fine[..., 0] == len(COLORS)).all(axis=1)
    fine[..., 2] = np.where(empty[:, None], IGNORED, len(PLACES))
    fine[..., 3] = np.where(empty[:, None], IGNORED, len(ORDINALS))
    return torch.from_numpy(whole), torch.from_numpy(fine)


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

    def forward(self, model, features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
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
