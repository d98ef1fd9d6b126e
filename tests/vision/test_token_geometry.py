"""Pictures of what tokens carry: mass is neither lost nor moved."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from plphp_core.vision.token_geometry import grid, kept_share, nowhere, painted, veiled
from tests.examples import examples

sides = st.integers(1, 9)


@given(sides, sides, sides, sides, st.integers(0, 9))
@examples(60)
def test_all_mass_of_a_grid_lands_on_the_image(rows, columns, height, width, seed):
    values = np.random.default_rng(seed).random(rows * columns)
    assert painted(grid(rows, columns), values, height, width).mean() == pytest.approx(values.sum())


def test_a_token_paints_its_own_box_and_nothing_else():
    picture = painted(grid(2, 3), [0, 0, 0, 0, 0, 1.0], 4, 6)
    expected = np.zeros((4, 6))
    expected[2:, 4:] = 6
    np.testing.assert_allclose(picture, expected)


def test_tokens_nowhere_or_beyond_the_image_paint_nothing():
    beyond = torch.tensor([[-1.0, 0.0, 0.0, 1.0], [0.0, 1.0, 1.0, 2.0]])
    boxes = torch.cat([nowhere(2), beyond, grid(1, 1)])
    picture = painted(boxes, [5, 5, 5, 5, 1.0], 3, 3)
    np.testing.assert_allclose(picture, np.ones((3, 3)))


def test_a_box_half_beyond_the_image_loses_half():
    picture = painted(torch.tensor([[-0.5, 0.0, 0.5, 1.0]]), [1.0], 2, 4)
    assert picture.mean() == pytest.approx(0.5)
    np.testing.assert_allclose(picture[:, 2:], 0)


def test_overlapping_crops_add_up_and_share_what_is_kept():
    boxes = torch.cat([grid(1, 1), grid(1, 2)])
    np.testing.assert_allclose(painted(boxes, [1, 0, 1.0], 1, 2), [[1, 3]])
    np.testing.assert_allclose(kept_share(boxes, [True, False, True], 1, 2), [[0.5, 1]])


def test_pixels_without_tokens_are_neither_kept_nor_dropped():
    share = kept_share(torch.cat([grid(1, 1, (0, 0, 0.5, 1)), nowhere(1)]), [False, True], 1, 2)
    assert share[0, 0] == 0 and np.isnan(share[0, 1])


@pytest.mark.parametrize("photo", [0, 40, 85, 128, 255])
def test_what_is_dropped_has_stripes_that_no_photo_hides(photo):
    """On whatever evenly grey photo, some of a dropped part differs from it by a contrast of 1.5 at least."""
    pixels = np.full((40, 40, 3), float(photo))
    share = np.ones((40, 40))
    share[:, 20:] = 0

    def luminance(part):
        linear = np.where(part / 255 <= 0.04045, part / 255 / 12.92, ((part / 255 + 0.055) / 1.055) ** 2.4)
        return linear[..., 0]

    kept, dropped = (luminance(veiled(pixels, share)[:, part]) for part in (slice(0, 20), slice(20, 40)))
    assert np.ptp(kept) == 0
    darker, lighter = np.minimum(kept.max(), dropped), np.maximum(kept.max(), dropped)
    assert ((lighter + 0.05) / (darker + 0.05)).max() > 1.5
    assert (dropped.max() + 0.05) / (dropped.min() + 0.05) > 2  # the stripes themselves
