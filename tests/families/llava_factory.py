"""Tiny random models of LLaVA-1.5, prompts and processors: no files, no network."""

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
from tests.families.tiny_parts import prompts, random_model, random_pixels, siglip_values, word_tokenizer

BEGIN, END_TOKEN, IMAGE_TOKEN, PAD_TOKEN, VOCAB = 140, 141, 142, 143, 150
SIDE, PATCH = 16, 4
IMAGE_SIZE = (SIDE // PATCH) ** 2  # without the class token
SPECIAL = {"<s>": BEGIN, "</s>": END_TOKEN, "<image>": IMAGE_TOKEN, "<pad>": PAD_TOKEN}


@random_model("vision_tower", VOCAB, PAD_TOKEN, BEGIN, END_TOKEN)
def tiny_llava_1_5(text, vision, pad=True):
    """A random model; `pad` as the family's option."""
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**siglip_values(SIDE, PATCH) | vision),
        text_config=LlamaConfig(**text()),
        image_token_index=IMAGE_TOKEN,
        pad_token_id=PAD_TOKEN,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
    )
    config.image_aspect_ratio = "pad" if pad else "crop"
    return LlavaForConditionalGeneration(config)


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
