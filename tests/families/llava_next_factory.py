"""Tiny random models of LLaVA-NeXT, prompts and processors: no files, no network."""

import torch
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextImageProcessor,
    LlavaNextProcessor,
    MistralConfig,
)
from transformers.image_processing_utils import select_best_resolution

from plphp_core.families.llava import LLAMA3
from plphp_core.families.llava_next import TEMPLATES
from tests.families.llava_factory import BEGIN, END_TOKEN, IMAGE_TOKEN, PAD_TOKEN, PATCH, SIDE, SPECIAL, VOCAB
from tests.families.tiny_parts import images_of, noise, prompts, random_model, siglip_values, word_tokenizer

PINPOINTS = [[16, 32], [32, 16], [32, 32], [48, 16], [16, 48]]  # the released ones at a 21st of their size
LLAMA3_SPECIAL = {
    "<|begin_of_text|>": BEGIN,
    "<|eot_id|>": END_TOKEN,
    "<image>": IMAGE_TOKEN,
    "<|start_header_id|>": 144,
    "<|end_header_id|>": 145,
}
# chat_template.json of llava-hf/llava-v1.6-mistral-7b-hf and llava-hf/llama3-llava-next-8b-hf
RELEASED_TEMPLATES = {
    "mistral": (
        "{% for message in messages %}{% if message['role'] == 'user' %}{{ '[INST] ' }}"
        "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\n' }}{% endfor %}"
        "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}{{ content['text'] }}"
        "{% endfor %}{{' [/INST]' }}{% elif message['role'] == 'assistant' %}"
        "{{ ' ' + message['content'][0]['text'] + '</s> '}}{% endif %}{% endfor %}"
    ),
    "llama3": (
        "{% for message in messages %}{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'}}"
        "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>' }}{% endfor %}"
        "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}"
        "{{ '\n' + content['text'] + '<|eot_id|>' }}{% endfor %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
    ),
}


# With seed 0, two of H2O's sums are the same but for fp32's rounding.
@random_model("vision_tower", VOCAB, PAD_TOKEN, BEGIN, END_TOKEN, usual_seed=1)
def tiny_llava_next(text, vision, decoder="llama", pinpoints=PINPOINTS):
    """A random model."""
    mistral = decoder == "mistral"
    config = LlavaNextConfig(
        vision_config=CLIPVisionConfig(**siglip_values(SIDE, PATCH) | vision),
        text_config=MistralConfig(**text(sliding_window=None)) if mistral else LlamaConfig(**text()),
        image_token_index=IMAGE_TOKEN,
        image_grid_pinpoints=pinpoints,
        pad_token_id=PAD_TOKEN,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
    )
    return LlavaNextForConditionalGeneration(config)


def llava_next_tokens(model, images):
    """Vision tokens of each image (height, width, seed), counted by running the model's own packing on it."""
    if not images:
        return []
    pixels, sizes = _pixels(images)
    config = model.config
    found = model.model.get_image_features(
        pixel_values=pixels.to(model.dtype),
        image_sizes=sizes,
        vision_feature_layer=config.vision_feature_layer,
        vision_feature_select_strategy=config.vision_feature_select_strategy,
        return_dict=True,
    )
    return [len(image) for image in found.pooler_output]


def _pixels(images):
    """Random tiles, padded to as many as the image with most of them has, and the images' sizes."""
    stacks = []
    for height, width, seed in images:
        rows, columns = (length // SIDE for length in select_best_resolution((height, width), PINPOINTS))
        stacks.append(noise(seed, 1 + rows * columns, 3, SIDE, SIDE))
    most = max(map(len, stacks))
    padded = [torch.cat([stack, torch.zeros(most - len(stack), 3, SIDE, SIDE)]) for stack in stacks]
    return torch.stack(padded), torch.tensor([image[:2] for image in images])


def llava_next_batch(model, samples, seed=0):
    """Model inputs for `samples`, left-padded; a sample is text lengths (int) and images (height, width, seed)."""
    images = images_of(samples)
    lengths = iter(llava_next_tokens(model, images))
    inputs = prompts(samples, lambda image, row: [IMAGE_TOKEN] * next(lengths), PAD_TOKEN, seed)
    if images:
        pixels, inputs["image_sizes"] = _pixels(images)
        inputs["pixel_values"] = pixels.to(model.dtype)
    return inputs


def llava_next_processor(template="vicuna", side=SIDE, patch=PATCH, pinpoints=PINPOINTS):
    """A LLaVA-NeXT processor; its ids match `tiny_llava_next`."""
    chat = TEMPLATES[template]
    llama3 = chat.layout is LLAMA3
    texts = [chat.upstream, chat.plain, *chat.layout.question, *chat.layout.answer, "user assistant ?"]
    special = LLAMA3_SPECIAL if llama3 else SPECIAL
    begin, end = ("<|begin_of_text|>", "<|eot_id|>") if llama3 else ("<s>", "</s>")
    tokenizer = word_tokenizer(texts, special, VOCAB, bos_token=begin, eos_token=end)
    tokenizer.pad_token = end if llama3 else "<pad>"
    tokenizer.padding_side = "left"
    size = {"height": side, "width": side}
    return LlavaNextProcessor(
        image_processor=LlavaNextImageProcessor(
            size={"shortest_edge": side}, crop_size=size, image_grid_pinpoints=pinpoints
        ),
        tokenizer=tokenizer,
        patch_size=patch,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=RELEASED_TEMPLATES.get(template),
    )


def saved_llava_next(folder, template="vicuna"):
    """A checkpoint as the released ones with this decoder."""
    tiny_llava_next(decoder=TEMPLATES[template].decoder).save_pretrained(folder)
    llava_next_processor(template).save_pretrained(folder)
    return str(folder)
