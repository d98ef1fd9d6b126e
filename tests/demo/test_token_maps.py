"""What was kept can be seen where it lies, and nothing else."""

import numpy as np
import pytest
import torch

from plphp_core.demo.token_maps import ALL, FRAMES, kept_flags, kept_picture, token_maps
from plphp_core.vision.token_geometry import NO_TOKEN
from tests.demo.factories import a_conversation, an_answer, halves

LEFT, RIGHT = [0.0, 0.0, 0.5, 1.0], [0.5, 0.0, 1.0, 1.0]
QUARTERS = torch.tensor([[0, 0, 0.5, 0.5], [0.5, 0, 1, 0.5], [0, 0.5, 0.5, 1], [0.5, 0.5, 1, 1]])


def pixels(boxes, kept):
    return np.asarray(kept_picture(halves(), torch.tensor(boxes), torch.tensor(kept), 40)).astype(float)


def captions(kept, head=ALL, images=1):
    answer = an_answer([kept], boxes=[QUARTERS] * images, images=(4,) * images)
    conversation = a_conversation(answer, [halves()] * images)
    return [caption for _, caption in token_maps(conversation, "plphp", 0, head)]


def test_kept_parts_are_untouched_and_dropped_ones_grey():
    found = pixels([LEFT, RIGHT], [True, False])
    assert found.shape == (20, 40, 3)
    assert (found[:, :20] == (250, 0, 0)).all()
    assert np.ptp(found[:, 20:], axis=2).max() < 30  # no colour is left
    assert (pixels([LEFT, RIGHT], [True, True]) == np.asarray(halves())).all()


def test_half_of_the_heads_is_halfway():
    full, none, half = (pixels([LEFT, RIGHT], [share] * 2) for share in (1.0, 0.0, 0.5))
    assert np.abs(half - (full + none) / 2).max() <= 1


def test_where_no_token_lies_nothing_is_claimed():
    found = pixels([LEFT, [torch.nan] * 4], [True, True])
    assert (found[:, :20] == (250, 0, 0)).all() and (found[:, 20:] == NO_TOKEN).all()


def test_no_side_of_a_picture_vanishes():
    assert kept_picture(halves(2000, 1), torch.tensor([LEFT]), torch.tensor([True]), 80).size == (80, 1)


def test_flags_are_per_head_and_image():
    answer = an_answer([[[10, 12, 14], [11, 15]]], images=(4, 3))  # heads that keep different numbers, too
    assert kept_flags(answer, 0, 0).tolist() == [[True, False, True, False], [False, True, False, False]]
    assert kept_flags(answer, 0, 1).tolist() == [[True, False, False], [False, True, False]]


@pytest.mark.parametrize("kept, head, expected", [
    ([[10, 11], [12]], ALL, ["1.5 of 4"]),
    ([[10, 11], [12]], "1", ["1 of 4"]),
    ([[], []], ALL, ["0 of 4"]),
])  # fmt: skip
def test_all_heads_or_one(kept, head, expected):
    assert captions(kept, head) == expected


def test_a_map_per_image_and_none_without_an_answer():
    assert captions([[10, 14], [11, 15], [12, 16]], images=2) == ["1 of 4", "1 of 4"]
    assert token_maps(a_conversation(an_answer(), [halves()]), "vtw", 0, ALL) == []


def test_a_merged_token_has_a_frame_and_is_counted():
    answer = an_answer([[[10, 13]]], boxes=[QUARTERS], merged=[13])
    ((picture, caption),) = token_maps(a_conversation(answer, [halves()]), "plphp", 0, ALL)
    drawn, (height, width) = np.asarray(picture), picture.size[::-1]
    framed = (drawn == FRAMES[0]).all(-1)
    assert caption == "2 of 4, 1 merged"
    assert framed[height // 2, width // 2 :].all() and framed[height - 1, width // 2 :].all()
    assert not framed[: height // 2].any() and not framed[:, : width // 2].any()
