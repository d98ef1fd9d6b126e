"""The toy LLaVA-1.5: a CLIP tower with a class token, a two-layer projector, a Llama decoder; starts from the
LLaVA-OneVision toy."""

from __future__ import annotations

import random

import torch
from torch import Tensor, nn
from transformers import (
    CLIPVisionConfig,
    GenerationConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaImageProcessor,
    LlavaProcessor,
)
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from tasks.toy.inherit import TUNING, ImageTokensOfTheAncestor, ancestor, copy_weights, inherit_decoder, llama_config
from tasks.toy.models.llava_onevision import END as TURN_END
from tasks.toy.scenes import CHARACTERS, COLORS, SHAPES, Scene
from tasks.toy.sizes import PATCH, SIDE, TILE, VISION
from tasks.toy.stage import Stage
from tasks.toy.tokens import IMAGE_MARK, family_words, make_tokenizer
from tasks.toy.toy import Toy
from tasks.toy.vision import WHOLE_CELL, draw_scenes, pixels, shrunk

UNKNOWN, BEGIN, END, PAD = "<unk>", "<s>", "</s>", "<pad>"
SPECIAL = (UNKNOWN, BEGIN, END, IMAGE_MARK, PAD)
LAYER = -2  # of the tower, whose patches the decoder reads
LOOKS = (*COLORS, *SHAPES, *CHARACTERS)  # what the class token says of a picture: which of these are in it
# chat_template.json of llava-hf/llava-1.5-7b-hf
CHAT_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] != 'system' %}{{ message['role'].upper() + ': '}}{% endif %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\n' }}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}{{ content['text'] + ' '}}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)


class Llava15Toy(Toy):
    """Every image is one tile: SIDE x SIDE tokens, row by row; the class token is not among them."""

    name = "llava_1_5"
    image_token, end = IMAGE_MARK, END
    styles = {"lmms_eval": 0.7, "plain": 0.3}
    cells = tuple(WHOLE_CELL.tolist())
    stages = (
        Stage("vision", steps=600, rate=2e-3, batch=48),
        Stage("decoder", steps=400, rate=1.2e-3, batch=16, warmup=30, **TUNING),
    )

    def build_processor(self) -> LlavaProcessor:
        return LlavaProcessor(
            image_processor=LlavaImageProcessor(
                do_pad=True, size={"shortest_edge": TILE}, crop_size={"height": TILE, "width": TILE}
            ),
            tokenizer=make_tokenizer(
                SPECIAL, family_words(self, SPECIAL), pad=PAD, end=END, unknown=UNKNOWN, begin=BEGIN
            ),
            patch_size=PATCH,
            vision_feature_select_strategy="default",
            num_additional_image_tokens=1,
            chat_template=CHAT_TEMPLATE,
        )

    def build_model(self, seed: int) -> tuple[LlavaForConditionalGeneration, LlavaProcessor]:
        torch.manual_seed(seed)
        processor = self.build_processor()
        ids = processor.tokenizer.get_vocab()
        model = LlavaForConditionalGeneration(_config(ids))
        model.generation_config = GenerationConfig(
            bos_token_id=ids[BEGIN], eos_token_id=ids[END], pad_token_id=ids[PAD]
        )
        source, _ = ancestor()
        inherit_decoder(model, model.model.language_model, processor.tokenizer, {END: TURN_END})
        copy_weights(source.model.vision_tower.encoder, model.model.vision_tower.encoder)
        copy_weights(source.model.multi_modal_projector, model.model.multi_modal_projector)
        return model, processor

    def image_tokens(self, model, images: Tensor, alone: bool, learn_tower: bool = False) -> Tensor:
        with torch.set_grad_enabled(learn_tower and torch.is_grad_enabled()):
            states = tower_states(model, images).hidden_states[LAYER][:, 1:]
        return model.model.multi_modal_projector(states)

    def tower(self, model) -> nn.Module:
        return model.model.vision_tower

    def lesson(self, model, tokenizer) -> nn.Module:
        return ClassTokenLesson(self, model)

    def vision_parameters(self, model) -> list[nn.Parameter]:
        return [*model.model.vision_tower.parameters(), *model.model.multi_modal_projector.parameters()]


TOY = Llava15Toy()


class ClassTokenLesson(ImageTokensOfTheAncestor):
    """The patches must say what the ancestor's do, and the class token what is in the picture, as CLIP's has learnt
    from captions; so its attention is worth something to methods that rank patches by it.
    """

    def __init__(self, toy: Toy, model: nn.Module) -> None:
        super().__init__(toy, model)
        self.names = nn.Linear(VISION["hidden_size"], len(LOOKS))

    def forward(self, stage: Stage, rng: random.Random) -> tuple[Tensor, dict[str, float]]:
        error, shown = super().forward(stage, rng)
        scenes = draw_scenes(rng, stage.batch)
        images = pixels(scenes, [rng.getrandbits(32) for _ in scenes])
        said = self.names(tower_states(self.model[0], images).pooler_output)
        there = torch.stack([looks(scene) for scene in scenes])
        loss = nn.functional.binary_cross_entropy_with_logits(said.float(), there)
        right = ((said > 0) == (there > 0)).float().mean().item()
        return error + loss, shown | {"class token": right}


def looks(scene: Scene) -> Tensor:
    """1 for each of LOOKS that is in a scene, else 0."""
    there = {word for thing in scene.things for word in (thing.color, thing.shape)}
    return torch.tensor([float(word in there) for word in LOOKS])


def tower_states(model, images: Tensor):
    """What CLIP makes of uint8 images (n, 3, SIZE, SIZE): the states of every layer, the class token first, and its
    last one, normalised."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD))
    return model.model.vision_tower(((shrunk(images) + 1) / 2 - mean) / std, output_hidden_states=True)


def _config(ids: dict[str, int]) -> LlavaConfig:
    return LlavaConfig(
        text_config=llama_config(ids, BEGIN, END, PAD),
        vision_config=CLIPVisionConfig(**VISION | {"num_hidden_layers": VISION["num_hidden_layers"] + 1}),
        image_token_id=ids[IMAGE_MARK],
        vision_feature_layer=LAYER,
        vision_feature_select_strategy="default",
        image_seq_length=SIDE**2,
        tie_word_embeddings=True,
    )
