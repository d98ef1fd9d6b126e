"""Qwen-VL: prompt strings and token layouts in both styles, images before the processor, spans, loading."""

import json
from io import BytesIO

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from plphp_core import PLPHP, prune
from plphp_core.families import family_of, get_family
from plphp_core.families.qwen2_vl import resized
from tests.families.pictures import picture
from tests.families.qwen_factory import GENERATIONS, IMAGE_TOKEN, SIDE, tiny_qwen, tiny_qwen_processor
from tests.families.qwen_templates import TEMPLATES

HEAD = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
SEEN = "<|vision_start|><|image_pad|><|vision_end|>"
TAIL = "<|im_end|>\n<|im_start|>assistant\n"
TURNS = [
    {"from": "human", "value": "<image><image>\nWhere?"},
    {"from": "gpt", "value": "There."},
    {"from": "human", "value": "And <image>?"},
]
TALK = json.dumps(TURNS)


@pytest.mark.parametrize(
    "context, images, expected",
    [
        ("Describe.", 1, HEAD + SEEN + "Describe." + TAIL),
        ("Before <image> after <image>.", 2, HEAD + SEEN + SEEN + "Before  after ." + TAIL),
        ("Look: <image>", 1, HEAD + SEEN + "Look: " + TAIL),
        ("Only text.", 0, HEAD + "Only text." + TAIL),
        (TALK, 3, HEAD + SEEN * 3 + TALK.replace("<image>", "") + TAIL),
    ],
)
@pytest.mark.parametrize("name", GENERATIONS)
def test_lmms_eval_puts_images_first_and_leaves_json_as_text(name, context, images, expected):
    assert get_family(name).prompt(context, images) == expected


@pytest.mark.parametrize(
    "context, images, expected",
    [
        ("Describe.", 2, SEEN + SEEN + "Describe."),
        ("Before <image> after <image>.", 2, f"Before {SEEN} after {SEEN}."),
        ("Only text.", 0, "Only text."),
        ("[1] is a list? No: text.", 1, SEEN + "[1] is a list? No: text."),
        (
            TALK,
            3,
            f"{SEEN}{SEEN}\nWhere?<|im_end|>\n<|im_start|>assistant\nThere.<|im_end|>\n<|im_start|>user\nAnd {SEEN}?",
        ),
    ],
)
@pytest.mark.parametrize("name", GENERATIONS)
def test_plain_leaves_images_in_place_and_makes_json_turns(name, context, images, expected):
    head = "<|im_start|>user\n" if name == "qwen3_vl" else HEAD
    assert get_family(name, "plain").prompt(context, images) == head + expected + TAIL


@pytest.mark.parametrize("name", GENERATIONS)
def test_prompts_are_what_the_checkpoints_own_template_renders(name):
    processor = tiny_qwen_processor(name, TEMPLATES[name])
    image, text = {"type": "image"}, {"type": "text", "text": "Before  after "}
    system = {"role": "system", "content": "You are a helpful assistant."}
    asked = [system, {"role": "user", "content": [image, image, text]}]
    rendered = processor.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    assert get_family(name).prompt("Before <image> after <image>", 2) == rendered
    talk = [
        {"role": "user", "content": [image, image, {"type": "text", "text": "\nWhere?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "There."}]},
        {"role": "user", "content": [{"type": "text", "text": "And "}, image, {"type": "text", "text": "?"}]},
    ]
    rendered = processor.apply_chat_template(talk, tokenize=False, add_generation_prompt=True)
    assert get_family(name, "plain").prompt(TALK, 3) == rendered


@pytest.mark.parametrize("style", ["lmms_eval", "plain"])
def test_pixels_have_marks_of_their_own(style):
    with pytest.raises(ValueError, match=r"contains <\|image_pad\|>"):
        get_family("qwen2_vl", style).prompt("look <|image_pad|>", 1)


def test_plain_conversations_end_with_the_human_lmms_eval_takes_any_text():
    unfinished = json.dumps(TURNS[:2])
    with pytest.raises(ValueError, match="does not end with the human"):
        get_family("qwen2_vl", "plain").prompt(unfinished, 2)
    assert get_family("qwen2_vl").prompt(unfinished, 2).endswith(unfinished.replace("<image>", "") + TAIL)


# --- images ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GENERATIONS)
def test_images_go_through_a_jpeg_of_quality_85_where_upstream_sends_them_so(name):
    image = picture(50, 40)
    with BytesIO() as file:
        image.save(file, format="JPEG", quality=85)
        expected = np.asarray(Image.open(file).convert("RGB"))
    (found,) = get_family(name).images([image])
    if name == "qwen3_vl":
        expected = np.asarray(image)
    assert found.mode == "RGB" and np.array_equal(np.asarray(found), expected)
    (untouched,) = get_family(name, "plain").images([image])
    assert untouched is image


@given(
    st.integers(1, 5000),
    st.integers(1, 5000),
    st.sampled_from([16, 28, 32]),
    st.sampled_from([(3136, 602112), (200704, 1605632)]),
)
def test_sizes_are_those_of_qwen_vl_utils_and_final(height, width, side, limits):
    from qwen_vl_utils.vision_process import smart_resize

    if max(height, width) / min(height, width) > 200:
        with pytest.raises(ValueError, match=f"image of {width} × {height} pixels"):
            resized(height, width, side, *limits)
        return
    found = resized(height, width, side, *limits)
    assert found == smart_resize(height, width, side, *limits)
    assert resized(*found, side, *limits) == found


def test_images_are_resized_by_pil_to_what_the_processor_leaves_alone():
    processor = tiny_qwen_processor()
    image = picture(45, 27)
    inputs = get_family("qwen2_vl", "plain").encode(processor, [HEAD + SEEN + TAIL], [[image]])
    small = image.resize((48, 24))  # PIL's default filter, bicubic
    expected = processor.image_processor(images=[small], do_resize=False, return_tensors="pt")
    assert torch.equal(inputs["pixel_values"], expected["pixel_values"])
    assert inputs["image_grid_thw"].tolist() == [[1, 6, 12]]


# --- tokens ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GENERATIONS)
def test_token_layout_of_a_padded_batch(name):
    processor = tiny_qwen_processor(name)
    family = get_family(name)
    prompts = [family.prompt("w5 <image><image> w6", 2), family.prompt("w7", 0)]
    inputs = family.encode(processor, prompts, [[picture(16, 8), picture(8, 24)], []])
    text = [processor.tokenizer.convert_ids_to_tokens(row) for row in inputs["input_ids"].tolist()]
    unknown = ["<unk>"] * 4
    head = ["<|im_start|>", "system", *unknown, "assistant", ".", "<|im_end|>", "<|im_start|>", "user"]
    tail = ["<|im_end|>", "<|im_start|>", "assistant"]
    first, second = (["<|vision_start|>", *["<|image_pad|>"] * n, "<|vision_end|>"] for n in (2, 3))
    assert text[0] == [*head, *first, *second, "w5", "w6", *tail]
    assert text[1] == [*["<|endoftext|>"] * 10, *head, "w7", *tail]
    assert inputs["attention_mask"][1].tolist() == [0] * 10 + [1] * (len(text[1]) - 10)
    assert torch.equal(inputs["mm_token_type_ids"] == 1, inputs["input_ids"] == IMAGE_TOKEN)


def test_videos_are_refused():
    model = tiny_qwen(layers=4)
    video = {"pixel_values_videos": torch.zeros(4, 96), "video_grid_thw": torch.tensor([[1, 2, 2]])}
    with pytest.raises(ValueError, match="video inputs cannot be pruned"), prune(model, PLPHP()):
        model(input_ids=torch.tensor([[1, 93, 2]]), mm_token_type_ids=torch.tensor([[0, 2, 0]]), **video)


# --- loading ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GENERATIONS)
def test_loading_round_trip_with_the_familys_limits_on_pixels(name, tmp_path):
    model, processor, family = tiny_qwen(name, layers=4), tiny_qwen_processor(name), get_family(name, "plain")
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    loaded, read = family.load(str(tmp_path), dtype="float32")
    assert loaded.config._attn_implementation == "sdpa" and not loaded.training
    assert family_of(loaded).name == name and read.tokenizer.padding_side == "left"
    fewest, most = {"qwen2_vl": (3136, 602112)}.get(name, (200704, 1605632))
    inputs = family.encode(read, [family.prompt("w1", 2)], [[picture(9, 7), picture(1500, 1300)]])
    least, largest = (int(grid.prod()) * SIDE**2 // 4 for grid in inputs["image_grid_thw"])
    assert fewest <= least < 1.1 * fewest + 64 * SIDE and 0.97 * most < largest <= most
    few = family.encode(processor, [family.prompt("w1", 1)], [[picture(30, 20)]])
    torch.testing.assert_close(loaded(**few).logits, model(**few).logits)


@pytest.mark.parametrize("name", GENERATIONS)
def test_only_lmms_eval_stops_at_the_tokenizers_end_token_alone(name):
    processor = tiny_qwen_processor(name)
    assert get_family(name).end_tokens(processor) == [processor.tokenizer.eos_token_id]
    assert get_family(name, "plain").end_tokens(processor) is None
