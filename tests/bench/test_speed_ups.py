"""Speed-ups come from common rounds, not from medians of different minutes."""

import pytest

from plphp_core.bench.interleaved_decoding import DecodedCase, relate
from plphp_core.bench.interleaved_rounds import Round
from plphp_core.bench.speed_benchmark import COLUMNS


def row(method, ms, roofline, **more):
    same = {"model": "m", "backend": "fast", "batch": 8, "vision_tokens": 7}
    rooflines = {"roofline_ms_nominal": roofline and roofline / 2, "roofline_ms_measured": roofline}
    return dict.fromkeys(COLUMNS) | same | rooflines | {"method": method, "ms_per_token": ms} | more


def decoded(ms, none=()):
    rounds, plain = ([Round([value], 0.0) for value in values] for values in (ms, none))
    return DecodedCase(10, 7, 1.0, 0, 0, 0, "k", None, rounds, plain)


def test_a_machine_that_becomes_three_times_slower_changes_no_speed_up():
    plain, pruned = [20.0, 60.0, 20.0, 60.0], [10.0, 30.0, 10.0, 31.0]
    rows = [row("none", 40.0, 10.0), row("plphp", 20.5, 6.0)]
    relate(rows, [decoded(plain, plain), decoded(pruned, plain)], prefill_batch=1)
    found = rows[1]
    assert (found["speed_up_q3"], found["speed_up"]) == (2, 2) and found["speed_up_q1"] == pytest.approx(2, rel=0.02)
    saved = (10 + 29) / 2  # median of 10, 30, 10, 29
    assert found["share_of_ideal_measured"] == pytest.approx(saved / 4)
    assert found["share_of_ideal_nominal"] == pytest.approx(saved / 2)
    assert found["ideal_speed_up"] == pytest.approx(10 / 6)
    assert rows[0]["speed_up"] == rows[0]["speed_up_q1"] == 1 and rows[0]["share_of_ideal_measured"] is None


def test_rows_measured_apart_have_no_quartiles():
    rows = [row("none", 20.0, 10.0), row("plphp", 17.0, 6.0)]
    relate(rows, [decoded([20.0]), decoded([17.0])], prefill_batch=1)
    assert rows[1]["speed_up"] == pytest.approx(20 / 17) and rows[1]["speed_up_q1"] is None
    assert rows[1]["share_of_ideal_measured"] == pytest.approx(0.75)


def test_no_share_of_next_to_nothing():
    rows = [row("none", 20.0, 10.0), row("plphp", 17.0, 9.6), row("vtw", 17.0, 9.4)]
    relate(rows, [decoded([20.0], [20.0]), decoded([17.0], [20.0]), decoded([17.0], [20.0])], prefill_batch=1)
    assert rows[1]["speed_up"] and rows[1]["share_of_ideal_measured"] is None
    assert rows[2]["share_of_ideal_measured"] == pytest.approx(3 / 0.6)


def test_rows_without_a_counterpart_have_no_relations():
    rows = [row("none", None, None, status="oom"), row("plphp", 17.0, 6.0), row("plphp", None, None, batch=1)]
    relate(rows, [None, decoded([17.0]), None], prefill_batch=1)
    assert all(each["speed_up"] is None and each["ideal_speed_up"] is None for each in rows)


def test_added_prefill_in_tokens_of_none_at_the_prefills_batch():
    rows = [row("none", 20.0, 10.0), row("none", 5.0, 4.0, batch=1), row("plphp", 17.0, 6.0, added_prefill_ms=1.0)]
    relate(rows, [decoded([20.0]), decoded([5.0]), decoded([17.0])], prefill_batch=1)
    assert rows[2]["added_decode_tokens"] == pytest.approx(0.2)
    relate(rows := [row("plphp", 17.0, 6.0, added_prefill_ms=1.0)], [decoded([17.0])], prefill_batch=1)
    assert rows[0]["added_decode_tokens"] is None
