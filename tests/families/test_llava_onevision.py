"""LLaVA-OneVision: prompt strings, image spans, and what its processor makes of images."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlavaOnevisionConfig

from plphp_core.families import family_names, get_family
from plphp_core.families.llava_onevision import _image_size
from tests.factories import IMAGE_TOKEN, tiny_llava_onevision, tiny_processor
from tests.families.pictures import TURNS, picture

FAMILY = get_family("llava_onevision")
HEAD = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
TAIL = "<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize(
    "context, images, expected",
    [
        ("Describe.", 1, HEAD + "<image>\nDescribe." + TAIL),
        ("Describe.", 2, HEAD + "<image> <image>\nDescribe." + TAIL),
        ("Before <image> after <image>.", 2, HEAD + "Before <image> after <image>." + TAIL),
        ("Only text.", 0, HEAD + "Only text." + TAIL),
        ("[1] is a list? No: text.", 0, HEAD + "[1] is a list? No: text." + TAIL),
    ],
)
def test_prompt_is_chatml_with_the_system_prompt_and_images_in_place(context, images, expected):
    assert FAMILY.prompt(context, images) == expected


def test_multi_view_conversation_becomes_turns():
    expected = (
        HEAD
        + "<image><image>\nWhere?<|im_end|>\n<|im_start|>assistant\nThere.<|im_end|>\n<|im_start|>user\nWhy?"
        + TAIL
    )
    assert FAMILY.prompt(TURNS, 2) == expected


def test_every_turn_says_something_and_the_human_speaks_last():
    with pytest.raises(ValueError, match="a turn says None, but must say a text"):
        FAMILY.prompt(json.dumps([{"from": "human", "value": None}]), 0)
    with pytest.raises(ValueError, match="does not end with the human"):
        FAMILY.prompt(json.dumps([{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]), 0)


def test_unknown_family_lists_the_known_ones():
    assert "llava_onevision" in family_names()
    with pytest.raises(ValueError, match=r"known: .*llava_onevision"):
        get_family("llava")


def test_several_images_are_one_padded_tile_each_and_one_image_is_tiled():
    processor = tiny_processor()
    two = FAMILY.encode(processor, [FAMILY.prompt("w1", 2)], [[picture(40, 20), picture(20, 40)]])
    one = FAMILY.encode(processor, [FAMILY.prompt("w1", 1)], [[picture(40, 20)]])
    assert int((two["input_ids"] == IMAGE_TOKEN).sum()) == 2 * 17
    assert int((one["input_ids"] == IMAGE_TOKEN).sum()) == 16 + 4 * (8 + 1)  # base tile, 1 × 2 tiles, newlines
    assert two["pixel_values"].shape[1] == 1


def test_padding_is_on_the_left():
    inputs = FAMILY.encode(tiny_processor(), [FAMILY.prompt("w1", 0), FAMILY.prompt("w1 w2 w3", 0)], [[], []])
    assert inputs["attention_mask"][0].tolist()[:2] == [0, 0]
    assert inputs["attention_mask"][:, -1].tolist() == [1, 1]


@given(st.integers(20, 4000), st.integers(20, 4000))
def test_token_counts_of_the_real_geometry_equal_transformers_own(height, width):
    """384-pixel tiles of 27 × 27 patches, grids up to 6 × 6: the 7B checkpoint's values are the config's defaults."""
    config = LlavaOnevisionConfig()
    processor = tiny_processor(384, 14, config.image_grid_pinpoints)
    expected = processor._get_number_of_features(height, width, 384, 384)
    assert _image_size(config, [height, width], tiled=True) == expected
    assert _image_size(config, [height, width], tiled=False) == 730


def test_decoding_strips_and_ignores_until():
    processor = tiny_processor()
    ids = torch.tensor([5, 6, 92, 91])
    assert FAMILY.decode(processor, ids, {"until": ["w6"]}) == "w5 w6"


def test_loading_round_trip_and_wrong_class(tmp_path):
    model, processor = tiny_llava_onevision(layers=4), tiny_processor()
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    loaded, read = FAMILY.load(str(tmp_path), dtype="float32")
    assert loaded.config._attn_implementation == "sdpa" and not loaded.training
    inputs = FAMILY.encode(read, [FAMILY.prompt("w1", 1)], [[picture(30, 20)]])
    torch.testing.assert_close(loaded(**inputs).logits, model(**inputs).logits)


def test_options_are_the_familys_own_and_of_their_kind():
    assert get_family("idefics2", image_splitting=True).image_splitting is True
    assert get_family("idefics2").image_splitting is False
    with pytest.raises(ValueError, match="'idefics2' has no option 'splitting'; known: image_splitting"):
        get_family("idefics2", splitting=True)
    with pytest.raises(ValueError, match="image_splitting of family 'idefics2' is a bool, got 'yes'"):
        get_family("idefics2", image_splitting="yes")
    with pytest.raises(ValueError, match="option pad of family 'llava_1_5' is a bool, got 'yes'; allowed: true, false"):
        get_family("llava_1_5", pad="yes")
    with pytest.raises(ValueError, match="known: none"):
        get_family("mantis", image_splitting=True)


def test_the_attention_asked_for_beats_the_one_a_checkpoint_was_saved_with(tmp_path):
    tiny_llava_onevision(layers=2).save_pretrained(tmp_path)
    tiny_processor().save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    for part in (saved, saved["text_config"], saved["vision_config"]):
        part["_attn_implementation"] = "eager"
    (tmp_path / "config.json").write_text(json.dumps(saved))
    model, _ = FAMILY.load(str(tmp_path), attn_implementation="sdpa")
    configs = (model.config, model.config.text_config, model.config.vision_config)
    assert {config._attn_implementation for config in configs} == {"sdpa"}
