"""What fits is decoded in turn, the rest in parts; speed-ups come from common rounds, not from different minutes."""

from dataclasses import replace

import pytest

from plphp_core.bench import decode_timing
from plphp_core.bench.decode_timing import DecodedCase, decoding_rows, relate
from plphp_core.bench.random_model import RandomModel
from tests.bench.factories import MACHINE, settings


def cases(backends=("generate", "fast"), methods=("none", "plphp", "vtw"), batch=2):
    return settings(backends=list(backends), methods=list(methods), batch=[batch]).cases


@pytest.fixture
def one():
    made = RandomModel("tiny", settings())
    made.load()
    return made


@pytest.fixture
def groups(monkeypatch):
    """The groups that are really decoded in turn, as they are tried."""
    tried, real = [], decode_timing._measured
    monkeypatch.setattr(decode_timing, "_measured", lambda *args: tried.append(args[1]) or real(*args))
    return tried


def measured(one, wanted):
    return decoding_rows(one, wanted, MACHINE, lambda line: None)


@pytest.mark.parametrize("fitting, quartiles", [(6, 6), (3, 6), (1, 2)])
def test_what_does_not_fit_together_is_decoded_in_parts(one, groups, monkeypatch, fitting, quartiles):
    """By estimate: only so many cases fit. Measured alone, only `none` stands beside itself."""
    monkeypatch.setattr(decode_timing, "_fits", lambda one, cases: len(cases) <= fitting)
    rows = measured(one, cases())
    assert {len(group) for group in groups} == {fitting}
    assert [(row["backend"], row["method"]) for row in rows] == [
        (case.backend, case.method.name if case.method else "none") for case in cases()
    ]
    assert all(row["rounds"] == 3 and row["speed_up"] > 0 for row in rows)
    assert sum("speed_up_q1" in row for row in rows) == quartiles


@pytest.mark.parametrize("culprit", ["none", "plphp"])
def test_an_allocation_that_fails_costs_its_own_row_only(one, monkeypatch, culprit):
    real = decode_timing._prepared

    def fail(one, case, machine):
        if (case.method.name if case.method else "none") == culprit and case.backend == "fast":
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 10 bytes")
        return real(one, case, machine)

    monkeypatch.setattr(decode_timing, "_prepared", fail)
    rows = measured(one, cases())
    assert [(row["backend"], row["method"]) for row in rows if row["status"] == "oom"] == [("fast", culprit)]
    assert len(rows) == 6 and all("speed_up_q1" in row for row in rows if row["backend"] == "generate")


def test_other_errors_are_not_taken_for_a_lack_of_memory(one, monkeypatch):
    monkeypatch.setattr(decode_timing, "_prepared", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        measured(one, cases())


def decoded(method, rounds, roofline, none=None):
    """Of one step per round."""
    row = {"backend": "fast", "method": method, "ms_per_token": sum(rounds) / len(rounds), "roofline_ms": roofline}
    return DecodedCase(row, [[ms] for ms in rounds], none and [[ms] for ms in none])


def test_a_machine_that_becomes_three_times_slower_changes_no_speed_up():
    plain, pruned = [20.0, 60.0, 20.0, 60.0], [10.0, 30.0, 10.0, 31.0]
    none, plphp = decoded("none", plain, 10.0, plain), decoded("plphp", pruned, 6.0, plain)
    relate([none, plphp])
    assert (plphp.row["speed_up_q3"], plphp.row["speed_up"]) == (2, 2)
    assert plphp.row["speed_up_q1"] == pytest.approx(2, rel=0.02)
    assert plphp.row["share_of_ideal"] == pytest.approx((10 + 29) / 2 / 4)  # median of 10, 30, 10, 29
    assert plphp.row["ideal_speed_up"] == pytest.approx(10 / 6)
    assert none.row["speed_up"] == none.row["speed_up_q1"] == 1 and "share_of_ideal" not in none.row


def test_rows_measured_apart_have_no_quartiles():
    none, plphp = decoded("none", [20.0], 10.0), decoded("plphp", [17.0], 6.0)
    relate([none, plphp])
    assert plphp.row["speed_up"] == pytest.approx(20 / 17) and "speed_up_q1" not in plphp.row
    assert plphp.row["share_of_ideal"] == pytest.approx(0.75)


def test_no_share_of_next_to_nothing_and_no_relation_without_none():
    rows = [decoded(name, [17.0], roofline) for name, roofline in (("plphp", 9.6), ("vtw", 9.4))]
    relate(rows)
    assert all("speed_up" not in one.row and "ideal_speed_up" not in one.row for one in rows)
    relate([decoded("none", [20.0], 10.0), *rows])
    assert rows[0].row["speed_up"] and "share_of_ideal" not in rows[0].row
    assert rows[1].row["share_of_ideal"] == pytest.approx(3 / 0.6)
    other = replace(rows[0], row=rows[0].row | {"backend": "legacy"})
    del other.row["speed_up"]
    relate([decoded("none", [20.0], 10.0), other])
    assert "speed_up" not in other.row  # none of another backend
