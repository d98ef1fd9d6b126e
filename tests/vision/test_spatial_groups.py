"""How an image's tokens are cut into five groups, and what falls to each."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from plphp_core.vision.spatial_groups import CUTS, GROUPS, LABELS, group_masses, group_of
from plphp_core.vision.token_geometry import grid, nowhere


def test_bands_of_a_grid_are_its_rows():
    assert group_of(grid(10, 3), "bands").view(10, 3).tolist() == [[row // 2] * 3 for row in range(10)]


def test_centre_and_quadrants():
    found = group_of(grid(4, 4), "centre").view(4, 4).tolist()
    assert found == [[1, 1, 2, 2], [1, 0, 0, 2], [3, 0, 0, 4], [3, 3, 4, 4]]


def test_order_is_equal_runs_newlines_included():
    boxes = torch.cat([grid(1, 4), nowhere(1), grid(1, 5)])
    assert group_of(boxes, "order").tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


@pytest.mark.parametrize("cut", ["bands", "centre"])
def test_tokens_off_the_image_are_in_no_group(cut):
    boxes = torch.cat([nowhere(1), grid(1, 1, (0.0, -1.0, 1.0, -0.2)), grid(1, 1, (1.1, 0.0, 1.5, 1.0)), grid(1, 1)])
    assert group_of(boxes, cut).tolist()[:3] == [-1, -1, -1] and group_of(boxes, cut)[3] >= 0


@given(st.sampled_from(CUTS), st.integers(1, 9), st.integers(1, 9), st.integers(0, 3), st.integers(0, 99))
def test_masses_of_groups_and_of_none_are_all_there_is(cut, rows, columns, newlines, seed):
    boxes = torch.cat([grid(rows, columns), nowhere(newlines)])
    values = torch.rand(2, len(boxes), generator=torch.Generator().manual_seed(seed))
    groups = group_of(boxes, cut)
    masses = group_masses(values, groups)
    assert masses.shape == (2, GROUPS + 1) and len(LABELS[cut]) == GROUPS
    torch.testing.assert_close(masses.sum(-1), values.sum(-1))
    for group in range(GROUPS):
        torch.testing.assert_close(masses[:, group], values[:, groups == group].sum(-1))


def test_an_unknown_cut_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"'rings'.*bands, centre, order"):
        group_of(grid(1, 1), "rings")
