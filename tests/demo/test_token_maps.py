"""What was kept can be seen where it lies, and nothing else."""

import numpy as np
import pytest
import torch

from plphp_core import PLPHP
from plphp_core.demo.token_maps import ALL, DROPPED, NO_TOKEN, kept_flags, kept_picture, layers_chart, token_maps
from tests.demo.factories import a_conversation, an_answer, halves

LEFT, RIGHT = [0.0, 0.0, 0.5, 1.0], [0.5, 0.0, 1.0, 1.0]
QUARTERS = torch.tensor([[0, 0, 0.5, 0.5], [0.5, 0, 1, 0.5], [0, 0.5, 0.5, 1], [0.5, 0.5, 1, 1]])


def pixels(boxes, kept):
    return np.asarray(kept_picture(halves(), torch.tensor(boxes), torch.tensor(kept), 40)).astype(float)


def captions(kept, head=ALL, image=ALL, images=1):
    answer = an_answer([kept], boxes=[QUARTERS] * images, images=(4,) * images)
    conversation = a_conversation(answer, [halves()] * images)
    return [caption for _, caption in token_maps(conversation, "plphp", 0, head, image)]


def test_kept_parts_are_untouched_and_dropped_ones_dark():
    found = pixels([LEFT, RIGHT], [True, False])
    assert found.shape == (20, 40, 3)
    assert (found[:, :20] == (250, 0, 0)).all()
    assert np.abs(found[:, 20:] - DROPPED).max() < 20  # only a shade of what was there
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
    ([[10, 11], [12]], ALL, ["image 1, heads' mean: 1.5 of 4", "image 1, head 0: 2 of 4", "image 1, head 1: 1 of 4"]),
    ([[10, 11], [12]], "1", ["image 1, head 1: 1 of 4"]),
    ([[10, 12], [10, 12]], ALL, ["image 1, every head: 2 of 4"]),
    ([[], []], ALL, ["image 1, every head: 0 of 4"]),
])  # fmt: skip
def test_all_heads_or_one(kept, head, expected):
    assert captions(kept, head) == expected


def test_images_one_by_one():
    kept = [[10, 14], [11, 15], [12, 16]]
    assert captions(kept, images=2) == ["image 1, heads' mean: 1 of 4", "image 2, heads' mean: 1 of 4"]
    assert captions(kept, image="1", images=2)[0] == "image 2, heads' mean: 1 of 4"
    assert len(captions(kept, image="1", images=2)) == 4  # and each head
    assert captions(kept, image="2", images=2) == []
    assert token_maps(a_conversation(an_answer(), [halves()]), "vtw", 0, ALL, ALL) == []


def test_the_layers_chart_has_the_methods_thresholds():
    answer = an_answer([[[10]], [[10, 11]]], method=PLPHP())
    found = {what: rows.value.tolist() for what, rows in layers_chart(answer).groupby("what")}
    assert found == {"kept share": [0.25, 0.5], "γ": [0.5, 0.5], "α": [0.25] * 2, "β": [0.1] * 2}
    answer.trace.vision_attention[0, 1] = torch.nan  # not recorded: not drawn
    assert layers_chart(answer).query("what == 'γ'").layer.tolist() == [0]
