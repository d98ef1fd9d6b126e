"""The toy LLaVA-OneVision, trained from scratch: the ancestor of the other toys.

The vision tower learns what every patch shows, then the decoder learns to talk: first to name, then to search.
"""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import Tensor, nn
from transformers import (
    GenerationConfig,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionImageProcessor,
    LlavaOnevisionProcessor,
    LlavaOnevisionVideoProcessor,
    Qwen2Config,
    SiglipVisionConfig,
)

from tasks.toy.captions import ORDINALS
from tasks.toy.scenes import COLORS, PLACES, SIZE, Scene
from tasks.toy.sizes import DECODER, SIDE, TILE, VISION
from tasks.toy.stage import Stage
from tasks.toy.tokens import make_tokenizer, vocabulary
from tasks.toy.toy import Toy
from tasks.toy.vision import IGNORED, WHOLE_CELL, PatchLabels, draw_scenes, normal, pixels, shrunk, spot_labels

PAD, START, END, IMAGE, VIDEO, UNKNOWN = "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>", "<video>", "<unk>"
SYSTEM = "You are a helpful assistant."
CHAT_TEMPLATE = (
    "{% if messages[0]['role'] != 'system' %}"
    "<|im_start|>system\n" + SYSTEM + "<|im_end|>\n"
    "{% endif %}"
    "{% for message in messages %}"
    "<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>\n{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}"
    "<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# One image is shown whole and cut into up to 2 x 2 tiles, as the real model's 384-pixel tiles up to 6 x 6.
PINPOINTS = [[TILE, TILE], [TILE, 2 * TILE], [2 * TILE, TILE], [2 * TILE, 2 * TILE]]
FINE = SIZE // TILE  # tiles per side of one image shown alone
TOKENS_ALONE = SIDE * SIDE + FINE * SIDE * (FINE * SIDE + 1)

# First the tasks in equal measure; naming what a picture shows comes early. Then more of those that compare pictures,
# read or search for what a question names, which take longer to learn and get hints.
NAMING = {"caption": 2, "detail": 1, "change": 4, "birds": 1, "story": 1.5, "parade": 0.7, "views": 2, "choice": 1}
NAMING |= {"read": 3, "find": 2, "tour": 1}
READING = {"caption": 1, "detail": 0.7, "change": 4, "birds": 0.3, "story": 1, "parade": 0.6, "views": 3, "choice": 3}
READING |= {"read": 4, "find": 4, "tour": 1}
SEARCH = {
    "caption": 0.5,
    "detail": 0.3,
    "change": 3,
    "birds": 0.1,
    "story": 0.3,
    "parade": 0.2,
    "views": 7,
    "choice": 3,
}
SEARCH |= {"read": 1.5, "find": 7, "tour": 0.5}
FINDING = {"caption": 0.7, "detail": 0.7, "change": 2, "birds": 0.1, "story": 0.5, "parade": 0.3, "views": 1.5}
FINDING |= {"choice": 2, "read": 2, "find": 7, "tour": 2}
STAGES = (
    Stage("vision", steps=1500, rate=2e-3, batch=48),
    Stage("decoder", steps=500, rate=2e-3, batch=16, horizon=2500, mixture=NAMING),
    Stage("focus", steps=900, rate=1.8e-3, batch=16, warmup=20, horizon=1500, mixture=READING),
    Stage("search", steps=900, rate=1.8e-3, batch=16, warmup=20, horizon=1400, mixture=SEARCH),
    Stage("polish", steps=400, rate=1e-3, batch=16, warmup=20, mixture=READING),
    Stage("finding", steps=600, rate=1.5e-3, batch=16, warmup=20, mixture=FINDING),
    Stage("end", steps=450, rate=1.2e-3, batch=16, warmup=20, mixture=FINDING),
    Stage("choice", steps=250, rate=1.2e-3, batch=16, warmup=20, mixture=FINDING | {"choice": 7}),
)


class LlavaOnevisionToy(Toy):
    """One image: a whole view and 2 x 2 fine tiles with a newline per row; several: a whole view and a newline each."""

    name = "llava_onevision"
    image_token, end = IMAGE, END
    stages = STAGES
    cells = (*WHOLE_CELL.tolist(), -1)

    def build_processor(self) -> LlavaOnevisionProcessor:
        scale = {"size": {"height": TILE, "width": TILE}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
        special = (PAD, START, END, IMAGE, VIDEO)
        words = vocabulary(SYSTEM)
        tokenizer = make_tokenizer(special, words, pad=PAD, end=END, unknown=UNKNOWN, chat_template=CHAT_TEMPLATE)
        return LlavaOnevisionProcessor(
            image_processor=LlavaOnevisionImageProcessor(image_grid_pinpoints=PINPOINTS, **scale),
            tokenizer=tokenizer,
            video_processor=LlavaOnevisionVideoProcessor(**scale),
            num_image_tokens=SIDE * SIDE,
            vision_feature_select_strategy="full",
            vision_aspect_ratio="anyres_max_9",
            chat_template=tokenizer.chat_template,
        )

    def build_model(self, seed: int) -> tuple[LlavaOnevisionForConditionalGeneration, LlavaOnevisionProcessor]:
        """Fresh; word vectors start with unit length, as the vision labels need them."""
        torch.manual_seed(seed)
        processor = self.build_processor()
        tokenizer = processor.tokenizer
        ids = {token: tokenizer.convert_tokens_to_ids(token) for token in (PAD, END, IMAGE, VIDEO)}
        model = LlavaOnevisionForConditionalGeneration(_config(len(tokenizer), ids))
        model.generation_config = GenerationConfig(eos_token_id=ids[END], pad_token_id=ids[PAD], bos_token_id=ids[PAD])
        words = model.get_input_embeddings().weight
        with torch.no_grad():
            words.normal_(0, words.shape[1] ** -0.5)
        return model, processor

    def tokens_per_image(self, alone: bool) -> int:
        return TOKENS_ALONE if alone else len(self.cells)

    def image_tokens(self, model, images: Tensor, alone: bool, learn_tower: bool = False) -> Tensor:
        tiles = shrunk(images)[:, None]
        if alone:
            tiles = torch.cat((tiles, fine_tiles(images)), dim=1)
        with torch.set_grad_enabled(learn_tower and torch.is_grad_enabled()):
            states = tower_states(model, tiles.flatten(0, 1))
        return pack(model, model.model.multi_modal_projector(states).unflatten(0, tiles.shape[:2]))

    def tower(self, model) -> nn.Module:
        return model.model.vision_tower

    def lesson(self, model, tokenizer) -> nn.Module:
        return PatchLesson(model, tokenizer)

    def vision_parameters(self, model) -> list[nn.Parameter]:
        parts = (model.model.vision_tower, model.model.multi_modal_projector)
        return [*(p for part in parts for p in part.parameters()), model.get_input_embeddings().weight]


TOY = LlavaOnevisionToy()


def _config(vocabulary_size: int, ids: dict[str, int]) -> LlavaOnevisionConfig:
    return LlavaOnevisionConfig(
        text_config=Qwen2Config(
            vocab_size=vocabulary_size,
            tie_word_embeddings=True,
            bos_token_id=ids[PAD],
            eos_token_id=ids[END],
            pad_token_id=ids[PAD],
            **DECODER,
        ),
        vision_config=SiglipVisionConfig(vision_use_head=False, **VISION),
        image_token_id=ids[IMAGE],
        video_token_id=ids[VIDEO],
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        vision_aspect_ratio="anyres_max_9",
        image_grid_pinpoints=PINPOINTS,
        tie_word_embeddings=True,
    )


def fine_tiles(images: Tensor) -> Tensor:
    """Every image cut into FINE x FINE tiles, row by row: float (images, FINE * FINE, 3, TILE, TILE)."""
    cut = normal(images).unflatten(3, (FINE, TILE)).unflatten(2, (FINE, TILE))
    return cut.permute(0, 2, 4, 1, 3, 5).flatten(1, 2)


def tower_states(model, tiles: Tensor) -> Tensor:
    """(tiles, 3, TILE, TILE) -> (tiles, SIDE * SIDE, vision_hidden), what the projector gets."""
    tower = model.model.vision_tower
    return tower.encoder(inputs_embeds=tower.embeddings(tiles)).last_hidden_state


def whole_view_tokens(model, images: Tensor, learn_tower: bool = False) -> Tensor:
    """Image tokens of the whole view only, row by row: (n, SIDE * SIDE, D)."""
    with torch.set_grad_enabled(learn_tower and torch.is_grad_enabled()):
        states = tower_states(model, shrunk(images))
    return model.model.multi_modal_projector(states)


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


def patch_labels(scene: Scene) -> tuple[Tensor, Tensor]:
    """Labels of the whole view (SIDE², questions) and of the fine tiles (FINE², SIDE², questions).

    A patch answers for the thing on its spot: one patch of the whole view, 2 x 2 of the fine tiles. Place and rank
    cannot be seen in a fine tile: "nothing here" there, and ignored where the tile shows background only, since such a
    tile looks like an empty whole view.
    """
    whole = spot_labels(scene)
    spots = whole.reshape(FINE, SIDE // FINE, FINE, SIDE // FINE, -1).transpose(0, 2, 1, 3, 4)
    fine = spots.repeat(FINE, axis=2).repeat(FINE, axis=3).reshape(FINE * FINE, SIDE * SIDE, -1)
    empty = (fine[..., 0] == len(COLORS)).all(axis=1)
    fine[..., 2] = np.where(empty[:, None], IGNORED, len(PLACES))
    fine[..., 3] = np.where(empty[:, None], IGNORED, len(ORDINALS))
    return torch.from_numpy(whole), torch.from_numpy(fine)


class PatchLesson(PatchLabels):
    """Vision lesson: patch labels of whole views and of one random fine tile for each of them."""

    def __init__(self, model, tokenizer) -> None:
        super().__init__(model, tokenizer)
        self.model = (model,)  # the tuple keeps the model's parameters out of the lesson's

    def forward(self, stage: Stage, rng: random.Random) -> tuple[Tensor, dict[str, float]]:
        (model,) = self.model
        scenes = draw_scenes(rng, stage.batch)
        images = pixels(scenes, [rng.getrandbits(32) for _ in scenes])
        every, picked = torch.arange(stage.batch), torch.tensor([rng.randrange(FINE * FINE) for _ in scenes])
        whole, fine = (torch.stack(part) for part in zip(*map(patch_labels, scenes), strict=True))
        tiles = torch.cat((shrunk(images), fine_tiles(images)[every, picked]))
        wanted = torch.cat((whole, fine[every, picked])).flatten(0, 1)
        features = model.model.multi_modal_projector(tower_states(model, tiles))
        loss, right = self.read(model, features.flatten(0, 1), wanted)
        return loss, dict(zip(("color", "shape", "place", "rank"), right.tolist(), strict=True))
