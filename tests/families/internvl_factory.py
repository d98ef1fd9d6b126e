"""Tiny random InternVL models with a Qwen2 or a Qwen3 decoder, prompts and processors: no files, no network."""

from transformers import (
    GotOcr2ImageProcessor,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLProcessor,
    InternVLVideoProcessor,
    InternVLVisionConfig,
    Qwen2Config,
    Qwen3Config,
)

from tests.families.tiny_parts import (
    prompts,
    query_and_key_norms,
    random_model,
    random_pixels,
    siglip_values,
    word_tokenizer,
)

START, TURN_END, PAD_TOKEN, IMAGE_START, IMAGE_END, IMAGE_TOKEN, VIDEO_TOKEN, VOCAB = 90, 91, 92, 93, 94, 95, 96, 98
SIDE, PATCH = 16, 4
TILE_TOKENS = (SIDE // PATCH // 2) ** 2  # the pixel shuffle merges 2 × 2 patches
SPECIAL = {
    "<|im_start|>": START,
    "<|im_end|>": TURN_END,
    "<|endoftext|>": PAD_TOKEN,
    "<img>": IMAGE_START,
    "</img>": IMAGE_END,
    "<IMG_CONTEXT>": IMAGE_TOKEN,
    "<video>": VIDEO_TOKEN,
}
DECODERS = {"qwen2": Qwen2Config, "qwen3": Qwen3Config}
# As transformers' own tests of the released processor render it.
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}{{ '<IMG_CONTEXT>\n' }}"
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@random_model("vision_tower", VOCAB, PAD_TOKEN, None, TURN_END, draw=query_and_key_norms)
def tiny_internvl(text, vision, decoder="qwen2"):
    """A random model."""
    config = InternVLConfig(
        vision_config=InternVLVisionConfig(**siglip_values(SIDE, PATCH) | vision),
        text_config=DECODERS[decoder](**text()),
        image_token_id=IMAGE_TOKEN,
        tie_word_embeddings=False,
    )
    return InternVLForConditionalGeneration(config)


def internvl_batch(model, samples, seed=0):
    """Model inputs for `samples`, left-padded; a sample is text lengths (int) and images (tiles, seed), in order.

    Every image stands between a start and an end token, as the processor writes it.
    """

    def marks(image, row):
        return [IMAGE_START] + [IMAGE_TOKEN] * (TILE_TOKENS * image[0]) + [IMAGE_END]

    inputs = prompts(samples, marks, PAD_TOKEN, seed)
    return inputs | random_pixels(samples, lambda image: (image[0], 3, SIDE, SIDE), model.dtype)


def internvl_processor(side=SIDE, tokens=TILE_TOKENS, most=12, decoder="qwen2"):
    """A processor with a word-level tokenizer; its ids match `tiny_internvl`, whatever the decoder."""
    roles = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "video_token": "<video>"}
    roles |= {"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>"}
    tokenizer = word_tokenizer(["system user assistant ?"], SPECIAL, VOCAB, **roles)
    tokenizer.padding_side = "left"
    size = {"height": side, "width": side}
    return InternVLProcessor(
        image_processor=GotOcr2ImageProcessor(size=size, max_patches=most),
        tokenizer=tokenizer,
        video_processor=InternVLVideoProcessor(size=size),
        image_seq_length=tokens,
        chat_template=TEMPLATE,
    )
