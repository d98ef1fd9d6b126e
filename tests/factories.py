"""Tiny random models and prompts, built in milliseconds, no files and no network."""

import torch
from transformers import LlavaOnevisionConfig, LlavaOnevisionForConditionalGeneration, Qwen2Config, SiglipVisionConfig

from plphp_core import PLPHP
from tests.families.tiny_parts import images_of, prompts, random_model, siglip_values

IMAGE_TOKEN, PAD_TOKEN, EOS_TOKEN, VOCAB = 90, 91, 92, 96
TILE, PATCH = 16, 4  # 4 × 4 patches per tile
SAMPLES = [[3, (16, 16, 1), (16, 16, 2), 4, (10, 20, 3), 6]]  # of `prompt_batch`
PADDED = [SAMPLES[0], [3, (16, 16, 5), 2]]
METHOD = PLPHP(alpha=0.8, beta=0.6)  # thresholds between which the layers of a random model fall


@random_model("vision_tower", VOCAB, PAD_TOKEN, None, EOS_TOKEN)
def tiny_llava_onevision(text, vision, **values):
    """A random LLaVA-OneVision; `values` replace values of its configuration."""
    decoder = text()
    decoder["head_dim"] = decoder["hidden_size"] // decoder["num_attention_heads"]
    config = LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(**siglip_values(TILE, PATCH) | vision),
        text_config=Qwen2Config(**decoder),
        image_token_id=IMAGE_TOKEN,
        video_token_id=93,
        vision_feature_select_strategy="full",
        pad_token_id=PAD_TOKEN,
        **{"image_grid_pinpoints": [[16, 32], [32, 16], [32, 32]], "vision_feature_layer": -1} | values,
    )
    return LlavaOnevisionForConditionalGeneration(config)


def tokens_of(model, images, alone):
    """Vision tokens of each image, counted by running the model's own packing on it."""
    pixels, sizes = _pixels(images, alone)
    counts = [1] * len(images) if alone else [len(images)]
    features = model.model.get_image_features(
        pixel_values=pixels.to(model.dtype),
        image_sizes=sizes,
        batch_num_images=torch.tensor(counts),
        return_dict=True,
        vision_feature_layer=model.config.vision_feature_layer,
        vision_feature_select_strategy=model.config.vision_feature_select_strategy,
    )
    return [len(image) for image in features.pooler_output]


def _pixels(images, alone):
    """Images are (height, width, seed); alone → a base tile and the tiles of its best grid, else one tile."""
    stacks = []
    for height, width, seed in images:
        generator = torch.Generator().manual_seed(seed)
        tiles = 1
        if alone:
            from transformers.image_processing_utils import select_best_resolution

            h, w = select_best_resolution((height, width), [[16, 32], [32, 16], [32, 32]])
            tiles += (h // TILE) * (w // TILE)
        stacks.append(torch.randn(tiles, 3, TILE, TILE, generator=generator))
    most = max(len(stack) for stack in stacks)
    padded = [torch.cat([stack, torch.zeros(most - len(stack), 3, TILE, TILE)]) for stack in stacks]
    return torch.stack(padded), torch.tensor([image[:2] for image in images])


def prompt_batch(model, samples, seed=0):
    """Model inputs for `samples`, left-padded.

    A sample is a list of text lengths (int) and images (height, width, seed) in order: `[5, (16, 32, 1), 4]`.
    """
    lengths, pixels, sizes, counts = [], [], [], []
    for images in filter(None, (images_of([sample]) for sample in samples)):
        alone = len(images) == 1
        lengths += tokens_of(model, images, alone)
        stack, size = _pixels(images, alone)
        pixels.append(stack)
        sizes.append(size)
        counts.append(len(images))
    in_order = iter(lengths)
    inputs = prompts(samples, lambda image, row: [IMAGE_TOKEN] * next(in_order), PAD_TOKEN, seed, words=90)
    if pixels:
        most = max(stack.shape[1] for stack in pixels)
        full = [torch.nn.functional.pad(p, (0, 0, 0, 0, 0, 0, 0, most - p.shape[1])) for p in pixels]
        inputs["pixel_values"] = torch.cat(full).to(model.dtype)
        inputs["image_sizes"] = torch.cat(sizes)
        inputs["batch_num_images"] = torch.tensor(counts)
    return inputs


def greedy(model, inputs, steps=5, **kwargs):
    out = model.generate(**inputs, max_new_tokens=steps, do_sample=False, eos_token_id=None, **kwargs)
    return out[:, inputs["input_ids"].shape[1] :].tolist()


def tiny_processor(tile=TILE, patch=PATCH, pinpoints=((16, 32), (32, 16), (32, 32)), words=()):
    """A LLaVA-OneVision processor with a tokenizer of `words`, then "w<id>"; its ids match `tiny_llava_onevision`."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        LlavaOnevisionImageProcessor,
        LlavaOnevisionProcessor,
        LlavaOnevisionVideoProcessor,
        PreTrainedTokenizerFast,
    )

    vocabulary = {word: i for i, word in enumerate([*words, *(f"w{i}" for i in range(len(words), IMAGE_TOKEN))])}
    special = {"<image>": IMAGE_TOKEN, "<pad>": PAD_TOKEN, "<|im_end|>": EOS_TOKEN, "<video>": 93, "<|im_start|>": 94}
    vocabulary |= special | {"<unk>": 95}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        unk_token="<unk>",
        pad_token="<pad>",
        eos_token="<|im_end|>",
        additional_special_tokens=["<image>", "<video>", "<|im_start|>"],
    )
    size = {"height": tile, "width": tile}
    return LlavaOnevisionProcessor(
        image_processor=LlavaOnevisionImageProcessor(size=size, image_grid_pinpoints=[list(p) for p in pinpoints]),
        tokenizer=tokenizer,
        video_processor=LlavaOnevisionVideoProcessor(size=size),
        num_image_tokens=(tile // patch) ** 2,
        vision_feature_select_strategy="full",
        vision_aspect_ratio="anyres_max_9",
    )
