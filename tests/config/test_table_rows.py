"""Grids in a table's rows."""

import pytest

from plphp_core.config.table_rows import expand
from plphp_core.records.errors import UserError

PLPHP = {
    "name": "plphp",
    "setting": "r={r}",
    "r": 0.4,
    "delta_r": 0.3,
    "alpha": 0.25,
    "beta": 0.1,
    "gqa": "mean",
    "head_budget": "equal",
}


def test_a_row_without_lists_stays_as_it_is():
    row = {"method": "plphp", "r": 0.1, "delta_r": 0.3}  # not allowed, but that is for the caller to say
    assert expand(row, PLPHP) == ([row], [])


def test_every_allowed_combination_once_and_a_reason_for_the_others():
    rows, refused = expand({"method": "plphp", "r": [0.2, 0.5, 0.8], "delta_r": [0.0, 0.3]}, PLPHP)
    assert [(row["r"], row["delta_r"]) for row in rows] == [(0.2, 0.0), (0.5, 0.0), (0.5, 0.3), (0.8, 0.0)]
    assert all(row["method"] == "plphp" for row in rows)
    assert len(refused) == 2
    assert "r=0.2, delta_r=0.3 left out" in refused[0] and "delta_r ≤ r" in refused[0]
    assert "r=0.8, delta_r=0.3 left out" in refused[1] and "r + delta_r" in refused[1]


def test_a_combination_must_agree_with_the_parameters_that_are_not_listed():
    rows, refused = expand({"method": "plphp", "alpha": [0.05, 0.3]}, PLPHP)
    assert [row["alpha"] for row in rows] == [0.3]
    assert "beta = 0.1 > alpha = 0.05" in refused[0]


def test_a_grid_of_which_nothing_is_allowed_is_an_error():
    with pytest.raises(UserError, match="no combination"):
        expand({"method": "plphp", "r": [0.1, 0.2], "delta_r": 0.3}, PLPHP)
    with pytest.raises(UserError, match=r"r = \[\]"):
        expand({"method": "plphp", "r": []}, PLPHP)
