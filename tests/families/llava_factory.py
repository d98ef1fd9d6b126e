"""Tiny random models of LLaVA-1.5, prompts and processors: no files, no network."""

import torch
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaImageProcessor,
    LlavaProcessor,
)

from plphp_core.families.llava import VICUNA_SYSTEM
from tasks.toy.models.llava_1_5 import CHAT_TEMPLATE
from tests.families.tiny_parts import decoder_values, prompts, random_pixels, ready, siglip_values, word_tokenizer

BEGIN, END_TOKEN, IMAGE_TOKEN, PAD_TOKEN, VOCAB = 140, 141, 142, 143, 150
SIDE, PATCH = 16, 4
IMAGE_SIZE = (SIDE // PATCH) ** 2  # without the class token
SPECIAL = {"<s>": BEGIN, "</s>": END_TOKEN, "<image>": IMAGE_TOKEN, "<pad>": PAD_TOKEN}


def tiny_llava_1_5(
    layers=8,
    query_heads=4,
    kv_heads=2,
    head_dim=8,
    dtype=torch.float32,
    attention="sdpa",
    seed=0,
    sharpness=1.5,
    pad=True,
    text=None,
    vision=None,
):
    """A random model; `text` and `vision` replace values of its configurations; `pad` as the family's option."""
    torch.manual_seed(seed)
    decoder = decoder_values(layers, query_heads, kv_heads, head_dim, VOCAB, None, BEGIN, END_TOKEN)
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**siglip_values(SIDE, PATCH) | (vision or {})),
        text_config=LlamaConfig(**decoder | {"head_dim": head_dim} | (text or {})),
        image_token_index=IMAGE_TOKEN,
        pad_token_id=PAD_TOKEN,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
    )
    model = LlavaForConditionalGeneration(config)
    model.config.image_aspect_ratio = "pad" if pad else "crop"
    return ready(model, "vision_tower", sharpness, dtype, attention, PAD_TOKEN, END_TOKEN)


def llava_1_5_batch(model, samples, seed=0):
    """Model inputs for `samples`, left-padded; a sample is text lengths (int) and images (seed,), in order."""
    inputs = prompts(samples, lambda image, row: [IMAGE_TOKEN] * IMAGE_SIZE, PAD_TOKEN, seed)
    return inputs | random_pixels(samples, lambda image: (1, 3, SIDE, SIDE), model.dtype)


def vicuna_tokenizer(special=None):
    """Word-level; knows the words of the prompt layout; starts with `<s>`, as Vicuna's."""
    texts = [VICUNA_SYSTEM, "USER : ASSISTANT: ?"]
    return word_tokenizer(texts, special or SPECIAL, VOCAB, bos_token="<s>", eos_token="</s>")


def llava_1_5_processor(pad=True, side=SIDE, patch=PATCH):
    """A LLaVA processor as `load` leaves it; its ids match `tiny_llava_1_5`."""
    tokenizer = vicuna_tokenizer()
    tokenizer.pad_token = "<pad>"
    tokenizer.padding_side = "left"
    return LlavaProcessor(
        image_processor=clip_images(LlavaImageProcessor, side, do_pad=pad),
        tokenizer=tokenizer,
        patch_size=patch,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )


def clip_images(kind, side=SIDE, **values):
    """An image processor of CLIP's sort: the short edge is scaled to `side`, the central square is kept."""
    return kind(size={"shortest_edge": side}, crop_size={"height": side, "width": side}, **values)


def saved_llava_1_5(folder, **values):
    """A checkpoint whose processor crops, as the released ones do; the oldest of them lack two of its values."""
    tiny_llava_1_5(**values).save_pretrained(folder)
    tokenizer = vicuna_tokenizer()
    tokenizer.pad_token = "<pad>"
    images = clip_images(CLIPImageProcessor)
    LlavaProcessor(images, tokenizer, patch_size=PATCH, chat_template=CHAT_TEMPLATE).save_pretrained(folder)
    return str(folder)
