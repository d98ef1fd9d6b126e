"""The toy LLaVA-OneVision: its sizes, a fresh model, and the files of a checkpoint in Hugging Face layout."""

from __future__ import annotations

from pathlib import Path

import torch
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

from tasks.toy.tokens import END, IMAGE, PAD, VIDEO, build_tokenizer

CHECKPOINT = Path(__file__).parent / "checkpoints" / "llava_onevision"

TILE = 48  # pixels; a patch is PATCH pixels, so a tile has SIDE x SIDE patches
PATCH = 8
SIDE = TILE // PATCH
# One image is shown whole and cut into up to 2 x 2 tiles, as the real model's 384-pixel tiles up to 6 x 6.
PINPOINTS = [[TILE, TILE], [TILE, 2 * TILE], [2 * TILE, TILE], [2 * TILE, 2 * TILE]]


def build_processor() -> LlavaOnevisionProcessor:
    """Image processor, video processor and tokenizer with the toy's tile size."""
    scale = {"size": {"height": TILE, "width": TILE}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    tokenizer = build_tokenizer()
    return LlavaOnevisionProcessor(
        image_processor=LlavaOnevisionImageProcessor(image_grid_pinpoints=PINPOINTS, **scale),
        tokenizer=tokenizer,
        video_processor=LlavaOnevisionVideoProcessor(**scale),
        num_image_tokens=SIDE * SIDE,
        vision_feature_select_strategy="full",
        vision_aspect_ratio="anyres_max_9",
        chat_template=tokenizer.chat_template,
    )


def build_config(vocabulary_size: int, ids: dict[str, int]) -> LlavaOnevisionConfig:
    """Sizes of the toy: 8 decoder layers, 8 query heads on 2 KV heads, 3 vision layers."""
    text = Qwen2Config(
        vocab_size=vocabulary_size,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        bos_token_id=ids[PAD],
        eos_token_id=ids[END],
        pad_token_id=ids[PAD],
    )
    vision = SiglipVisionConfig(
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=3,
        num_attention_heads=4,
        image_size=TILE,
        patch_size=PATCH,
        vision_use_head=False,
    )
    return LlavaOnevisionConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=ids[IMAGE],
        video_token_id=ids[VIDEO],
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        vision_aspect_ratio="anyres_max_9",
        image_grid_pinpoints=PINPOINTS,
        tie_word_embeddings=True,
    )


def build_model(seed: int) -> tuple[LlavaOnevisionForConditionalGeneration, LlavaOnevisionProcessor]:
    """A fresh float32 model and its processor. Word vectors start with unit length, as the vision labels need them."""
    torch.manual_seed(seed)
    processor = build_processor()
    tokenizer = processor.tokenizer
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in (PAD, END, IMAGE, VIDEO)}
    model = LlavaOnevisionForConditionalGeneration(build_config(len(tokenizer), ids))
    model.generation_config = GenerationConfig(eos_token_id=ids[END], pad_token_id=ids[PAD], bos_token_id=ids[PAD])
    words = model.get_input_embeddings().weight
    with torch.no_grad():
        words.normal_(0, words.shape[1] ** -0.5)
    return model, processor


def save_checkpoint(model, processor, folder: Path) -> None:
    """Write config, bf16 safetensors, tokenizer, processor and chat template to `folder`; the model stays as it is."""
    state = {name: tensor.detach().to(torch.bfloat16) for name, tensor in model.state_dict().items()}
    copy = type(model)(model.config).to(torch.bfloat16)
    copy.load_state_dict(state)
    copy.generation_config = model.generation_config
    copy.save_pretrained(folder)
    processor.save_pretrained(folder)
    for file in folder.iterdir():
        file.chmod(0o644)  # safetensors writes files that only their owner can read
