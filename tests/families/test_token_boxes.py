"""Where vision tokens lie: one marked patch of the image changes just the tokens whose boxes say so.

The image goes through the real image processor and the model's own packing; what is read of the towers lies before
their layers, so that a token depends on nothing but its own pixels.
"""

import functools
import inspect

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from transformers.models.got_ocr2.image_processing_got_ocr2 import get_optimal_tiled_canvas

from plphp_core.families import family_names, family_of, get_family
from plphp_core.families.base import Family
from plphp_core.families.internvl3 import _cut
from tests.examples import first
from tests.factories import tiny_llava_onevision, tiny_processor
from tests.families.gemma3_factory import gemma3_processor, tiny_gemma3
from tests.families.idefics2_factory import idefics2_batch, tiny_idefics2
from tests.families.idefics3_factory import idefics3_processor, tiny_idefics3
from tests.families.internvl_factory import internvl_processor, tiny_internvl
from tests.families.llava_factory import llava_1_5_processor, tiny_llava_1_5
from tests.families.llava_next_factory import llava_next_processor, tiny_llava_next
from tests.families.mantis_factory import mantis_processor, tiny_mantis
from tests.families.qwen_factory import GENERATIONS, tiny_qwen, tiny_qwen_processor

SQUARE, PATCH = 64, 4  # of families whose tiles are read whole
TILE = 62  # two pixels of a tile belong to no patch, as 6 of SigLIP's 384 do
OF_TILE, OF_SQUARE, OF_CROP = (TILE // PATCH) ** 2, (SQUARE // PATCH // 2) ** 2, (TILE // PATCH // 3) ** 2  # tokens
PINPOINTS = [[62, 124], [124, 62], [124, 124], [62, 186], [186, 62], [124, 186]]
LOOKED_AT = {"num_hidden_layers": 1, "image_size": TILE, "patch_size": PATCH}  # before the last layer: what enters it
WHOLE = {"num_hidden_layers": 0, "image_size": SQUARE, "patch_size": PATCH}


def onevision(most=9):
    values = {"image_grid_pinpoints": PINPOINTS, "vision_feature_layer": -2}
    model = tiny_llava_onevision(1, vision=LOOKED_AT, vision_aspect_ratio=f"anyres_max_{most}", **values)
    return model, tiny_processor(TILE, PATCH, PINPOINTS)


def mantis(strategy):
    return tiny_mantis(layers=1, vision=LOOKED_AT, strategy=strategy), mantis_processor(TILE, PATCH, strategy)


def llava_1_5(pad):
    return tiny_llava_1_5(layers=1, pad=pad, vision=LOOKED_AT), llava_1_5_processor(pad, TILE, PATCH)


def llava_next():
    model = tiny_llava_next(layers=1, vision=LOOKED_AT, pinpoints=PINPOINTS)
    return model, llava_next_processor(side=TILE, patch=PATCH, pinpoints=PINPOINTS)


def gemma3():
    return tiny_gemma3(layers=2, vision=WHOLE, tokens=64), gemma3_processor(SQUARE, 64)


def internvl():
    return tiny_internvl(layers=2, vision=WHOLE), internvl_processor(SQUARE, OF_SQUARE)


def idefics3(family):
    model = tiny_idefics3(family, layers=2, vision=LOOKED_AT | {"num_hidden_layers": 0}, scale=3)
    return model, idefics3_processor(family, side=TILE, longest=4 * TILE, tokens=OF_CROP)


def qwen(family):
    extra = {"deepstack_visual_indexes": []} if family == "qwen3_vl" else {}
    return tiny_qwen(family, layers=2, vision={"depth": 0, **extra}), tiny_qwen_processor(family)


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
    family = family_of(model)
    inputs = family.encode(processor, [family.prompt("w1", len(images))], [images])
    known = inspect.signature(model.get_image_features).parameters
    given = {name: inputs[name] for name in known if name in inputs}
    made = torch.cat([one.flatten(0, -2) for one in model.get_image_features(**given, return_dict=True).pooler_output])
    return made.split(family.image_sizes(model, inputs)), inputs


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
    numbers, base = np.arange(len(boxes)), base % len(boxes) if base < 0 else base
    found = [numbers < base, numbers >= base] if base < len(boxes) else [numbers >= 0]
    return [some & ~np.isnan(boxes[:, 0]) for some in found if (some & ~np.isnan(boxes[:, 0])).any()]


def expect_mark_found(model, processor, images, which=0, base=10**6):
    """Marks all over an image: tokens over the mark change, tokens farther than one from it do not, in every crop.

    Args:
        base: tokens of the base tile, where tiles follow; below 0: where it follows tiles.
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
            far = np.maximum(distance_x, distance_y) > 1
            assert far.any()
            assert change[crop][far].max() <= 0.02 * change[crop].max(), f"mark at {x}, {y}"
            if over.any():
                weight = change[crop] / change[crop].sum()
                off_x = (weight * (left + right) / 2).sum() - at_x
                off_y = (weight * (top + bottom) / 2).sum() - at_y
                tokens = off_x / (right - left).mean(), off_y / (bottom - top).mean()
                assert max(map(abs, tokens)) < 0.75, f"mark at {x}, {y}"


# How to make it, tokens of the base tile, images before and behind, and sizes, of which the first ones are not slow.
BEFORE = [(40, 90)]
KINDS = {
    "llava_onevision": (
        onevision, OF_TILE, [], [], 2, [(300, 80), (123, 97), (124, 124), (66, 280), (400, 270), (160, 400), (62, 62)]
    ),
    "llava_onevision shrunk": (
        functools.partial(onevision, 2), OF_TILE, [], [], 1, [(188, 200), (240, 160), (180, 176)]
    ),
    **{name: (functools.partial(qwen, name), 10**6, [(64, 32)], [], 1, [(100, 37), (64, 64), (30, 120)])
       for name in GENERATIONS},
    **{f"mantis {how}": (functools.partial(mantis, how), 10**6, [], [(40, 40)], 1, [(300, 80), (64, 64)])
       for how in ("default", "full")},
    # a mark in the part that is cropped away changes nothing, and no token's box is over it
    **{f"llava_1_5 {pad}": (functools.partial(llava_1_5, pad), 10**6, BEFORE, [], 1, [(150, 61), (44, 203), (64, 64)])
       for pad in (True, False)},
    "llava_next": (llava_next, OF_TILE, BEFORE, [], 2, [(150, 61), (130, 124), (44, 203), (62, 62), (300, 170)]),
    "gemma3": (gemma3, 10**6, BEFORE, [], 1, [(300, 80), (66, 280), (64, 64)]),
    "internvl3": (
        internvl, -OF_SQUARE, [(40, 40)], [(100, 50)], 2, [(400, 270), (64, 64), (300, 80), (66, 280), (160, 130)]
    ),
    **{name: (
        functools.partial(idefics3, name), -OF_CROP, [(40, 40)], [(200, 100)], 1, [(300, 200), (250, 250), (80, 300)]
    ) for name in ("idefics3", "smolvlm2")},
}  # fmt: skip


@pytest.mark.parametrize(
    "kind, size",
    [
        pytest.param(kind, *one.values, marks=one.marks)
        for kind, (*_, few, sizes) in KINDS.items()
        for one in first(sizes, few)
    ],
)
def test_a_mark_on_an_image_changes_the_tokens_that_lie_there(kind, size):
    make, base, before, behind, *_ = KINDS[kind]
    images = [picture(*one) for one in (*before, size, *behind)]
    expect_mark_found(*make(), images, len(before), base)


def test_shrunk_tiles_are_fewer_tokens():
    few, many = (len(features(*onevision(most), [picture(188, 200)])[0][0]) for most in (2, 9))
    assert few < many


@pytest.mark.parametrize(
    "make, size, crops",
    [
        *((internvl, *one) for one in
          [((64, 64), 1), ((300, 80), 5), ((66, 280), 5), ((400, 270), 7), ((160, 130), 13), ((100, 50), 3)]),
        *((functools.partial(idefics3, name), *one) for name in ("idefics3", "smolvlm2") for one in
          [((40, 40), 17), ((250, 250), 17), ((300, 200), 13), ((80, 300), 9), ((200, 100), 9)]),
    ],
)  # fmt: skip
def test_tiles_and_the_whole(make, size, crops):
    model, processor = make()
    boxes = family_of(model).token_boxes(model, features(model, processor, [picture(*size)])[1], [[picture(*size)]])
    assert len(boxes[0]) == crops * (OF_SQUARE if make is internvl else OF_CROP)


def test_llava_onevision_images_of_one_prompt_are_padded_to_squares():
    model, processor = onevision()
    images = [picture(120, 120), picture(180, 83), picture(80, 241)]
    for which in range(3):
        expect_mark_found(model, processor, images, which)


def test_without_resizing_a_token_is_exactly_its_pixels():
    model, processor = onevision()
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
    model, processor = onevision()
    _, inputs = features(model, processor, [picture(300, 80)])
    (boxes,) = family_of(model).token_boxes(model, inputs)
    tiles = boxes[(TILE // PATCH) ** 2 :]
    columns = 1 + int(tiles[:, 0].isnan().nonzero()[0])
    assert tiles[:, 0].isnan().nonzero().flatten().tolist() == list(range(columns - 1, len(tiles), columns))


def test_every_familys_boxes_may_be_asked_with_the_images():
    for name in family_names():
        known = inspect.signature(get_family(name).token_boxes).parameters
        assert list(known) == ["model", "inputs", "images"], name


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
