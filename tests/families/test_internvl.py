"""InternVL3: prompts as upstream's wrapper makes them, tiles, and what is refused."""

import pytest
import torch

from plphp_core import PLPHP, prune
from plphp_core.families import family_of, get_family
from tests.families.internvl_factory import (
    IMAGE_END,
    IMAGE_START,
    TILE_TOKENS,
    internvl_batch,
    internvl_processor,
    tiny_internvl,
)
from tests.families.pictures import TURNS, picture, positions, spans
from tests.families.upstream import wrapper_call

UPSTREAM, PLAIN = get_family("internvl3"), get_family("internvl3", "plain")
USER, END = "<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"
IMAGE = "<IMG_CONTEXT>\n"


# --- prompts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "context, images, upstream, plain",
    [
        ("a", 1, f"{USER}{IMAGE}a{END}", f"{USER}{IMAGE}a{END}"),
        ("a", 2, f"{USER}{IMAGE}{IMAGE}a{END}", f"{USER}{IMAGE}{IMAGE}a{END}"),
        ("a", 0, f"{USER}a{END}", f"{USER}a{END}"),
        ("<image>\na", 1, f"{USER}{IMAGE}<image>\na{END}", f"{USER}{IMAGE}a{END}"),
        ("a <image> b <image>.", 2, f"{USER}{IMAGE * 2}a <image> b <image>.{END}", f"{USER}a {IMAGE} b {IMAGE}.{END}"),
        (
            TURNS,
            2,
            f"{USER}{IMAGE * 2}{TURNS}{END}",
            f"{USER}{IMAGE * 2}Where?<|im_end|>\n<|im_start|>assistant\nThere.<|im_end|>\n{USER}Why?{END}",
        ),
    ],
    ids=["one", "two", "text-only", "first", "in-place", "multi-view"],
)
def test_prompt_is_the_chat_template_and_only_plain_puts_images_in_place(context, images, upstream, plain):
    assert UPSTREAM.prompt(context, images) == upstream
    assert PLAIN.prompt(context, images) == plain


@pytest.mark.parametrize("token", ["<IMG_CONTEXT>", "<video>"])
def test_a_text_with_a_token_that_stands_for_pixels_is_refused(token):
    with pytest.raises(ValueError, match=f"the prompt contains {token}, which stands for pixels; mark images <image>"):
        UPSTREAM.prompt(f"what is {token}?", 1)


@pytest.mark.parametrize(
    "context, images",
    [
        ("w1 <image> w2 <image>", [picture(20, 9), picture(7, 30)]),
        ("w3 w4", [picture(12, 12), picture(9, 9), picture(50, 38)]),
        (TURNS, [picture(11, 12), picture(12, 11)]),
        ("w5", []),
    ],
    ids=["in-place", "three", "multi-view", "text-only"],
)
def test_prompts_inputs_and_answers_are_those_of_lmms_evals_own_wrapper(context, images):
    from lmms_eval.models.chat.internvl_hf import InternVLHf

    processor, said, until = internvl_processor(), [1, 90, 2, 91], {"until": ["\n\n"]}
    limits = {"min_patches": 1, "max_patches": UPSTREAM.max_tiles, "num_frames": 32, "fps": None}
    call, answer = wrapper_call(InternVLHf, processor, context, images, said, until, **limits)
    assert answer == UPSTREAM.decode(processor, torch.tensor(said), until)
    assert call["max_new_tokens"] == UPSTREAM.max_new_tokens
    assert [call["eos_token_id"]] == UPSTREAM.end_tokens(processor)
    ours = UPSTREAM.encode(processor, [UPSTREAM.prompt(context, len(images))], [images])
    assert all(torch.equal(call[name], ours[name]) for name in ours)


def test_tokens_of_an_image_stand_between_a_start_and_an_end_token():
    processor = internvl_processor()
    prompts = [UPSTREAM.prompt("w1", 2), UPSTREAM.prompt("w2", 0)]
    inputs = UPSTREAM.encode(processor, prompts, [[picture(40, 20), picture(10, 10)], []])
    images = [["<img>"] + ["<IMG_CONTEXT>"] * (TILE_TOKENS * tiles) + ["</img>"] for tiles in (3, 1)]
    expected = [
        ["<|im_start|>", "user", *images[0], *images[1], "w1", "<|im_end|>", "<|im_start|>", "assistant"],
        ["<|im_start|>", "user", "w2", "<|im_end|>", "<|im_start|>", "assistant"],
    ]
    for row, tokens in zip(inputs["input_ids"], expected, strict=True):
        pads = len(row) - len(tokens)
        assert processor.tokenizer.convert_ids_to_tokens(row.tolist()) == ["<|endoftext|>"] * pads + tokens


# --- images --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "size, tiles",
    [((448, 448), 1), ((100, 75), 13), ((640, 480), 13), ((800, 400), 3), ((900, 300), 4), ((3000, 300), 11)],
)
def test_tiles_of_the_released_geometry(size, tiles):
    """256 tokens of each tile of 448 pixels, as the released processor counts them."""
    processor = internvl_processor(side=448, tokens=256)
    inputs = UPSTREAM.encode(processor, [UPSTREAM.prompt("w1", 1)], [[picture(*size)]])
    assert inputs["pixel_values"].shape == (tiles, 3, 448, 448)
    assert len(positions(inputs["input_ids"], 95)[0]) == 256 * tiles


def test_the_marks_around_an_image_are_never_pruned():
    model = tiny_internvl()
    inputs = internvl_batch(model, [[3, (3, 1), (1, 2), 4]])
    with torch.no_grad(), prune(model, PLPHP(r=0.5, delta_r=0.0)) as trace:
        cache = model(**inputs).past_key_values
    fences = {*positions(inputs["input_ids"], IMAGE_START)[0], *positions(inputs["input_ids"], IMAGE_END)[0]}
    assert len(fences) == 4 and not fences & {int(i) for image in trace.images[0] for i in image}
    assert [layer.keys.shape[2] for layer in cache.layers[2:7]] == [7 + 4 + 4 * TILE_TOKENS // 2] * 5


def test_another_number_of_tokens_than_features_is_refused_with_the_remedy():
    model, processor = tiny_internvl(layers=4), internvl_processor(tokens=TILE_TOKENS + 1)
    inputs = UPSTREAM.encode(processor, [UPSTREAM.prompt("w1", 1)], [[picture(40, 20)]])
    for call in ("generate", "forward"):
        with pytest.raises(ValueError, match=r"15 image tokens, but the model makes 12 .* image_seq_length must be 4"):
            spans(model, inputs, call)


# --- loading -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [12, 4])
def test_the_family_limits_tiles_whatever_was_saved(tmp_path, most):
    model = tiny_internvl(layers=4)
    model.save_pretrained(tmp_path)
    internvl_processor(most=7).save_pretrained(tmp_path)
    loaded, processor = get_family("internvl3", max_tiles=most).load(str(tmp_path))
    assert family_of(loaded).name == "internvl3"
    inputs = UPSTREAM.encode(processor, [UPSTREAM.prompt("w1", 1)], [[picture(40, 30)]])
    assert len(inputs["pixel_values"]) == {12: 4 * 3 + 1, 4: 2 * 2 + 1}[most]
    torch.testing.assert_close(loaded(**inputs).logits, model(**inputs).logits)


def test_no_tiles_are_refused(tmp_path):
    tiny_internvl(layers=2).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="max_tiles = 0, but an image has at least 1"):
        get_family("internvl3", max_tiles=0).load(str(tmp_path))
