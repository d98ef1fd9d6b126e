"""Mantis: prompts and their tokens, loading what upstream's package saved, other LLaVA models."""

import json

import pytest
import torch
from safetensors.torch import save_file
from transformers import LlavaProcessor

from plphp_core.families import get_family
from tests.families.mantis_factory import (
    END_TOKEN,
    EOT,
    IMAGE_SIZE,
    SPECIAL,
    mantis_processor,
    mantis_tokenizer,
    tiny_mantis,
)
from tests.families.pictures import TURNS, picture

UPSTREAM, PLAIN = get_family("mantis"), get_family("mantis", "plain")
SYSTEM = (
    "<|start_header_id|>system<|end_header_id|>\n\n"
    "You are a pirate chatbot who always responds in pirate speak!<|eot_id|>"
)
USER = "<|start_header_id|>user<|end_header_id|>\n\n"
ANSWER = "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
ONE, TWO = "(image 1: <Image><image></Image>)", "(image 2: <Image><image></Image>)"


# --- prompts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "context, images, upstream, plain",
    [
        (
            "a <image> b <image>.",
            2,
            f"{SYSTEM}{USER}a {ONE} b {TWO}.{ANSWER}",
            f"{SYSTEM}{USER}a {ONE} b {TWO}.{ANSWER}",
        ),
        ("a", 2, f"{ONE}{TWO}{SYSTEM}{USER}a{ANSWER}", f"{SYSTEM}{USER}{ONE}{TWO}a{ANSWER}"),
        ("a USER: b", 1, f"{SYSTEM}{USER}a USER:{ONE} b{ANSWER}", f"{SYSTEM}{USER}{ONE}a USER: b{ANSWER}"),
        ("a", 0, f"{SYSTEM}{USER}a{ANSWER}", f"{SYSTEM}{USER}a{ANSWER}"),
        (
            TURNS,
            2,
            SYSTEM + USER + TURNS.replace("<image><image>", ONE + TWO) + ANSWER,
            f"{SYSTEM}{USER}{ONE}{TWO}\nWhere?{ANSWER}There.<|eot_id|>{USER}Why?{ANSWER}",
        ),
    ],
    ids=["in-place", "unmarked", "role-name", "text-only", "multi-view"],
)
def test_prompt_is_llama_3_with_upstreams_system_prompt_and_numbered_images(context, images, upstream, plain):
    assert UPSTREAM.prompt(context, images) == upstream
    assert PLAIN.prompt(context, images) == plain


def test_tokens_begin_once_and_hold_each_image_between_its_tags():
    processor = mantis_processor()
    prompt = UPSTREAM.prompt("w1 <image> w2 <image>", 2)
    inputs = UPSTREAM.encode(processor, [prompt], [[picture(20, 9), picture(7, 30)]])
    image = ["<image>"] * IMAGE_SIZE
    expected = [
        *["<|begin_of_text|>", "<|start_header_id|>", "system", "<|end_header_id|>"],
        *["You", "are", "a", "pirate", "chatbot", "who", "always", "responds", "in", "pirate", "speak", "!"],
        *["<|eot_id|>", "<|start_header_id|>", "user", "<|end_header_id|>"],
        *["w1", "(", "image", "1", ":", "<", "Image", ">"], *image, *["</", "Image", ">)", "w2"],
        *["(", "image", "2", ":", "<", "Image", ">"], *image, *["</", "Image", ">)"],
        *["<|eot_id|>", "<|start_header_id|>", "assistant", "<|end_header_id|>"],
    ]  # fmt: skip
    assert processor.tokenizer.convert_ids_to_tokens(inputs["input_ids"][0].tolist()) == expected
    assert inputs["pixel_values"].shape == (2, 3, 16, 16)


def test_answers_end_with_the_turn_or_the_text():
    processor = mantis_processor()
    assert UPSTREAM.end_tokens(processor) == PLAIN.end_tokens(processor) == [END_TOKEN, EOT]


# --- loading -------------------------------------------------------------------------------------------------------


def as_upstream_saved(model, folder, tokenizer=None):
    """A checkpoint as `mantis` saves it: the old LLaVA's weight names, and a processor that transformers lacks."""
    weights = {}
    for name, weight in model.state_dict().items():
        name = name.removeprefix("model.")
        if name.startswith("language_model."):
            name = name.replace("language_model.", "language_model.model.", 1)
        if name.startswith("lm_head"):
            name = "language_model." + name
        if name.startswith("vision_tower.") and ".vision_model." not in name:
            name = name.replace("vision_tower.", "vision_tower.vision_model.", 1)
        weights[name] = weight.clone()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    model.config.save_pretrained(folder)
    tokenizer = tokenizer or mantis_tokenizer()
    tokenizer.save_pretrained(folder)
    saved = folder / "tokenizer_config.json"
    saved.write_text(json.dumps(json.loads(saved.read_text()) | {"processor_class": "MLlavaProcessor"}))
    (folder / "preprocessor_config.json").write_text(
        json.dumps(
            {
                "processor_class": "MLlavaProcessor",
                "image_processor_type": "SiglipImageProcessor",
                "size": {"height": 16, "width": 16},
                "image_mean": [0.5] * 3,
                "image_std": [0.5] * 3,
            }
        )
    )


@pytest.mark.parametrize("strategy", ["default", "full"])
def test_what_upstream_saved_loads_with_a_processor_made_for_it(tmp_path, strategy):
    model = tiny_mantis(layers=2, strategy=strategy)
    as_upstream_saved(model, tmp_path)
    loaded, processor = UPSTREAM.load(str(tmp_path), dtype="float32")
    assert isinstance(processor, LlavaProcessor) and processor.tokenizer.padding_side == "left"
    assert processor.tokenizer.pad_token == "<|pad|>"
    assert all(torch.equal(weight, model.state_dict()[name]) for name, weight in loaded.state_dict().items())
    prompts, images = [UPSTREAM.prompt("w1", 1), UPSTREAM.prompt("w2", 0)], [[picture(30, 20)], []]
    inputs = UPSTREAM.encode(processor, prompts, images)
    expected = UPSTREAM.encode(mantis_processor(strategy=strategy), prompts, images)
    for name in expected:
        torch.testing.assert_close(inputs[name], expected[name])
    torch.testing.assert_close(loaded(**inputs).logits, model(**inputs).logits)


def test_what_we_saved_loads_again(tmp_path):
    model = tiny_mantis(layers=2)
    as_upstream_saved(model, tmp_path)
    loaded, processor = PLAIN.load(str(tmp_path))
    loaded.save_pretrained(tmp_path / "again")
    processor.save_pretrained(tmp_path / "again")
    again, same = PLAIN.load(str(tmp_path / "again"))
    sample = [PLAIN.prompt("w1 <image>", 1)], [[picture(11, 23)]]
    inputs, expected = PLAIN.encode(same, *sample), PLAIN.encode(processor, *sample)
    assert all(torch.equal(inputs[name], expected[name]) for name in expected)
    assert torch.equal(again(**inputs).logits, loaded(**inputs).logits)


def test_other_llava_models_are_refused_before_their_weights_are_read(tmp_path):
    vicuna = {token: i for token, i in SPECIAL.items() if "header" not in token}
    mantis_tokenizer(vicuna).save_pretrained(tmp_path)
    with pytest.raises(
        ValueError, match=r"lacks the special token <\|start_header_id\|> and <\|end_header_id\|>, which"
    ):
        UPSTREAM.load(str(tmp_path))


def test_an_image_token_that_the_model_does_not_know_is_refused(tmp_path):
    as_upstream_saved(tiny_mantis(layers=2, image_token_index=41), tmp_path)
    with pytest.raises(ValueError, match="<image> is token 94, but the model's configuration says 41"):
        UPSTREAM.load(str(tmp_path))
