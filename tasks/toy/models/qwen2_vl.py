"""The toy Qwen2-VL: its own vision tower, M-RoPE, and the ancestor's decoder."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import (
    GenerationConfig,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
)

from tasks.toy.inherit import TUNING, ImageTokensOfTheAncestor, ancestor, inherit_decoder
from tasks.toy.sizes import DECODER, PATCH, SIDE, VISION
from tasks.toy.stage import Stage
from tasks.toy.tokens import family_words, make_tokenizer
from tasks.toy.toy import Toy
from tasks.toy.vision import WHOLE_CELL

PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
VISION_START, VISION_END = "<|vision_start|>", "<|vision_end|>"
IMAGE, VIDEO, UNKNOWN = "<|image_pad|>", "<|video_pad|>", "<unk>"
SPECIAL = (PAD, START, END, VISION_START, VISION_END, IMAGE, VIDEO)
# Qwen2-VL's own, with its counters and optional picture numbers.
CHAT_TEMPLATE = (
    "{% set image_count = namespace(value=0) %}{% set video_count = namespace(value=0) %}"
    "{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}"
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "{% endif %}"
    "<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}<|im_end|>\n"
    "{% else %}{% for content in message['content'] %}"
    "{% if content['type'] == 'image' or 'image' in content or 'image_url' in content %}"
    "{% set image_count.value = image_count.value + 1 %}"
    "{% if add_vision_id %}Picture {{ image_count.value }}: {% endif %}"
    "<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif content['type'] == 'video' or 'video' in content %}"
    "{% set video_count.value = video_count.value + 1 %}"
    "{% if add_vision_id %}Video {{ video_count.value }}: {% endif %}"
    "<|vision_start|><|video_pad|><|vision_end|>"
    "{% elif 'text' in content %}{{ content['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

MERGE, FRAMES = 2, 2  # MERGE x MERGE patches make an image token; an image is FRAMES equal frames
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # CLIP's, as Qwen2-VL's
# Pairs of a head's 16 rotated pairs that follow time, height and width; 16, 24, 24 of 64 in the real model.
MROPE = [4, 6, 6]

STAGES = (
    Stage("vision", steps=400, rate=2e-3, batch=32),
    Stage("decoder", steps=600, rate=1.5e-3, batch=16, warmup=30, **TUNING),
)


class Qwen2VLToy(Toy):
    """Every image is 12 x 12 patches of 8 pixels, two by two one of 6 x 6 image tokens."""

    name = "qwen2_vl"
    image_token, end = IMAGE, END
    stages = STAGES
    styles = {"lmms_eval": 0.75, "plain": 0.25}
    cells = tuple(WHOLE_CELL.tolist())

    def build_processor(self) -> Qwen2VLProcessor:
        tokenizer = make_tokenizer(
            SPECIAL, family_words(self, SPECIAL), pad=PAD, end=END, unknown=UNKNOWN, chat_template=CHAT_TEMPLATE
        )
        fewest, most = self.family.pixels
        # Areas, in spite of their names.
        sizes = {"size": {"shortest_edge": fewest, "longest_edge": most}, "patch_size": PATCH, "merge_size": MERGE}
        return Qwen2VLProcessor(
            image_processor=Qwen2VLImageProcessor(**sizes, temporal_patch_size=FRAMES, image_mean=MEAN, image_std=STD),
            tokenizer=tokenizer,
            video_processor=Qwen2VLVideoProcessor(**sizes, temporal_patch_size=FRAMES),
            chat_template=CHAT_TEMPLATE,
        )

    def build_model(self, seed: int) -> tuple[Qwen2VLForConditionalGeneration, Qwen2VLProcessor]:
        torch.manual_seed(seed)
        processor = self.build_processor()
        tokenizer = processor.tokenizer
        ids = {token: tokenizer.convert_tokens_to_ids(token) for token in SPECIAL}
        model = Qwen2VLForConditionalGeneration(_config(len(tokenizer), ids))
        model.generation_config = GenerationConfig(
            eos_token_id=[ids[END], ids[PAD]], pad_token_id=ids[PAD], bos_token_id=ids[PAD]
        )
        inherit_decoder(model, model.model.language_model, tokenizer, {IMAGE: "<image>", VIDEO: "<video>"})
        with torch.no_grad():  # the ancestor closes every image with a learnt vector
            model.get_input_embeddings().weight[ids[VISION_END]] = ancestor()[0].model.image_newline
        return model, processor

    def image_tokens(self, model, images: Tensor, alone: bool, learn_tower: bool = False) -> Tensor:
        side = MERGE * SIDE
        with torch.set_grad_enabled(learn_tower and torch.is_grad_enabled()):
            grids = torch.tensor([[1, side, side]]).expand(len(images), 3)
            states = model.model.visual(patches(images), grid_thw=grids).last_hidden_state
        return model.model.visual.merger(states).unflatten(0, (len(images), SIDE * SIDE))

    def positions(self, ids: Tensor, image_mask: Tensor) -> Tensor:
        """(3, batch, length): as `Qwen2VLModel.get_rope_index`, for images of 6 x 6 tokens.

        An image's tokens share the time where it starts; rows and columns count from there. What follows goes on
        behind the largest of them.
        """
        images_before = image_mask.cumsum(1) - image_mask.long()
        text_before = torch.arange(ids.shape[1]) - images_before
        start = text_before + SIDE * (images_before // SIDE**2)
        row, column = images_before % SIDE**2 // SIDE, images_before % SIDE
        return start + torch.stack((torch.zeros_like(row), row, column)) * image_mask

    def tower(self, model) -> nn.Module:
        return nn.ModuleList((model.model.visual.patch_embed, model.model.visual.blocks))

    def lesson(self, model, tokenizer) -> nn.Module:
        return ImageTokensOfTheAncestor(self, model)

    def vision_parameters(self, model) -> list[nn.Parameter]:
        return list(model.model.visual.parameters())


def patches(images: Tensor) -> Tensor:
    """uint8 images (n, 3, SIZE, SIZE) → (n * 144, 3 * FRAMES * PATCH²), the patches of an image token in a row.

    As `Qwen2VLImageProcessor` cuts them.
    """
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    cut = ((images / 255 - mean) / std).unflatten(3, (SIDE, MERGE, PATCH)).unflatten(2, (SIDE, MERGE, PATCH))
    cut = cut.permute(0, 2, 5, 3, 6, 1, 4, 7)  # image, row and column of the token, of the patch in it, channel, pixels
    return cut.unsqueeze(6).expand(*[-1] * 6, FRAMES, -1, -1).flatten(0, 4).flatten(1)


def _config(vocabulary_size: int, ids: dict[str, int]) -> Qwen2VLConfig:
    text = {name: value for name, value in DECODER.items() if name != "head_dim"}  # hidden size / heads, which it is
    text |= {
        "vocab_size": vocabulary_size,
        "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": MROPE},
        "bos_token_id": ids[PAD],
        "eos_token_id": ids[END],
        "pad_token_id": ids[PAD],
    }
    vision = {
        "depth": VISION["num_hidden_layers"],
        "embed_dim": VISION["hidden_size"],
        "num_heads": VISION["num_attention_heads"],
        "mlp_ratio": VISION["intermediate_size"] // VISION["hidden_size"],
        "hidden_size": DECODER["hidden_size"],
        "patch_size": PATCH,
        "spatial_merge_size": MERGE,
        "temporal_patch_size": FRAMES,
    }
    return Qwen2VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=ids[IMAGE],
        video_token_id=ids[VIDEO],
        vision_start_token_id=ids[VISION_START],
        vision_end_token_id=ids[VISION_END],
        tie_word_embeddings=True,
    )


TOY = Qwen2VLToy()
