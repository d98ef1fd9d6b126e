"""The ledger's rule: every outcome, its borders, several parts, and what a wider interval can never do."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plphp_core.analysis.bootstrap import MISSING, with_interval
from plphp_core.claims.verdict import TAIL, RuleOutcome, Statement, interval, outcomes, overall

YES, NO, OPEN = RuleOutcome.AS_CLAIMED, RuleOutcome.NOT_AS_CLAIMED, RuleOutcome.UNDECIDED
SPREAD = np.linspace(-1, 1, 401)  # 95 % of it lie within ±0.95
POSITIVE = Statement(low=0.0)


def around(value, spread=1.0):
    return with_interval(value, value + spread * SPREAD)


def rule(estimates, statement=POSITIVE, needed=None):
    return overall(outcomes(estimates, statement, needed), needed)


@pytest.mark.parametrize(
    ("statement", "value", "expected"),
    [
        (Statement(low=8), 8.96, YES),
        (Statement(low=8), 8.94, OPEN),  # the interval reaches below 8
        (Statement(low=8), 7.06, OPEN),
        (Statement(low=8), 7.04, NO),
        (Statement(low=8), 100.0, YES),  # more than claimed
        (Statement(high=0.5), -0.46, YES),
        (Statement(high=0.5), 0.5, OPEN),
        (Statement(high=0.5), 1.46, NO),
        (Statement(1, 5), 3.0, YES),
        (Statement(1, 5), 1.5, OPEN),
        (Statement(1, 5), 0.04, NO),
        (Statement(1, 5), 5.96, NO),
    ],
)
def test_the_interval_decides_wholly_within_wholly_outside_or_not_at_all(statement, value, expected):
    assert outcomes([around(value)], statement) == [expected]
    assert rule([around(value)], statement) is expected


def test_a_border_decides_nothing():
    assert rule([with_interval(0.0, np.zeros(50))]) is OPEN  # not one sample differs
    assert rule([with_interval(0.02, np.array([0.0] * 49 + [1.0]))]) is OPEN
    assert not Statement(0, 1).holds(0, 0.5) and not Statement(0, 1).fails(-1, 0)


@pytest.mark.parametrize(
    "unknown", [MISSING, with_interval(5.0, np.full(50, math.nan)), with_interval(5.0, np.empty(0))]
)
def test_without_an_interval_nothing_is_decided(unknown):
    assert rule([unknown], Statement(low=-100)) is rule([unknown], Statement(high=-100)) is OPEN
    assert all(math.isnan(end) for end in interval(unknown))
    assert rule([around(5), unknown]) is OPEN  # all is not all but one
    assert rule([around(-50), unknown]) is NO  # one failing part is enough
    assert rule([around(5), around(5), unknown], needed=2) is YES


@pytest.mark.parametrize(
    ("values", "needed", "expected"),
    [
        ([1.0] * 5, None, YES),  # every usual interval inside is enough
        ([1.0] * 4 + [0.5], None, OPEN),
        ([1.0] * 4 + [-1.0], None, NO),
        ([-0.96], None, NO),
        ([1.0] * 4 + [-0.96], None, OPEN),  # outside of 0 at 95 %, but not at the level of one in five
        ([2.0] * 2 + [-2.0] * 10, 2, YES),
        ([2.0] + [0.0] * 11, 2, OPEN),
        ([2.0] + [-2.0] * 11, 2, NO),
        ([0.0] * 2 + [-2.0] * 10, 2, OPEN),
        ([0.96] * 2 + [0.0] * 10, 2, OPEN),  # above 0 at 95 %, but two in twelve may be so by chance
    ],
)
def test_all_and_several_parts_beyond_chance(values, needed, expected):
    assert rule([around(value) for value in values], needed=needed) is expected


def test_equals_are_seldom_called_different():
    """Twelve parts that truly are 0, many times: wrong verdicts stay rarer than 5 %, for all and for several."""
    draw = np.random.default_rng(0)
    wrong = {None: 0, 2: 0}
    for _ in range(200):
        centres, noise = draw.normal(0, 1, 12), draw.normal(0, 1, (12, 400))
        parts = [with_interval(centre, centre + spread) for centre, spread in zip(centres, noise, strict=True)]
        for needed in wrong:
            wrong[needed] += rule(parts, needed=needed) is not OPEN
    assert all(count <= 0.05 * 200 for count in wrong.values()), wrong


VALUES, SPREADS = st.floats(-50, 50), st.floats(0.01, 20)
STATEMENTS = st.one_of(
    st.builds(lambda low: Statement(low=low), VALUES),
    st.builds(lambda high: Statement(high=high), VALUES),
    st.builds(lambda middle, width: Statement(middle - width, middle + width), VALUES, st.floats(0, 5)),
)


@settings(max_examples=150, deadline=None)
@given(parts=st.lists(st.tuples(VALUES, SPREADS), min_size=1, max_size=6), statement=STATEMENTS, data=st.data())
def test_a_wider_interval_never_decides_what_a_narrower_one_left_open(parts, statement, data):
    needed = data.draw(st.integers(1, len(parts)))
    factor = data.draw(st.floats(1, 10))
    narrow = rule([around(*part) for part in parts], statement, needed)
    wide = rule([around(value, factor * spread) for value, spread in parts], statement, needed)
    assert wide in (narrow, OPEN)


def test_a_single_parts_interval_is_the_printed_one():
    one = with_interval(0.3, np.random.default_rng(1).normal(0.3, 1, 2000))
    assert interval(one) == pytest.approx((one.low, one.high))
    low, high = interval(one, TAIL / 10)
    assert low < one.low and high > one.high
