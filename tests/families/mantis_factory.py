"""Tiny random Mantis models, prompts and processors: no files, no network."""

from transformers import (
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    SiglipImageProcessor,
    SiglipVisionConfig,
)

from plphp_core.families.mantis import SYSTEM_PROMPT
from tests.families.tiny_parts import prompts, random_model, random_pixels, siglip_values, word_tokenizer

BEGIN, HEADER, HEADER_END, EOT, IMAGE_TOKEN, PAD_TOKEN, END_TOKEN, VOCAB = 90, 91, 92, 93, 94, 95, 96, 98
SIDE, PATCH = 16, 4
IMAGE_SIZE = (SIDE // PATCH) ** 2 - 1  # "default" drops the first patch, though SigLIP has no class token
SPECIAL = {
    "<|begin_of_text|>": BEGIN,
    "<|start_header_id|>": HEADER,
    "<|end_header_id|>": HEADER_END,
    "<|eot_id|>": EOT,
    "<image>": IMAGE_TOKEN,
    "<|pad|>": PAD_TOKEN,
    "<|end_of_text|>": END_TOKEN,
}


@random_model("vision_tower", VOCAB, PAD_TOKEN, BEGIN, END_TOKEN)
def tiny_mantis(text, vision, strategy="default", **values):
    """A random model; `values` replace values of its configuration."""
    config = LlavaConfig(
        vision_config=SiglipVisionConfig(**siglip_values(SIDE, PATCH) | vision),
        text_config=LlamaConfig(**text()),
        **{"image_token_index": IMAGE_TOKEN, "pad_token_id": PAD_TOKEN} | values,
        vision_feature_layer=-2,
        vision_feature_select_strategy=strategy,
    )
    return LlavaForConditionalGeneration(config)


def mantis_batch(model, samples, seed=0):
    """Model inputs for `samples`, left-padded; a sample is text lengths (int) and images (seed,), in order."""
    size = IMAGE_SIZE + (model.config.vision_feature_select_strategy == "full")
    inputs = prompts(samples, lambda image, row: [IMAGE_TOKEN] * size, PAD_TOKEN, seed)
    return inputs | random_pixels(samples, lambda image: (1, 3, SIDE, SIDE), model.dtype)


def mantis_tokenizer(special=None):
    """Word-level; knows the words of the prompt layout; `<Image>` is ordinary text to it, as to the released one."""
    images = "".join(f"(image {i}: <Image><image></Image>)" for i in (1, 2, 3))
    layout = f"system user assistant {SYSTEM_PROMPT} {images} {images[:-1]} ."
    roles = {"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>"}
    return word_tokenizer([layout], special or SPECIAL, VOCAB, **roles)


def mantis_processor(side=SIDE, patch=PATCH, strategy="default"):
    """A LLaVA processor; its ids match `tiny_mantis`."""
    tokenizer = mantis_tokenizer()
    tokenizer.pad_token = "<|pad|>"
    tokenizer.padding_side = "left"
    return LlavaProcessor(
        image_processor=SiglipImageProcessor(size={"height": side, "width": side}),
        tokenizer=tokenizer,
        patch_size=patch,
        vision_feature_select_strategy=strategy,
    )
