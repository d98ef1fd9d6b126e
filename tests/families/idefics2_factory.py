"""Tiny random Idefics2 models, prompts and processors: no files, no network."""

import torch
from transformers import (
    Idefics2Config,
    Idefics2ForConditionalGeneration,
    Idefics2ImageProcessor,
    Idefics2Processor,
    MistralConfig,
)

from tests.families.tiny_parts import images_of, noise, prompts, random_model, siglip_values, word_tokenizer

PAD_TOKEN, BEGIN, END_TOKEN, FAKE_TOKEN, IMAGE_TOKEN, UTTERANCE, VOCAB = 70, 71, 72, 73, 74, 75, 77
LATENTS, PATCH, LONGEST, SHORTEST = 6, 4, 24, 8
SPECIAL = {
    "<pad>": PAD_TOKEN,
    "<s>": BEGIN,
    "</s>": END_TOKEN,
    "<fake_token_around_image>": FAKE_TOKEN,
    "<image>": IMAGE_TOKEN,
    "<end_of_utterance>": UTTERANCE,
}


@random_model("vision_model", VOCAB, PAD_TOKEN, BEGIN, END_TOKEN)
def tiny_idefics2(text, vision, splitting=False, latents=LATENTS):
    """A random model; `splitting` None leaves it unsaid."""
    values = text(sliding_window=None)
    config = Idefics2Config(
        text_config=MistralConfig(**values),
        vision_config=siglip_values(LONGEST, PATCH) | vision,
        perceiver_config={
            "hidden_size": values["hidden_size"],
            "resampler_n_latents": latents,
            "resampler_depth": 1,
            "resampler_n_heads": 2,
            "resampler_head_dim": 8,
            "num_key_value_heads": 1,
        },
        image_token_id=IMAGE_TOKEN,
    )
    if splitting is not None:
        config.do_image_splitting = splitting
    return Idefics2ForConditionalGeneration(config)


def idefics2_batch(model, samples, seed=0):
    """Model inputs for `samples`, left-padded; a sample is text lengths (int) and images (height, width, seed).

    Adjacent images share the text token between them, as the processor writes them.
    """

    def marks(image, row):
        return [FAKE_TOKEN] * (row[-1:] != [FAKE_TOKEN]) + [IMAGE_TOKEN] * LATENTS + [FAKE_TOKEN]

    inputs = prompts(samples, marks, PAD_TOKEN, seed)
    images = [images_of([sample]) for sample in samples]
    if any(images):
        most = max(map(len, images))
        pixels = torch.zeros(len(samples), most, 3, LONGEST, LONGEST)
        mask = torch.zeros(len(samples), most, LONGEST, LONGEST, dtype=torch.long)
        for i, own in enumerate(images):
            for j, (height, width, image_seed) in enumerate(own):
                pixels[i, j, :, :height, :width] = noise(image_seed, 3, height, width)
                mask[i, j, :height, :width] = 1
        inputs |= {"pixel_values": pixels.to(model.dtype), "pixel_attention_mask": mask}
    return inputs


def idefics2_processor(splitting=False, longest=LONGEST, shortest=SHORTEST, latents=LATENTS, template=None):
    """A processor with a word-level tokenizer; its ids match `tiny_idefics2`."""
    roles = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    tokenizer = word_tokenizer(["User: Assistant: ?"], SPECIAL, VOCAB, **roles)
    tokenizer.padding_side = "left"
    return Idefics2Processor(
        image_processor=Idefics2ImageProcessor(
            size={"longest_edge": longest, "shortest_edge": shortest}, do_image_splitting=splitting
        ),
        tokenizer=tokenizer,
        image_seq_len=latents,
        chat_template=template,
    )
