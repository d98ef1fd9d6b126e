"""Tiny random Gemma 3 models, prompts and processors: no files, no network."""

from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3ImageProcessor,
    Gemma3Processor,
    Gemma3TextConfig,
    SiglipVisionConfig,
)

from tests.families.tiny_parts import prompts, random_model, random_pixels, siglip_values, word_tokenizer

BEGIN, TURN, TURN_END, IMAGE_START, IMAGE_END, IMAGE_TOKEN, PAD_TOKEN, END_TOKEN, VOCAB = *range(90, 98), 99
SIDE, PATCH, POOLED = 32, 4, 4
IMAGE_SIZE = POOLED**2  # 8 × 8 patches, pooled 2 × 2
SPECIAL = {
    "<bos>": BEGIN,
    "<start_of_turn>": TURN,
    "<end_of_turn>": TURN_END,
    "<start_of_image>": IMAGE_START,
    "<end_of_image>": IMAGE_END,
    "<image_soft_token>": IMAGE_TOKEN,
    "<pad>": PAD_TOKEN,
    "<eos>": END_TOKEN,
}
# What the released template renders, as transformers' own tests of the processor show it.
TEMPLATE = (
    "{{ bos_token }}{% set before = namespace(text='') %}{% for message in messages %}"
    "{% if message['role'] == 'system' %}{% set before.text = message['content'][0]['text'] + '\n\n' %}{% else %}"
    "{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\n' + before.text }}"
    "{% set before.text = '' %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ '<start_of_image>' }}"
    "{% elif part['type'] == 'text' %}{{ part['text'] | trim }}{% endif %}{% endfor %}{{ '<end_of_turn>\n' }}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)


def norms(path, parameter, sharpness):
    if "norm" in path and "vision_tower" not in path:  # centred on 0 here, a weight of 1
        parameter.uniform_(-0.3, sharpness if "q_norm" in path or "k_norm" in path else 0.3)


@random_model("vision_tower", VOCAB, PAD_TOKEN, BEGIN, END_TOKEN, draw=norms)
def tiny_gemma3(text, vision, tokens=IMAGE_SIZE):
    """A random model of which every third layer sees everything, by far slower rotary tables."""
    rope = {
        "full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
    }
    values = text(query_pre_attn_scalar=2 * text()["head_dim"], sliding_window=160, rope_parameters=rope)
    kinds = ["full_attention" if i % 3 == 2 else "sliding_attention" for i in range(values["num_hidden_layers"])]
    config = Gemma3Config(
        vision_config=SiglipVisionConfig(**siglip_values(SIDE, PATCH) | vision),
        text_config=Gemma3TextConfig(**{"layer_types": kinds} | values),
        mm_tokens_per_image=tokens,
        image_token_index=IMAGE_TOKEN,
        boi_token_index=IMAGE_START,
        eoi_token_index=IMAGE_END,
        tie_word_embeddings=False,
    )
    return Gemma3ForConditionalGeneration(config)


def gemma3_batch(model, samples, seed=0):
    """Model inputs for `samples`, left-padded; a sample is text lengths (int) and images (seed,), in order.

    Every image stands between a start and an end token, as the processor writes it.
    """
    marks = [IMAGE_START] + [IMAGE_TOKEN] * model.config.mm_tokens_per_image + [IMAGE_END]
    inputs = prompts(samples, lambda image, row: marks, PAD_TOKEN, seed)
    inputs["token_type_ids"] = (inputs["input_ids"] == IMAGE_TOKEN).long()
    return inputs | random_pixels(samples, lambda image: (1, 3, SIDE, SIDE), model.dtype)


def gemma3_processor(side=SIDE, tokens=IMAGE_SIZE, pan=None):
    """A processor with a word-level tokenizer; its ids match `tiny_gemma3`."""
    roles = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "image_token": "<image_soft_token>"}
    roles |= {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>"}
    words = "user model You are a helpful assistant . ?"
    tokenizer = word_tokenizer([words], SPECIAL, VOCAB, **roles)
    tokenizer.padding_side = "left"
    return Gemma3Processor(
        image_processor=Gemma3ImageProcessor(size={"height": side, "width": side}, do_pan_and_scan=pan),
        tokenizer=tokenizer,
        image_seq_length=tokens,
        chat_template=TEMPLATE,
    )
