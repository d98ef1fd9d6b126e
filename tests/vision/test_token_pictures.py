"""What was kept can be seen where it lies, and nothing else."""

from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image

from plphp_core.vision.token_geometry import NO_TOKEN
from plphp_core.vision.token_pictures import FRAMES, kept_flags, merged_flags, token_picture

LEFT, RIGHT = [0.0, 0.0, 0.5, 1.0], [0.5, 0.0, 1.0, 1.0]
QUARTERS = torch.tensor([[0, 0, 0.5, 0.5], [0.5, 0, 1, 0.5], [0, 0.5, 0.5, 1], [0.5, 0.5, 1, 1]])


def halves(width=40, height=20):
    """Red on the left, blue on the right."""
    image = Image.new("RGB", (width, height), (250, 0, 0))
    image.paste((0, 0, 250), (width // 2, 0, width, height))
    return image


def pixels(boxes, kept, merged=None):
    merged = None if merged is None else torch.tensor(merged)
    picture = token_picture(halves(), torch.as_tensor(boxes), torch.tensor(kept), merged, 40)
    return np.asarray(picture).astype(float)


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
    found = pixels([LEFT, [torch.nan] * 4], [True, True], [False, True])
    assert (found[:, :20] == (250, 0, 0)).all() and (found[:, 20:] == NO_TOKEN).all()


def test_no_side_of_a_picture_vanishes():
    assert token_picture(halves(2000, 1), torch.tensor([LEFT]), torch.tensor([True]), longest=80).size == (80, 1)


def test_a_frame_is_around_a_merged_token_and_nowhere_else():
    framed = (pixels(QUARTERS, [True] * 4, [False, False, False, True]) == FRAMES[0]).all(-1)
    assert framed[10, 20:].all() and framed[19, 20:].all() and not framed[:10].any() and not framed[:, :20].any()


def test_flags_are_of_the_tokens_asked_for_and_of_each_head_and_layer():
    heads = [torch.tensor([10, 12, 14]), torch.tensor([11, 15])]  # that keep different numbers, too
    trace = SimpleNamespace(kept=[[heads], [heads[::-1]]], merged=[[torch.tensor([12])], [torch.tensor([15])]])
    first, second = torch.arange(10, 14), torch.arange(14, 17)
    assert kept_flags(trace, first)[0].int().tolist() == [[1, 0, 1, 0], [0, 1, 0, 0]]
    assert kept_flags(trace, second)[1].int().tolist() == [[0, 1, 0], [1, 0, 0]]
    assert merged_flags(trace, first).int().tolist() == [[0, 0, 1, 0], [0, 0, 0, 0]]
