"""Marks and number formats."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plphp_core.reporting.table_model import Table, TableCell, TableColumn, TableRow, bounds, number, percent, rank

NAN = math.nan


@pytest.mark.parametrize(
    ("values", "marks"),
    [
        ([3.0, 5.0, NAN, 4.0], ["", "best", "", "second"]),
        ([1.004, 1.001, 0.5, 0.501, 0.2], ["best", "best", "second", "second", ""]),  # alike as printed
        ([], []),
        ([NAN, NAN], ["", ""]),
        *(([*values], [""] * len(values)) for values in ([0.0], [0.0] * 3, [NAN, 0.0], [100.0, 100.001])),
    ],
)
def test_marks_need_values_that_print_differently(values, marks):
    assert rank(values) == marks


@given(st.lists(st.one_of(st.floats(-200, 200), st.just(NAN)), max_size=12))
def test_the_best_is_the_maximum_as_printed(values):
    printed = [number(value) for value in values]
    competing = sorted({round(value, 2) for value in values if not math.isnan(value)}, reverse=True)
    levels = dict(zip(map(number, competing), ("best", "second"), strict=False)) if len(competing) > 1 else {}
    assert rank(values) == [levels.get(text, "") for text in printed]


@pytest.mark.parametrize(
    ("value", "text"), [(1.005, "1.00"), (-0.001, "0.00"), (-3.456, "−3.46"), (NAN, "n/a"), (120, "120.00")]
)
def test_numbers_have_two_decimals_and_no_negative_zero(value, text):
    assert number(value) == text


def test_gains_carry_their_sign():
    assert [percent(x) for x in (0.0123, -0.0123, 0.000001, NAN)] == ["+1.23%", "−1.23%", "0.00%", "n/a"]
    assert percent(0.5, 1, signed=False) == "50.0%"


def test_intervals_need_both_ends():
    assert (bounds(10, 25), bounds(NAN, 0.3)) == ("[10.00, 25.00]", "n/a")
    assert bounds(-0.1, 0.25, percent) == "[−10.00%, +25.00%]"


def test_a_row_must_fit_its_columns():
    with pytest.raises(ValueError, match="1 cells for 2 columns"):
        Table("t", (TableColumn("a"), TableColumn("b")), (TableRow((TableCell(),)),))
