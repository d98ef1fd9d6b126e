"""What was kept can be seen where it lies, and nothing else."""

import numpy as np
import pytest
import torch

from plphp_core.demo.maps import DROPPED, NOWHERE, kept_flags, kept_picture
from plphp_core.demo.page import size
from plphp_core.demo.token_maps import ALL, maps
from tests.demo.factories import a_conversation, an_answer, halves

LEFT, RIGHT = [0.0, 0.0, 0.5, 1.0], [0.5, 0.0, 1.0, 1.0]
QUARTERS = torch.tensor([[0, 0, 0.5, 0.5], [0.5, 0, 1, 0.5], [0, 0.5, 0.5, 1], [0.5, 0.5, 1, 1]])


def pixels(*arguments):
    return np.asarray(kept_picture(*arguments)).astype(float)


def test_kept_parts_are_untouched_and_dropped_ones_dark():
    found = pixels(halves(), torch.tensor([LEFT, RIGHT]), torch.tensor([True, False]), 40)
    assert found.shape == (20, 40, 3)
    assert (found[:, :20] == (250, 0, 0)).all()
    assert np.abs(found[:, 20:] - DROPPED).max() < 20  # only a shade of what was there
    both = pixels(halves(), torch.tensor([LEFT, RIGHT]), torch.tensor([True, True]), 40)
    assert (both == np.asarray(halves())).all()


def test_half_of_the_heads_is_halfway():
    boxes = torch.tensor([LEFT, RIGHT])
    full, none, half = (pixels(halves(), boxes, torch.tensor([share] * 2), 40) for share in (1.0, 0.0, 0.5))
    assert np.abs(half - (full + none) / 2).max() <= 1


def test_where_no_token_lies_nothing_is_claimed():
    boxes = torch.tensor([LEFT, [torch.nan] * 4])
    found = pixels(halves(), boxes, torch.tensor([True, True]), 40)
    assert (found[:, :20] == (250, 0, 0)).all() and (found[:, 20:] == NOWHERE).all()


def test_shape_of_the_picture():
    assert kept_picture(halves(400, 100), torch.tensor([LEFT]), torch.tensor([True]), 80).size == (80, 20)
    assert kept_picture(halves(2000, 1), torch.tensor([LEFT]), torch.tensor([True]), 80).size == (80, 1)


def test_flags_are_per_head_and_image():
    answer = an_answer([[[10, 12, 14], [11, 12, 15]]], images=(4, 3))
    assert kept_flags(answer, 0, 0).tolist() == [[True, False, True, False], [False, True, True, False]]
    assert kept_flags(answer, 0, 1).tolist() == [[True, False, False], [False, True, False]]


@pytest.mark.parametrize("head, said, figures", [
    (ALL, "each head keeps 2 of 4 tokens (50%); here all heads", 3),
    ("0", "head 0 keeps 2 of 4 tokens (50%)", 1),
    ("1", "head 1 keeps 2 of 4 tokens (50%)", 1),
])  # fmt: skip
def test_all_heads_or_one(head, said, figures):
    answer = an_answer([[[10, 11], [10, 12]]], boxes=[QUARTERS])
    found = maps(a_conversation(answer, [halves()]), "plphp", 0, head, ALL, located=True)
    assert said in found and found.count("<figure>") == figures


@pytest.mark.parametrize("kept, said", [
    ([[10, 12], [10, 12]], "every head keeps the same 2 of 4 tokens (50%)"),
    ([[10, 11, 12, 13]] * 2, "every head keeps all 4 tokens"),
    ([[], []], "every head keeps none of 4 tokens"),
])  # fmt: skip
def test_equal_heads_are_one_picture(kept, said):
    found = maps(a_conversation(an_answer([kept], boxes=[QUARTERS]), [halves()]), "plphp", 0, ALL, ALL, located=True)
    assert said in found and found.count("<figure>") == 1 and "place of their own" not in found


def test_what_has_no_place_is_said():
    answer = an_answer([[[10, 11], [10, 12]]], boxes=[QUARTERS])
    assert "no place of their own" in maps(a_conversation(answer, [halves()]), "plphp", 0, ALL, ALL, located=False)


def test_images_one_by_one():
    answer = an_answer([[[10, 14], [11, 15]]], boxes=[QUARTERS, QUARTERS], images=(4, 4))
    conversation = a_conversation(answer, [halves(), halves()])
    assert maps(conversation, "plphp", 0, "0", ALL, located=True).count("<figure>") == 2
    assert "image 2: head 0" in (one := maps(conversation, "plphp", 0, "0", "2", located=True)) and "image 1" not in one
    assert "no image 3" in maps(conversation, "plphp", 0, "0", "3", located=True)
    assert "no answer yet" in maps(conversation, "vtw", 0, "0", "1", located=True)


def test_sizes():
    found = [size(n) for n in (500, 2048, 565248, 7 * 2**20, 3 * 2**30)]
    assert found == ["500 B", "2 KiB", "552 KiB", "7 MiB", "3 GiB"]
