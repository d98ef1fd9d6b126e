"""Tiny random models of Idefics3 and SmolVLM2, prompts and processors: no files, no network."""

import torch
import transformers

from tests.families.tiny_parts import images_of, noise, prompts, random_model, siglip_values, word_tokenizer

BEGIN, PAD_TOKEN, FAKE_TOKEN, IMAGE_TOKEN, TURN_END, LINE, LABEL, GLOBAL = range(100, 108)
VOCAB = 110
SIDE, PATCH, SCALE, LONGEST = 16, 4, 2, 64
CROP_TOKENS = (SIDE // PATCH // SCALE) ** 2
CLASSES = {"idefics3": "Idefics3", "smolvlm2": "SmolVLM"}
OPENINGS = {"idefics3": "<|begin_of_text|>", "smolvlm2": "<|im_start|>"}
# github.com/huggingface/transformers, tests/models/smolvlm/test_processing_smolvlm.py; Idefics3's has its own opening.
TEMPLATE = (
    "{% for message in messages %}{{ message['role'] | capitalize }}"
    "{% if message['content'][0]['type'] == 'image' %}{{ ':' }}{% else %}{{ ': ' }}{% endif %}"
    "{% for line in message['content'] %}{% if line['type'] == 'text' %}{{ line['text'] }}"
    "{% elif line['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)


@random_model("vision_model", VOCAB, PAD_TOKEN, BEGIN, TURN_END)
def _tiny(text, vision, family, scale=SCALE):
    config = getattr(transformers, f"{CLASSES[family]}Config")(
        text_config=transformers.LlamaConfig(**text()),
        vision_config=siglip_values(SIDE, PATCH) | vision,
        image_token_id=IMAGE_TOKEN,
        scale_factor=scale,
    )
    return getattr(transformers, f"{CLASSES[family]}ForConditionalGeneration")(config)


def tiny_idefics3(family="idefics3", **options):
    """A random model."""
    return _tiny(family=family, **options)


def idefics3_batch(model, samples, seed=0):
    """Model inputs for `samples`, left-padded; a sample is text lengths (int) and images (rows, columns, seed).

    Written as the processor writes them; an image of no rows is the whole picture alone.
    """

    def marks(image, row):
        down, across, _ = image
        tiles = (([FAKE_TOKEN, LABEL] + [IMAGE_TOKEN] * CROP_TOKENS) * across + [LINE]) * down
        return tiles + [LINE] * bool(down) + [FAKE_TOKEN, GLOBAL] + [IMAGE_TOKEN] * CROP_TOKENS + [FAKE_TOKEN]

    inputs = prompts(samples, marks, PAD_TOKEN, seed)
    tiles = [
        torch.cat([torch.zeros(0, 3, SIDE, SIDE)] + [noise(own, down * across + 1, 3, SIDE, SIDE)
                                                     for down, across, own in images_of([sample])])
        for sample in samples
    ]  # fmt: skip
    if most := max(map(len, tiles)):
        pixels = torch.zeros(len(samples), most, 3, SIDE, SIDE)
        mask = torch.zeros(len(samples), most, SIDE, SIDE, dtype=torch.long)
        for i, one in enumerate(tiles):
            pixels[i, : len(one)], mask[i, : len(one)] = one, 1
        inputs |= {"pixel_values": pixels.to(model.dtype), "pixel_attention_mask": mask}
    return inputs


def idefics3_processor(family="idefics3", splitting=True, side=SIDE, longest=LONGEST, tokens=CROP_TOKENS, labels=True):
    """A processor with a word-level tokenizer that knows line breaks; its ids match `tiny_idefics3`.

    Args:
        labels: whether `<row_1_col_1>` and `<global-img>` are one token each, as in SmolVLM2, or several, as in
            Idefics3's own vocabulary.
    """
    special = {OPENINGS[family]: BEGIN, "<pad>": PAD_TOKEN, "<fake_token_around_image>": FAKE_TOKEN}
    special |= {"<image>": IMAGE_TOKEN, "<end_of_utterance>": TURN_END, "\n": LINE}
    if labels:
        special |= {"<row_1_col_1>": LABEL, "<global-img>": GLOBAL}
    roles = {"eos_token": "<end_of_utterance>", "pad_token": "<pad>"}
    begin = {"bos_token": OPENINGS[family]} if family == "idefics3" else {}  # which its tokenizer puts in front
    words = "User: Assistant: ? < > - global img"
    tokenizer = word_tokenizer([words], special, VOCAB, **roles, **begin)
    tokenizer.padding_side = "left"
    name = CLASSES[family]
    video = {"video_processor": transformers.SmolVLMVideoProcessor()} if family == "smolvlm2" else {}
    return getattr(transformers, f"{name}Processor")(
        image_processor=getattr(transformers, f"{name}ImageProcessor")(
            size={"longest_edge": longest}, max_image_size={"longest_edge": side}, do_image_splitting=splitting
        ),
        tokenizer=tokenizer,
        image_seq_len=tokens,
        chat_template=OPENINGS[family] + TEMPLATE,
        **video,
    )
