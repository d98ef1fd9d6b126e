"""The toy Idefics2: patches resampled to latents, a Mistral decoder; starts from the LLaVA-OneVision toy."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.transforms.v2 import InterpolationMode
from transformers import (
    GenerationConfig,
    Idefics2Config,
    Idefics2ForConditionalGeneration,
    Idefics2ImageProcessor,
    Idefics2Processor,
    MistralConfig,
)

from tasks.toy.inherit import TUNING, ImageTokensOfTheAncestor, ancestor, copy_weights, inherit_decoder
from tasks.toy.models.llava_onevision import END as TURN_END
from tasks.toy.sizes import DECODER, SIDE, TILE, VISION
from tasks.toy.stage import Stage
from tasks.toy.tokens import IMAGE_MARK, family_words, make_tokenizer
from tasks.toy.toy import Toy
from tasks.toy.vision import WHOLE_CELL, shrunk

UNKNOWN, BEGIN, STOP, FAKE, END = "<unk>", "<s>", "</s>", "<fake_token_around_image>", "<end_of_utterance>"
SPECIAL = (UNKNOWN, BEGIN, STOP, FAKE, IMAGE_MARK, END)
LATENTS = SIDE * SIDE
# The real checkpoint's.
CHAT_TEMPLATE = (
    "{% for message in messages %}{{message['role'].capitalize()}}"
    "{% if message['content'][0]['type'] == 'image' %}{{':'}}{% else %}{{': '}}{% endif %}"
    "{% for line in message['content'] %}"
    "{% if line['type'] == 'text' %}{{line['text']}}{% elif line['type'] == 'image' %}{{ '<image>' }}{% endif %}"
    "{% endfor %}<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)


class Idefics2Toy(Toy):
    """Every image is LATENTS tokens; latent k learns to say what the k-th patch shows."""

    name = "idefics2"
    image_token, end = IMAGE_MARK, END
    styles = {"lmms_eval": 0.7, "plain": 0.3}
    cells = tuple(WHOLE_CELL.tolist())
    stages = (
        Stage("vision", steps=400, rate=3e-3, batch=32),
        Stage("decoder", steps=300, rate=1.2e-3, batch=16, warmup=30, **TUNING),
    )

    def build_processor(self) -> Idefics2Processor:
        words = family_words(self, SPECIAL)
        return Idefics2Processor(
            image_processor=Idefics2ImageProcessor(
                size={"shortest_edge": TILE, "longest_edge": TILE}, do_image_splitting=False
            ),
            tokenizer=make_tokenizer(SPECIAL, words, pad=UNKNOWN, end=STOP, unknown=UNKNOWN, begin=BEGIN),
            image_seq_len=LATENTS,
            chat_template=CHAT_TEMPLATE,
        )

    def build_model(self, seed: int) -> tuple[Idefics2ForConditionalGeneration, Idefics2Processor]:
        torch.manual_seed(seed)
        processor = self.build_processor()
        ids = processor.tokenizer.get_vocab()
        model = Idefics2ForConditionalGeneration(_config(len(ids), ids))
        model.generation_config = GenerationConfig(
            bos_token_id=ids[BEGIN], eos_token_id=[ids[STOP], ids[END]], pad_token_id=ids[UNKNOWN]
        )
        source, _ = ancestor()
        inherit_decoder(model, model.model.text_model, processor.tokenizer, {END: TURN_END})
        copy_weights(source.model.vision_tower, model.model.vision_model)
        with torch.no_grad():
            model.model.connector.perceiver_resampler.latents.normal_()  # born equal, they would learn slowly to differ
        return model, processor

    def expand(self, chat: str, alone: bool) -> str:
        around = f"{FAKE}{self.image_token * LATENTS}{FAKE}"
        return chat.replace(self.image_token, around).replace(FAKE + FAKE, FAKE)

    def image_tokens(self, model, images: Tensor, alone: bool, learn_tower: bool = False) -> Tensor:
        tower, connector = model.model.vision_model, model.model.connector
        small = shrunk(images, InterpolationMode.BILINEAR)
        everywhere = torch.ones(len(images), SIDE, SIDE, dtype=torch.bool)
        with torch.set_grad_enabled(learn_tower and torch.is_grad_enabled()):
            states = tower(small, patch_attention_mask=everywhere).last_hidden_state
        return connector(states, attention_mask=everywhere.flatten(1))

    def tower(self, model) -> nn.Module:
        return model.model.vision_model

    def lesson(self, model, tokenizer) -> nn.Module:
        return ImageTokensOfTheAncestor(self, model, learn_tower=False)

    def vision_parameters(self, model) -> list[nn.Parameter]:
        return list(model.model.connector.parameters())


TOY = Idefics2Toy()


def _config(vocabulary_size: int, ids: dict[str, int]) -> Idefics2Config:
    return Idefics2Config(
        text_config=MistralConfig(
            vocab_size=vocabulary_size,
            sliding_window=None,
            tie_word_embeddings=True,
            bos_token_id=ids[BEGIN],
            eos_token_id=ids[STOP],
            pad_token_id=ids[UNKNOWN],
            **DECODER,
        ),
        vision_config=VISION,
        perceiver_config={
            "hidden_size": DECODER["hidden_size"],
            "resampler_n_latents": LATENTS,
            "resampler_depth": 1,
            "resampler_n_heads": 4,
            "resampler_head_dim": 32,
            "num_key_value_heads": 2,
        },
        image_token_id=ids[IMAGE_MARK],
        tie_word_embeddings=True,
    )
