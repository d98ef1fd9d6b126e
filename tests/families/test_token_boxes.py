"""Where vision tokens lie: one marked patch of the image changes just the tokens whose boxes say so.

The image goes through the real image processor and the model's own packing; what is read of the towers lies before
their layers, so that a token depends on nothing but its own pixels.
"""

import inspect

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from transformers import (
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaImageProcessor,
    LlavaNextImageProcessor,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionImageProcessor,
    Qwen2Config,
    SiglipImageProcessor,
    SiglipVisionConfig,
)
from transformers.models.got_ocr2.image_processing_got_ocr2 import get_optimal_tiled_canvas

from plphp_core.families import family_names, family_of, get_family
from plphp_core.families.internvl3 import _cut
from tests.families.gemma3_factory import gemma3_processor, tiny_gemma3
from tests.families.idefics2_factory import idefics2_batch, tiny_idefics2
from tests.families.idefics3_factory import idefics3_processor, tiny_idefics3
from tests.families.internvl_factory import internvl_processor, tiny_internvl
from tests.families.llava_factory import clip_images, tiny_llava_1_5
from tests.families.llava_next_factory import tiny_llava_next
from tests.families.qwen_factory import GENERATIONS, tiny_qwen, tiny_qwen_processor

SQUARE = 64  # of families whose tiles are read whole
TILE, PATCH = 62, 4  # two pixels of a tile belong to no patch, as 6 of SigLIP's 384 do
PINPOINTS = [[62, 124], [124, 62], [124, 124], [62, 186], [186, 62], [124, 186]]
TEXT = {"vocab_size": 64, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
HEADS = {"num_attention_heads": 2, "num_key_value_heads": 2}


def siglip():
    return SiglipVisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        image_size=TILE, patch_size=PATCH,
    )  # fmt: skip


def llava_onevision(most=9):
    torch.manual_seed(0)
    config = LlavaOnevisionConfig(
        vision_config=siglip(), text_config=Qwen2Config(**TEXT, **HEADS), image_token_id=60, video_token_id=61,
        image_grid_pinpoints=PINPOINTS, vision_feature_layer=-2, vision_feature_select_strategy="full",
        vision_aspect_ratio=f"anyres_max_{most}",
    )  # fmt: skip
    size = {"height": TILE, "width": TILE}
    processor = LlavaOnevisionImageProcessor(size=size, image_grid_pinpoints=PINPOINTS)
    return LlavaOnevisionForConditionalGeneration(config).eval(), processor


def mantis(strategy):
    from transformers import LlamaConfig

    torch.manual_seed(0)
    config = LlavaConfig(
        vision_config=siglip(), text_config=LlamaConfig(**TEXT, **HEADS), image_token_index=60,
        vision_feature_layer=-2, vision_feature_select_strategy=strategy,
    )  # fmt: skip
    processor = SiglipImageProcessor(size={"height": TILE, "width": TILE})
    return LlavaForConditionalGeneration(config).eval(), processor


def internvl():
    """Its whole processor, since the text tells how many tiles an image has."""
    model = tiny_internvl(layers=2, vision={"num_hidden_layers": 0, "image_size": SQUARE, "patch_size": PATCH})
    return model, internvl_processor(SQUARE, (SQUARE // PATCH // 2) ** 2)


def idefics3(family):
    model = tiny_idefics3(
        family, layers=2, vision={"num_hidden_layers": 0, "image_size": TILE, "patch_size": PATCH}, scale=3
    )
    return model, idefics3_processor(family, side=TILE, longest=4 * TILE, tokens=(TILE // PATCH // 3) ** 2)


def qwen(family):
    extra = {"deepstack_visual_indexes": []} if family == "qwen3_vl" else {}
    return tiny_qwen(family, layers=2, vision={"depth": 0, **extra}), tiny_qwen_processor(family).image_processor


def picture(width, height, mark=None):
    """Smooth grey, but for a mark: left, top, right, bottom in pixels."""
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([100 + 40 * x / width, 120 + 30 * y / height, 128 + 0 * x], axis=-1)
    if mark is not None:
        left, top, right, bottom = mark
        pixels[top:bottom, left:right] = (255, 0, 60)
    return Image.fromarray(pixels.astype(np.uint8))


@torch.no_grad()
def features(model, processor, images):
    """One `(tokens, hidden)` per image of a prompt with these images, and the inputs."""
    if hasattr(processor, "tokenizer"):
        family = family_of(model)
        inputs = family.encode(processor, [family.prompt("w1", len(images))], [images])
        pixels = {name: values for name, values in inputs.items() if name.startswith("pixel")}
        made = torch.cat(list(model.model.get_image_features(**pixels, return_dict=True).pooler_output))
        return made.split(family.image_sizes(model, inputs)), inputs
    flat = (
        processor([images], return_tensors="pt")
        if "Onevision" in type(processor).__name__
        else processor(images, return_tensors="pt")
    )
    arguments = {name: values for name, values in flat.items() if name not in ("image_sizes", "batch_num_images")}
    if "image_sizes" in flat:
        config = model.config
        arguments |= {
            "image_sizes": flat["image_sizes"],
            "vision_feature_layer": config.vision_feature_layer,
            "vision_feature_select_strategy": config.vision_feature_select_strategy,
        }  # fmt: skip
        if "batch_num_images" in flat:
            arguments["batch_num_images"] = flat["batch_num_images"]
    return model.model.get_image_features(**arguments, return_dict=True).pooler_output, flat


def changed(model, processor, images, which, mark):
    """How much each token of image `which` changes if it is marked, `(S_j,)`, and the boxes of its tokens."""
    width, height = images[which].size
    marked = [picture(*image.size, mark if at == which else None) for at, image in enumerate(images)]
    (before, inputs), (after, _) = (features(model, processor, some) for some in (images, marked))
    change = [(a - b).norm(dim=-1) for a, b in zip(before, after, strict=True)]
    assert all(other.max() == 0 for at, other in enumerate(change) if at != which)
    boxes = family_of(model).token_boxes(model, inputs, [images])
    assert [len(one) for one in boxes] == [len(one) for one in before]
    return change[which].numpy(), boxes[which].numpy() * np.array([width, height, width, height])


def crops_of(boxes, base):
    """Tokens of the base tile and of the tiles, each with a place."""
    numbers = np.arange(len(boxes))
    found = [numbers < base, numbers >= base] if base < len(boxes) else [numbers >= 0]
    return [some & ~np.isnan(boxes[:, 0]) for some in found if (some & ~np.isnan(boxes[:, 0])).any()]


def expect_mark_found(model, processor, images, which=0, base=10**6, slack=1.0):
    """Marks all over an image: tokens over the mark change, tokens far from it do not, whatever the crop.

    Args:
        base: tokens of the base tile, where tiles follow.
        slack: tokens' widths by which resampling may spread a mark.
    """
    width, height = images[which].size
    for x, y in [(0.05, 0.05), (0.5, 0.3), (0.95, 0.5), (0.3, 0.95), (0.7, 0.7)]:
        half = max(2, round(min(width, height) / 30))
        at_x, at_y = (min(max(round(part * length), half), length - half) for part, length in ((x, width), (y, height)))
        change, boxes = changed(
            model, processor, images, which, (at_x - half, at_y - half, at_x + half, at_y + half)
        )  # the mark is smaller than a token or about as large
        assert (change[np.isnan(boxes[:, 0])] == 0).all()
        for crop in crops_of(boxes, base):
            left, top, right, bottom = boxes[crop].T
            over = (left <= at_x) & (at_x < right) & (top <= at_y) & (at_y < bottom)
            if over.any():
                assert over.sum() == 1
                assert change[crop][over] > 0.2 * change[crop].max(), f"mark at {x}, {y}"
            distance_x = np.maximum(np.maximum(left - at_x - half, at_x - half - right), 0) / (right - left)
            distance_y = np.maximum(np.maximum(top - at_y - half, at_y - half - bottom), 0) / (bottom - top)
            far = np.maximum(distance_x, distance_y) > slack
            assert far.any()
            assert change[crop][far].max() <= 0.02 * change[crop].max(), f"mark at {x}, {y}"
            if over.any():
                weight = change[crop] / change[crop].sum()
                off_x = (weight * (left + right) / 2).sum() - at_x
                off_y = (weight * (top + bottom) / 2).sum() - at_y
                tokens = off_x / (right - left).mean(), off_y / (bottom - top).mean()
                assert max(map(abs, tokens)) < 0.75, f"mark at {x}, {y}"


@pytest.mark.parametrize("size", [(124, 124), (123, 97), (300, 80), (66, 280), (400, 270), (160, 400), (62, 62)])
def test_llava_onevision_tiles(size):
    model, processor = llava_onevision()
    expect_mark_found(model, processor, [picture(*size)], base=(TILE // PATCH) ** 2)


@pytest.mark.parametrize("size", [(240, 160), (188, 200), (180, 176)])
def test_llava_onevision_tiles_shrunk_to_fewer_tokens(size):
    model, processor = llava_onevision(most=2)
    assert len(features(model, processor, [picture(*size)])[0][0]) < len(
        features(*llava_onevision(), [picture(*size)])[0][0]
    )
    expect_mark_found(model, processor, [picture(*size)], base=(TILE // PATCH) ** 2)


def test_llava_onevision_images_of_one_prompt_are_padded_to_squares():
    model, processor = llava_onevision()
    images = [picture(120, 120), picture(180, 83), picture(80, 241)]
    for which in range(3):
        expect_mark_found(model, processor, images, which)


def test_without_resizing_a_token_is_exactly_its_pixels():
    model, processor = llava_onevision()
    images, base = [picture(186, 124)], (TILE // PATCH) ** 2
    _, inputs = features(model, processor, images)
    boxes = family_of(model).token_boxes(model, inputs)[0][base:] * torch.tensor([186, 124, 186, 124])
    placed = (~boxes[:, 0].isnan()).nonzero().flatten().tolist()
    for token in [*placed[::97], placed[14], placed[15], placed[44], placed[-1]]:
        mark = boxes[token].round().int().tolist()
        torch.testing.assert_close(boxes[token], torch.tensor(mark).float(), atol=1e-4, rtol=0)
        change, _ = changed(model, processor, images, 0, mark)
        assert change[base:].nonzero()[0].tolist() == [token]


def test_llava_onevision_newline_tokens_have_no_place():
    model, processor = llava_onevision()
    _, inputs = features(model, processor, [picture(300, 80)])
    (boxes,) = family_of(model).token_boxes(model, inputs)
    tiles = boxes[(TILE // PATCH) ** 2 :]
    columns = 1 + int(tiles[:, 0].isnan().nonzero()[0])
    assert tiles[:, 0].isnan().nonzero().flatten().tolist() == list(range(columns - 1, len(tiles), columns))


@pytest.mark.parametrize("family", GENERATIONS)
@pytest.mark.parametrize("size", [(64, 64), (100, 37), (30, 120)])
def test_qwen_grids(family, size):
    model, processor = qwen(family)
    expect_mark_found(model, processor, [picture(64, 32), picture(*size)], which=1)


@pytest.mark.parametrize("strategy", ["default", "full"])
@pytest.mark.parametrize("size", [(64, 64), (300, 80)])
def test_mantis_squeezes_the_image(strategy, size):
    model, processor = mantis(strategy)
    expect_mark_found(model, processor, [picture(*size), picture(40, 40)])


@pytest.mark.parametrize("pad", [True, False], ids=["pad", "crop"])
@pytest.mark.parametrize("size", [(64, 64), (150, 61), (44, 203)])
def test_llava_1_5_pads_or_crops_to_a_square(pad, size):
    """A mark in the part that is cropped away changes nothing, and no token's box is over it."""
    model = tiny_llava_1_5(layers=1, pad=pad, vision={"num_hidden_layers": 1, "image_size": TILE, "patch_size": PATCH})
    processor = clip_images(LlavaImageProcessor, TILE, do_pad=pad)
    expect_mark_found(model, processor, [picture(40, 90), picture(*size)], which=1)


@pytest.mark.parametrize("size", [(62, 62), (150, 61), (44, 203), (130, 124), (300, 170)])
def test_llava_next_tiles_every_image(size):
    vision = {"num_hidden_layers": 1, "image_size": TILE, "patch_size": PATCH}
    model = tiny_llava_next(layers=1, vision=vision, pinpoints=PINPOINTS)
    processor = clip_images(LlavaNextImageProcessor, TILE, image_grid_pinpoints=PINPOINTS)
    expect_mark_found(model, processor, [picture(40, 90), picture(*size)], which=1, base=(TILE // PATCH) ** 2)


@pytest.mark.parametrize("size", [(64, 64), (300, 80), (66, 280)])
def test_gemma3_squeezes_the_image(size):
    vision = {"num_hidden_layers": 0, "image_size": SQUARE, "patch_size": PATCH}
    model, processor = tiny_gemma3(layers=2, vision=vision, tokens=64), gemma3_processor(SQUARE, 64)
    expect_mark_found(model, processor, [picture(40, 90), picture(*size)], which=1)


def test_every_familys_boxes_may_be_asked_with_the_images():
    for name in family_names():
        known = inspect.signature(get_family(name).token_boxes).parameters
        assert list(known) == ["model", "inputs", "images"], name


@pytest.mark.parametrize(
    "size, tiles", [((64, 64), 1), ((300, 80), 4), ((66, 280), 4), ((400, 270), 6), ((160, 130), 12)]
)
def test_internvl_tiles_and_thumbnail(size, tiles):
    model, processor = internvl()
    images, side = [picture(40, 40), picture(*size), picture(100, 50)], SQUARE // PATCH // 2
    boxes = family_of(model).token_boxes(model, features(model, processor, images)[1], [images])
    assert [len(one) // side**2 for one in boxes] == [1, tiles + (tiles > 1), 3]
    expect_mark_found(model, processor, images, which=1, base=tiles * side**2)


@pytest.mark.parametrize("family", ["idefics3", "smolvlm2"])
@pytest.mark.parametrize("size, tiles", [((250, 250), 16), ((300, 200), 12), ((80, 300), 8)])
def test_idefics3_tiles_and_the_whole(family, size, tiles):
    model, processor = idefics3(family)
    images, of_tile = [picture(40, 40), picture(*size), picture(200, 100)], (TILE // PATCH // 3) ** 2
    boxes = family_of(model).token_boxes(model, features(model, processor, images)[1])
    assert [len(one) // of_tile for one in boxes] == [17, tiles + 1, 9]
    expect_mark_found(model, processor, images, which=1, base=tiles * of_tile)


@pytest.mark.parametrize("labels", [True, False])
def test_idefics3_without_tiles_is_one_raster(labels):
    model = tiny_idefics3(layers=2, vision={"image_size": TILE, "patch_size": PATCH}, scale=3)
    processor = idefics3_processor(splitting=False, side=TILE, longest=TILE, tokens=25, labels=labels)
    inputs = features(model, processor, [picture(40, 40), picture(90, 30)])[1]
    boxes = family_of(model).token_boxes(model, inputs)
    assert [len(one) for one in boxes] == [25, 25]
    assert boxes[1][-1].tolist() == pytest.approx([0.8 * 60 / 62] * 2 + [60 / 62] * 2)


@given(width=st.integers(20, 900), height=st.integers(20, 900), most=st.integers(1, 12))
def test_internvl_knows_how_an_image_was_cut(width, height, most):
    """Against the processor's own choice among all grids."""
    columns, rows = get_optimal_tiled_canvas((height, width), (32, 32), 1, most)
    assert _cut(rows * columns, width, height) == (rows, columns)


def test_internvl_asks_for_the_images_where_their_cut_is_not_known():
    model, processor = internvl()
    alone, tiles = (features(model, processor, [picture(*size)])[1] for size in ((40, 40), (100, 50)))
    assert family_of(model).token_boxes(model, alone)[0].shape == (64, 4)
    with pytest.raises(ValueError, match=r"columns images were cut: call token_boxes\(model, inputs, images\)"):
        family_of(model).token_boxes(model, tiles)


def test_idefics2_latents_look_at_their_crop():
    model = tiny_idefics2(layers=2)
    latents = model.config.perceiver_config.resampler_n_latents
    inputs = idefics2_batch(model, [[3, (16, 24, 1), 2, (16, 24, 2), 2]])
    model.config.do_image_splitting = False
    family = family_of(model)
    assert not family.located
    assert [one.tolist() for one in family.token_boxes(model, inputs)] == [[[0, 0, 1, 1]] * latents] * 2


def test_a_family_that_says_nothing_has_tokens_without_places():
    from plphp_core.families.base import Family

    class Silent(Family):
        def image_sizes(self, model, inputs):
            return [3]

    assert not Silent.located
    assert Silent().token_boxes(None, {})[0].isnan().all()


def test_which_families_have_places():
    located = {name for name in family_names() if get_family(name).located}
    assert located == {
        *GENERATIONS, "llava_onevision", "llava_1_5", "llava_next", "mantis", "internvl3", "idefics3", "smolvlm2",
        "gemma3",
    }  # fmt: skip
