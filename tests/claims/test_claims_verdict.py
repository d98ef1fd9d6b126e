"""The ledger's rule: every outcome, its borders, several parts, and what a wider interval can never do."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plphp_core.analysis.bootstrap import MISSING, with_interval
from plphp_core.claims.verdict import (
    POSITIVE,
    TAIL,
    Outcome,
    Statement,
    at_least,
    at_most,
    equal_to,
    interval,
    outcomes,
    overall,
)

YES, NO, OPEN = Outcome.AS_CLAIMED, Outcome.NOT_AS_CLAIMED, Outcome.UNDECIDED
SPREAD = np.linspace(-1, 1, 401)  # 95 % of it lie within ±0.95


def around(value, spread=1.0):
    return with_interval(value, value + spread * SPREAD)


def rule(estimates, statement, needed=None):
    return overall(outcomes(estimates, statement, needed), needed)


@pytest.mark.parametrize(
    ("statement", "value", "expected"),
    [
        (at_least(10, 2), 8.96, YES),
        (at_least(10, 2), 8.94, OPEN),  # the interval reaches below 8
        (at_least(10, 2), 7.06, OPEN),
        (at_least(10, 2), 7.04, NO),
        (at_least(10, 2), 100.0, YES),  # more than claimed
        (at_least(10), 10.9, OPEN),  # without the tolerance
        (at_most(0.5), -0.46, YES),
        (at_most(0.5), 0.5, OPEN),
        (at_most(0.5), 1.46, NO),
        (equal_to(3, 2), 3.0, YES),
        (equal_to(3, 2), 1.5, OPEN),
        (equal_to(3, 2), 0.04, NO),
        (equal_to(3, 2), 5.96, NO),
        (POSITIVE, 0.96, YES),
        (POSITIVE, 0.0, OPEN),
        (POSITIVE, -0.96, NO),
    ],
)
def test_the_interval_decides_wholly_within_wholly_outside_or_not_at_all(statement, value, expected):
    assert outcomes([around(value)], statement) == [expected]
    assert rule([around(value)], statement) is expected


def test_a_border_decides_nothing():
    assert rule([with_interval(0.0, np.zeros(50))], POSITIVE) is OPEN  # not one sample differs
    assert rule([with_interval(0.02, np.array([0.0] * 49 + [1.0]))], POSITIVE) is OPEN
    assert not Statement(0, 1).holds(0, 0.5) and not Statement(0, 1).fails(-1, 0)


@pytest.mark.parametrize(
    "unknown", [MISSING, with_interval(5.0, np.full(50, math.nan)), with_interval(5.0, np.empty(0))]
)
def test_without_an_interval_nothing_is_decided(unknown):
    for statement in (POSITIVE, at_least(-100), at_most(-100)):
        assert rule([unknown], statement) is OPEN
    assert all(math.isnan(end) for end in interval(unknown))
    assert rule([around(5), unknown], POSITIVE) is OPEN  # all is not all but one
    assert rule([around(-50), unknown], POSITIVE) is NO  # one failing part is enough
    assert rule([around(5), around(5), unknown], POSITIVE, needed=2) is YES


def test_all_needs_every_part_and_one_refutes_it_unless_it_may_be_chance():
    assert rule([around(1.0)] * 5, POSITIVE) is YES  # every usual interval inside is enough
    assert rule([around(1.0)] * 4 + [around(0.5)], POSITIVE) is OPEN
    assert rule([around(1.0)] * 4 + [around(-1.0)], POSITIVE) is NO
    # outside of 0 at 95 %, but not at the level of one in five
    just = around(-0.96)
    assert rule([just], POSITIVE) is NO
    assert rule([around(1.0)] * 4 + [just], POSITIVE) is OPEN


def test_several_needs_two_beyond_chance_and_is_refuted_where_fewer_than_two_are_left():
    assert rule([around(2.0)] * 2 + [around(-2.0)] * 10, POSITIVE, needed=2) is YES
    assert rule([around(2.0)] + [around(0.0)] * 11, POSITIVE, needed=2) is OPEN
    assert rule([around(2.0)] + [around(-2.0)] * 11, POSITIVE, needed=2) is NO
    assert rule([around(0.0)] * 2 + [around(-2.0)] * 10, POSITIVE, needed=2) is OPEN
    # 0.96 is above 0 at 95 %, but two in twelve may be so by chance
    assert rule([around(0.96)] * 2 + [around(0.0)] * 10, POSITIVE, needed=2) is OPEN


def test_equals_are_seldom_called_different():
    """Twelve parts that truly are 0, many times: wrong verdicts stay rarer than 5 %, for all and for several."""
    draw = np.random.default_rng(0)
    wrong = {None: 0, 2: 0}
    for _ in range(200):
        centres, noise = draw.normal(0, 1, 12), draw.normal(0, 1, (12, 400))
        parts = [with_interval(centre, centre + spread) for centre, spread in zip(centres, noise, strict=True)]
        for needed in wrong:
            wrong[needed] += rule(parts, POSITIVE, needed) is not OPEN
    assert all(count <= 0.05 * 200 for count in wrong.values()), wrong


VALUES = st.floats(-50, 50)
SPREADS = st.floats(0.01, 20)
STATEMENTS = st.one_of(
    st.builds(at_least, VALUES, st.floats(0, 5)),
    st.builds(at_most, VALUES, st.floats(0, 5)),
    st.builds(equal_to, VALUES, st.floats(0, 5)),
)


@settings(max_examples=150, deadline=None)
@given(parts=st.lists(st.tuples(VALUES, SPREADS), min_size=1, max_size=6), statement=STATEMENTS, data=st.data())
def test_a_wider_interval_never_decides_what_a_narrower_one_left_open(parts, statement, data):
    needed = data.draw(st.integers(1, len(parts)))
    factor = data.draw(st.floats(1, 10))
    narrow = rule([around(*part) for part in parts], statement, needed)
    wide = rule([around(value, factor * spread) for value, spread in parts], statement, needed)
    assert wide in (narrow, OPEN)


@settings(max_examples=150, deadline=None)
@given(value=VALUES, more=st.floats(0, 20), spread=SPREADS, bound=VALUES, tolerance=st.floats(0, 5))
def test_more_is_never_worse_and_tolerance_only_helps(value, more, spread, bound, tolerance):
    rank = [NO, OPEN, YES]
    strict, lenient = at_least(bound), at_least(bound, tolerance)
    assert rank.index(rule([around(value + more, spread)], strict)) >= rank.index(rule([around(value, spread)], strict))
    assert rank.index(rule([around(value, spread)], lenient)) >= rank.index(rule([around(value, spread)], strict))


@settings(max_examples=100, deadline=None)
@given(parts=st.lists(st.sampled_from([YES, NO, OPEN]), min_size=1, max_size=8), data=st.data())
def test_no_set_of_parts_is_both_as_claimed_and_refuted(parts, data):
    needed = data.draw(st.integers(1, len(parts)))
    held, failed = parts.count(YES), parts.count(NO)
    expected = YES if held >= needed else NO if len(parts) - failed < needed else OPEN
    assert overall(parts, needed) is expected


def test_a_single_parts_interval_is_the_printed_one():
    one = with_interval(0.3, np.random.default_rng(1).normal(0.3, 1, 2000))
    assert interval(one) == pytest.approx((one.low, one.high))
    low, high = interval(one, TAIL / 10)
    assert low < one.low and high > one.high
    assert rule([one], at_least(one.low - 1e-9)) is YES and rule([one], at_least(one.low + 1e-9)) is OPEN
    assert rule([replace(one)], at_least(one.high + 1e-9)) is NO
