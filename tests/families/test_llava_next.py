"""LLaVA-NeXT: prompts of three decoders, tiles of every image, token counts of the released geometry, loading."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlavaNextConfig

from plphp_core.families import family_of, get_family
from plphp_core.families.anyres import anyres_size
from plphp_core.families.llava_next import TEMPLATES
from tests.families.llava_next_factory import (
    RELEASED_TEMPLATES,
    llava_next_processor,
    saved_llava_next,
    tiny_llava_next,
)
from tests.families.pictures import picture

USER = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, "
    "and polite answers to the user's questions. "
)
HUMAN = (
    "A chat between a curious human and an artificial intelligence assistant. The assistant gives helpful, detailed, "
    "and polite answers to the human's questions. "
)
SYSTEM = (
    "<|start_header_id|>system<|end_header_id|>\n\nYou are a helpful language and vision assistant. You are able to "
    "understand the visual content that the user provides, and assist the user with a variety of tasks using natural "
    "language.<|eot_id|>"
)
ASKED, SAYS = "<|start_header_id|>user<|end_header_id|>\n\n", "<|start_header_id|>assistant<|end_header_id|>\n\n"
TURNS = json.dumps(
    [
        {"from": "human", "value": "<image>\nWhere?"},
        {"from": "gpt", "value": "There."},
        {"from": "human", "value": "Why?"},
    ]
)


def both(template):
    return get_family("llava_next", template=template), get_family("llava_next", "plain", template=template)


@pytest.mark.parametrize(
    "template, context, images, upstream, plain",
    [
        ("vicuna", "a", 1, f"{USER}USER: <image>\na ASSISTANT:", f"{HUMAN}USER: <image>\na ASSISTANT:"),
        ("vicuna", "a", 2, f"{USER}USER: <image> <image>\na ASSISTANT:",
         f"{HUMAN}USER: <image>\n<image>\na ASSISTANT:"),
        ("vicuna", "a <image> b", 1, f"{USER}USER: a <image> b ASSISTANT:", f"{HUMAN}USER: a <image> b ASSISTANT:"),
        ("vicuna", TURNS, 1, f"{USER}USER: {TURNS} ASSISTANT:",
         f"{HUMAN}USER: <image>\nWhere? ASSISTANT: There.</s>USER: Why? ASSISTANT:"),
        ("mistral", "a", 1, "[INST] <image>\na [/INST]", "[INST] <image>\na [/INST]"),
        ("mistral", "a", 2, "[INST] <image> <image>\na [/INST]", "[INST] <image>\n<image>\na [/INST]"),
        ("mistral", "a", 0, "[INST] a [/INST]", "[INST] a [/INST]"),
        ("mistral", TURNS, 1, f"[INST] {TURNS} [/INST]",
         "[INST] <image>\nWhere? [/INST] There.</s> [INST] Why? [/INST]"),
        ("llama3", "a ", 1, f"{SYSTEM}{ASKED}<image>\na<|eot_id|>{SAYS}", f"{ASKED}<image>\na <|eot_id|>{SAYS}"),
        ("llama3", "a", 2, f"{SYSTEM}{ASKED}<image> <image>\na<|eot_id|>{SAYS}",
         f"{ASKED}<image><image>\na<|eot_id|>{SAYS}"),
        ("llama3", TURNS, 1, f"{SYSTEM}{ASKED}{TURNS}<|eot_id|>{SAYS}",
         f"{ASKED}<image>\nWhere?<|eot_id|>{SAYS}There.<|eot_id|>{ASKED}Why?<|eot_id|>{SAYS}"),
    ],
)  # fmt: skip
def test_prompts_of_the_three_decoders_in_both_styles(template, context, images, upstream, plain):
    as_upstream, as_documented = both(template)
    assert as_upstream.prompt(context, images) == upstream
    assert as_documented.prompt(context, images) == plain


@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize("template", RELEASED_TEMPLATES)
def test_plain_prompts_are_what_the_released_templates_render(template, images):
    content = [{"type": "image"}] * images + [{"type": "text", "text": "What is it?"}]
    rendered = llava_next_processor(template).apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
    )
    assert both(template)[1].prompt("What is it?", images) == rendered
    assert both(template)[1].uses_chat_template and not both("vicuna")[1].uses_chat_template


def test_llama_3_ends_with_the_turn():
    assert both("vicuna")[0].end_tokens(llava_next_processor()) is None
    processor = llava_next_processor("llama3")
    assert both("llama3")[0].end_tokens(processor) == [processor.tokenizer.convert_tokens_to_ids("<|eot_id|>")]


def test_an_unknown_template_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="'llava_next' is 'yi'; allowed: vicuna, mistral, llama3, by the checkpoint's"):
        get_family("llava_next", template="yi")
    with pytest.raises(ValueError, match="option template of family 'llava_next' is a str, got 3"):
        get_family("llava_next", template=3)


# --- tiles ---------------------------------------------------------------------------------------------------------


def test_every_image_of_a_prompt_is_tiled():
    family, processor = get_family("llava_next"), llava_next_processor()
    images = [picture(32, 16), picture(16, 32)]
    inputs = family.encode(processor, [family.prompt("w1", 2)], [images])
    sizes = family.image_sizes(tiny_llava_next(layers=2), inputs)
    assert sizes == [16 + 4 * (8 + 1), 16 + 8 * (4 + 1)]  # a base tile, two tiles in a row or a column, newlines
    assert int((inputs["input_ids"] == processor.image_token_id).sum()) == sum(sizes)


@pytest.mark.parametrize(
    "size, tokens",
    [((336, 336), 1176), ((480, 640), 2340), ((640, 480), 2352), ((672, 672), 2928), ((2000, 2000), 2928),
     ((336, 1344), 1890), ((1344, 336), 1944)],
)  # fmt: skip
def test_token_counts_of_the_released_geometry(size, tokens):
    assert anyres_size(LlavaNextConfig(), list(size)) == tokens


@given(st.integers(20, 3000), st.integers(20, 3000))
def test_token_counts_equal_transformers_own(height, width):
    config = LlavaNextConfig()
    processor = llava_next_processor(side=336, patch=14, pinpoints=config.image_grid_pinpoints)
    expected = processor._get_number_of_features(height, width, 336, 336) - 1  # without the class token
    assert anyres_size(config, [height, width]) == expected


# --- loading -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("template", TEMPLATES)
def test_loading_round_trip(tmp_path, template):
    family = get_family("llava_next", template=template)
    model, processor = family.load(saved_llava_next(tmp_path, template), dtype="float32")
    assert family_of(model).name == "llava_next" and processor.num_additional_image_tokens == 1
    inputs = family.encode(processor, [family.prompt("w1", 1), family.prompt("w2", 0)], [[picture(40, 20)], []])
    assert int((inputs["input_ids"] == family.image_token_id(model)).sum()) == sum(family.image_sizes(model, inputs))
    with torch.no_grad():
        assert model(**inputs).logits.isfinite().all()


@pytest.mark.parametrize(
    "saved, asked, said",
    [
        ("llama3", "vicuna", "lacks the special token </s>, which prompts of family 'llava_next' with template=vicuna"),
        ("vicuna", "llama3", r"lacks .*<\|start_header_id\|> and .* template=llama3 \(of vicuna, mistral, llama3\)"),
        ("vicuna", "mistral", "has a decoder of type 'llama', but the prompts of .*=mistral .* are for a 'mistral'"),
        ("mistral", "vicuna", "has a decoder of type 'mistral', but the prompts of .*=vicuna .* are for a 'llama'"),
    ],
)  # fmt: skip
def test_a_template_that_is_not_the_checkpoints_is_refused(tmp_path, saved, asked, said):
    folder = saved_llava_next(tmp_path, saved)
    with pytest.raises(ValueError, match=said):
        get_family("llava_next", template=asked).load(folder)
