"""Marks and number formats."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plphp_core.reporting.table_model import Table, TableCell, TableColumn, TableRow, bounds, number, percent, rank

NAN = math.nan


def test_best_and_second_among_the_eligible():
    assert rank([9.0, 3.0, 5.0, NAN, 4.0], [False, True, True, True, True]) == ["", "", "best", "", "second"]


def test_values_that_print_alike_share_their_mark():
    assert rank([1.004, 1.001, 0.5, 0.501, 0.2], [True] * 5) == ["best", "best", "second", "second", ""]


def test_marks_need_values():
    assert rank([], []) == []
    assert rank([NAN, NAN], [True, True]) == ["", ""]
    assert rank([NAN, 2.0, 1.0], [True, True, True]) == ["", "best", "second"]


@pytest.mark.parametrize("values", [[0.0], [0.0, 0.0, 0.0], [NAN, 0.0], [100.0, 100.001], [2.0, NAN, 2.0]])
def test_the_best_of_one_or_of_equals_is_not_marked(values):
    assert rank(values, [True] * len(values)) == [""] * len(values)
    assert rank([*values, 200.0], [*[True] * len(values), False]) == [""] * (len(values) + 1)


@given(st.lists(st.tuples(st.one_of(st.floats(-200, 200), st.just(NAN)), st.booleans()), max_size=12))
def test_the_best_is_the_maximum_as_printed(pairs):
    values, eligible = [value for value, _ in pairs], [ok for _, ok in pairs]
    marks = rank(values, eligible)
    competing = [value for value, ok in pairs if ok and not math.isnan(value)]
    best = [value for value, mark in zip(values, marks, strict=True) if mark == "best"]
    assert bool(best) == (len({number(value) for value in competing}) > 1)
    assert all(number(value) == number(max(competing)) for value in best)
    second = [value for value, mark in zip(values, marks, strict=True) if mark == "second"]
    rest = [value for value in competing if round(value, 2) < round(max(competing), 2)]
    assert bool(second) == bool(rest)
    assert all(number(value) == number(max(rest)) for value in second)


@pytest.mark.parametrize(
    ("value", "text"), [(1.005, "1.00"), (-0.001, "0.00"), (-3.456, "−3.46"), (NAN, "n/a"), (120, "120.00")]
)
def test_numbers_have_two_decimals_and_no_negative_zero(value, text):
    assert number(value) == text


def test_gains_carry_their_sign():
    assert [percent(x) for x in (0.0123, -0.0123, 0.000001, NAN)] == ["+1.23%", "−1.23%", "0.00%", "n/a"]
    assert percent(0.5, 1, signed=False) == "50.0%"


def test_intervals_need_both_ends():
    assert bounds(0.1, 0.25) == "[10.00, 25.00]"
    assert bounds(-0.1, 0.25, signed=True) == "[−10.00%, +25.00%]"
    assert bounds(NAN, 0.3) == "n/a"


def test_a_row_must_fit_its_columns():
    with pytest.raises(ValueError, match="1 cells for 2 columns"):
        Table("t", (TableColumn("a"), TableColumn("b")), (TableRow((TableCell(),)),))
