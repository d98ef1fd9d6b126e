"""LLaVA-1.5: prompts and their tokens, padding and cropping, loading, the class that it shares with Mantis."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPImageProcessor, CLIPVisionConfig, SiglipVisionConfig

from plphp_core.families import family_of, get_family
from plphp_core.families.llava import crop_size
from tasks.toy.models.llava_1_5 import CHAT_TEMPLATE
from tests.families.llava_factory import (
    IMAGE_SIZE,
    clip_images,
    llava_1_5_processor,
    saved_llava_1_5,
    tiny_llava_1_5,
)
from tests.families.mantis_factory import mantis_batch, mantis_tokenizer, tiny_mantis
from tests.families.pictures import TURNS, picture

UPSTREAM, PLAIN = get_family("llava_1_5"), get_family("llava_1_5", "plain")
HEAD = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, "
    "and polite answers to the user's questions. "
)


# --- prompts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "context, images, upstream, plain",
    [
        ("a", 1, f"{HEAD}USER: <image>\na ASSISTANT:", "USER: <image>\na ASSISTANT:"),
        ("a", 2, f"{HEAD}USER: <image> <image>\na ASSISTANT:", "USER: <image>\n<image>\na ASSISTANT:"),
        ("a <image> b.", 1, f"{HEAD}USER: a <image> b. ASSISTANT:", "USER: a <image> b. ASSISTANT:"),
        ("a", 0, f"{HEAD}USER: a ASSISTANT:", "USER: a ASSISTANT:"),
        (
            TURNS,
            2,
            f"{HEAD}USER: {TURNS} ASSISTANT:",
            "USER: <image><image>\nWhere? ASSISTANT: There.</s>USER: Why? ASSISTANT:",
        ),
        (
            TURNS.replace("<image><image>\\n", ""),
            1,
            f"{HEAD}USER: <image>\n" + TURNS.replace("<image><image>\\n", "") + " ASSISTANT:",
            "USER: <image>\nWhere? ASSISTANT: There.</s>USER: Why? ASSISTANT:",
        ),
    ],
    ids=["one", "two", "in-place", "text-only", "multi-view", "multi-view-unmarked"],
)
def test_prompts_are_the_authors_conversation_and_the_checkpoints_own(context, images, upstream, plain):
    assert UPSTREAM.prompt(context, images) == upstream
    assert PLAIN.prompt(context, images) == plain


@pytest.mark.parametrize("images", [0, 1, 3])
def test_plain_prompts_are_what_the_released_template_renders(images):
    content = [{"type": "image"}] * images + [{"type": "text", "text": "What is it?"}]
    processor = llava_1_5_processor()
    rendered = processor.apply_chat_template(
        [{"role": "user", "content": content}], chat_template=CHAT_TEMPLATE, add_generation_prompt=True, tokenize=False
    )
    assert PLAIN.prompt("What is it?", images) == rendered


def test_tokens_begin_once_and_each_image_is_its_patches():
    processor = llava_1_5_processor()
    inputs = PLAIN.encode(processor, [PLAIN.prompt("w1 <image> w2", 1)], [[picture(20, 9)]])
    expected = ["<s>", "USER", ":", "w1", *["<image>"] * IMAGE_SIZE, "w2", "ASSISTANT", ":"]
    assert processor.tokenizer.convert_ids_to_tokens(inputs["input_ids"][0].tolist()) == expected


# --- padding and cropping ------------------------------------------------------------------------------------------


def as_the_authors(image):
    """`expand2square` of LLaVA's mm_utils.py: on a canvas of CLIP's mean colour."""
    side = max(image.size)
    square = Image.new("RGB", (side, side), (122, 116, 104))
    square.paste(image, tuple((side - length) // 2 for length in image.size))
    return square


@pytest.mark.parametrize("size", [(48, 16), (16, 47), (31, 20), (16, 16)])
def test_padding_is_the_authors_and_cropping_the_released_processors(tmp_path, size):
    folder, image = saved_llava_1_5(tmp_path, layers=2), picture(*size)
    released = clip_images(CLIPImageProcessor)
    for pad, expected in ((True, as_the_authors(image)), (False, image)):
        family = get_family("llava_1_5", pad=pad)
        model, processor = family.load(folder, dtype="float32")
        inputs = family.encode(processor, [family.prompt("w1", 1)], [[image]])
        torch.testing.assert_close(
            inputs["pixel_values"], released([expected], return_tensors="pt")["pixel_values"], atol=2e-2, rtol=0
        )
        assert int((inputs["input_ids"] == family.image_token_id(model)).sum()) == IMAGE_SIZE
        assert model.config.image_aspect_ratio == ("pad" if pad else "crop")


def test_what_was_saved_with_padding_loads_without(tmp_path):
    saved_llava_1_5(tmp_path, layers=2)
    model, processor = UPSTREAM.load(str(tmp_path))
    model.save_pretrained(tmp_path / "again")
    processor.save_pretrained(tmp_path / "again")
    family = get_family("llava_1_5", pad=False)
    _, cropping = family.load(str(tmp_path / "again"))
    image = picture(60, 20)
    expected = clip_images(CLIPImageProcessor)([image], return_tensors="pt")["pixel_values"]
    assert torch.equal(family.encode(cropping, ["w1 <image>"], [[image]])["pixel_values"], expected)


# --- other models of the class -------------------------------------------------------------------------------------


def test_other_models_of_the_class_are_refused(tmp_path):
    mantis_tokenizer().save_pretrained(tmp_path / "mantis")
    said = "lacks the special token </s>, which prompts of family 'llava_1_5' are made of"
    with pytest.raises(ValueError, match=said):
        UPSTREAM.load(str(tmp_path / "mantis"))
    folder = saved_llava_1_5(tmp_path, layers=2)
    config = json.loads((tmp_path / "config.json").read_text())
    config["text_config"]["model_type"] = "mistral"
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="has a decoder of type 'mistral', but family 'llava_1_5' talks to Vicuna"):
        UPSTREAM.load(folder)


def test_whichever_family_prune_finds_counts_and_places_images_alike():
    """LLaVA-1.5 and Mantis are one class of transformers."""
    one_and_a_half, mantis = tiny_llava_1_5(layers=2), tiny_mantis(layers=2)
    assert family_of(one_and_a_half).name == family_of(mantis).name == "llava_1_5"
    inputs = mantis_batch(mantis, [[3, (1,), (2,), 1], [2, (3,)]])
    for model in (one_and_a_half, mantis):
        pictures = [[picture(30, 20), picture(20, 30)], [picture(8, 8)]]
        families = [get_family(name) for name in ("llava_1_5", "mantis")]
        sizes, other = (family.image_sizes(model, inputs) for family in families)
        assert sizes == other == [16 - (model is mantis)] * 3
        for box, same in zip(*(family.token_boxes(model, inputs, pictures) for family in families), strict=True):
            assert np.array_equal(box, same, equal_nan=True) and not box.isnan().any()


def test_class_token_and_first_patch():
    clip, siglip = CLIPVisionConfig(image_size=336, patch_size=14), SiglipVisionConfig(image_size=384, patch_size=14)
    assert [crop_size(clip, "default"), crop_size(clip, "full")] == [576, 577]
    assert [crop_size(siglip, "default"), crop_size(siglip, "full")] == [728, 729]
    with pytest.raises(ValueError, match="vision tower 'pixtral' is not supported; known: siglip_vision_model"):
        from transformers import PixtralVisionConfig

        crop_size(PixtralVisionConfig(), "full")


def test_boxes_need_the_images_sizes_and_how_they_were_squared():
    model, processor = tiny_llava_1_5(layers=2), llava_1_5_processor()
    inputs = PLAIN.encode(processor, ["w1 <image>"], [[picture(20, 9)]])
    with pytest.raises(ValueError, match=r"do not tell how large the images were: call token_boxes\(model, inputs, im"):
        PLAIN.token_boxes(model, inputs)
    del model.config.image_aspect_ratio  # loaded by other means
    assert PLAIN.token_boxes(model, inputs)[0].isnan().all()
