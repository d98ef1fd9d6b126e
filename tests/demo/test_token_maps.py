"""A map of each image of an answer, with how much was kept of it."""

import numpy as np
import pytest
import torch

from plphp_core.demo.token_maps import ALL, token_maps
from plphp_core.vision.token_pictures import FRAMES
from tests.demo.factories import a_conversation, an_answer, halves

QUARTERS = torch.tensor([[0, 0, 0.5, 0.5], [0.5, 0, 1, 0.5], [0, 0.5, 0.5, 1], [0.5, 0.5, 1, 1]])


def captions(kept, head=ALL, images=1):
    answer = an_answer([kept], boxes=[QUARTERS] * images, images=(4,) * images)
    conversation = a_conversation(answer, [halves()] * images)
    return [caption for _, caption in token_maps(conversation, "plphp", 0, head)]


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


def test_a_merged_token_is_counted_and_framed():
    answer = an_answer([[[10, 13]]], boxes=[QUARTERS], merged=[13])
    ((picture, caption),) = token_maps(a_conversation(answer, [halves()]), "plphp", 0, ALL)
    assert caption == "2 of 4, 1 merged" and (np.asarray(picture) == FRAMES[0]).all(-1).any()
