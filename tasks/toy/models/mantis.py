"""The toy Mantis: one tile per image, a two-layer projector, a Llama decoder; starts from the LLaVA-OneVision toy."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import (
    GenerationConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    SiglipImageProcessor,
    SiglipVisionConfig,
)

from tasks.toy.inherit import TUNING, ancestor, copy_weights, inherit_decoder, llama_config
from tasks.toy.models.llava_onevision import END, START, whole_view_tokens
from tasks.toy.sizes import PATCH, TILE, VISION
from tasks.toy.stage import Stage
from tasks.toy.tokens import IMAGE_MARK, family_words, make_tokenizer
from tasks.toy.toy import Toy
from tasks.toy.vision import WHOLE_CELL

BEGIN, STOP, TURN_END, UNKNOWN = "<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>", "<unk>"
HEAD, HEAD_END, OPEN, CLOSE = "<|start_header_id|>", "<|end_header_id|>", "<Image>", "</Image>"
SPECIAL = (BEGIN, STOP, HEAD, HEAD_END, TURN_END, IMAGE_MARK, OPEN, CLOSE)


class MantisToy(Toy):
    """Every image is one tile: SIDE x SIDE tokens, row by row. Its vision part is the ancestor's, untouched."""

    name = "mantis"
    image_token, end = IMAGE_MARK, TURN_END
    styles = {"lmms_eval": 0.7, "plain": 0.3}
    cells = tuple(WHOLE_CELL.tolist())
    stages = (Stage("decoder", steps=400, rate=1.2e-3, batch=16, warmup=30, **TUNING),)

    def build_processor(self) -> LlavaProcessor:
        words = family_words(self, SPECIAL)
        return LlavaProcessor(
            image_processor=SiglipImageProcessor(size={"height": TILE, "width": TILE}),
            tokenizer=make_tokenizer(SPECIAL, words, pad=STOP, end=STOP, unknown=UNKNOWN, begin=BEGIN),
            patch_size=PATCH,
            vision_feature_select_strategy="full",
            num_additional_image_tokens=0,
        )

    def build_model(self, seed: int) -> tuple[LlavaForConditionalGeneration, LlavaProcessor]:
        torch.manual_seed(seed)
        processor = self.build_processor()
        ids = processor.tokenizer.get_vocab()
        model = LlavaForConditionalGeneration(_config(ids))
        model.generation_config = GenerationConfig(
            bos_token_id=ids[BEGIN], eos_token_id=[ids[STOP], ids[TURN_END]], pad_token_id=ids[STOP]
        )
        source, _ = ancestor()
        inherit_decoder(
            model, model.model.language_model, processor.tokenizer, {HEAD: START, HEAD_END: "\n", TURN_END: END}
        )
        copy_weights(source.model.vision_tower, model.model.vision_tower)
        copy_weights(source.model.multi_modal_projector, model.model.multi_modal_projector)
        return model, processor

    def image_tokens(self, model, images: Tensor, alone: bool, learn_tower: bool = False) -> Tensor:
        return whole_view_tokens(model, images, learn_tower)

    def tower(self, model) -> nn.Module:
        return model.model.vision_tower


TOY = MantisToy()


def _config(ids: dict[str, int]) -> LlavaConfig:
    return LlavaConfig(
        text_config=llama_config(ids, BEGIN, STOP, STOP),
        vision_config=SiglipVisionConfig(vision_use_head=False, **VISION),
        image_token_id=ids[IMAGE_MARK],
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        image_seq_length=(TILE // PATCH) ** 2,
        tie_word_embeddings=True,
    )
