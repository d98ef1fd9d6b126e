"""What fits is decoded in turn; what does not is taken apart, down to one row that says so."""

from collections import Counter
from dataclasses import replace

import pytest

from plphp_core.bench import interleaved_decoding
from plphp_core.bench.bench_models import bench_model
from plphp_core.bench.bench_settings import BenchCase
from plphp_core.bench.interleaved_decoding import decode_in_turn, parts
from tests.bench.factories import settings

GB = 1e9


def cases(backends=("generate", "fast"), methods=("none", "plphp", "vtw"), batch=2):
    params = {"none": (), "plphp": (("delta_r", 0.3), ("r", 0.4)), "vtw": (("K", 3),)}
    return [BenchCase("tiny", backend, name, params[name], batch, 130) for backend in backends for name in methods]


@pytest.fixture
def bench():
    return settings()


@pytest.fixture
def origin(bench):
    made = bench_model("tiny", bench)
    made.load()
    return made


@pytest.fixture
def groups(monkeypatch):
    """The groups that are really decoded in turn, as they are tried."""
    tried, real = [], interleaved_decoding._measured
    monkeypatch.setattr(interleaved_decoding, "_measured", lambda *args: tried.append(args[1]) or real(*args))
    return tried


def test_parts_keep_none_beside_every_method():
    whole = cases()
    by_backend = parts(whole)
    assert by_backend == [whole[:3], whole[3:]]
    assert parts(whole[3:]) == [[whole[3], whole[4]], [whole[3], whole[5]]]
    assert parts(whole[:2]) == [[whole[0]], [whole[1]]]
    assert parts(whole[1:3]) == [[whole[1]], [whole[2]]]  # no `none` to stand beside
    assert parts(whole[:1]) == []


def test_all_that_fits_is_decoded_in_the_same_rounds(origin, bench, groups):
    found = decode_in_turn(origin, cases(), bench)
    assert groups == [cases()] and list(found) == cases()
    for case, one in found.items():
        assert len(one.rounds) == bench.rounds
        assert one.none == found[replace(case, method="none", params=())].rounds


@pytest.mark.parametrize("fitting, counted", [(3, {"none": 1}), (2, {"none": 2}), (1, {"none": 1})])
def test_what_does_not_fit_together_is_decoded_in_parts(origin, bench, groups, monkeypatch, fitting, counted):
    """By estimate: only so many cases fit."""
    monkeypatch.setattr(interleaved_decoding, "_fits", lambda origin, cases, bench: len(cases) <= fitting)
    found = decode_in_turn(origin, cases(), bench)
    assert max(map(len, groups)) == fitting and set(found) == set(cases())
    times = Counter(case.method for group in groups for case in group if case.backend == "fast")
    assert times["none"] == counted["none"] and times["plphp"] == 1
    for case, one in found.items():
        assert len(one.rounds) == bench.rounds * times[case.method]
        assert len(one.none) == (0 if fitting == 1 and case.method != "none" else len(one.rounds))


@pytest.mark.parametrize("culprit", ["none", "plphp"])
def test_an_allocation_that_fails_costs_its_own_row_only(origin, bench, monkeypatch, culprit):
    real = interleaved_decoding._prepared

    def fail(origin, case, bench):
        if case.method == culprit and case.backend == "fast":
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 10 bytes")
        return real(origin, case, bench)

    monkeypatch.setattr(interleaved_decoding, "_prepared", fail)
    found = decode_in_turn(origin, cases(), bench)
    failed = [case for case, one in found.items() if one is None]
    assert [(case.backend, case.method) for case in failed] == [("fast", culprit)] and len(found) == 6
    assert all(one.none for case, one in found.items() if case.backend == "generate")


def test_other_errors_are_not_taken_for_a_lack_of_memory(origin, bench, monkeypatch):
    monkeypatch.setattr(interleaved_decoding, "_prepared", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        decode_in_turn(origin, cases(), bench)


def test_peak_memory_is_a_cases_own(origin, bench, monkeypatch):
    """Memory that others hold is not counted: here every case leaves one more GB behind, and needs two at its peak."""

    class Ledger:
        def __init__(self, device):
            self.held = 5 * GB  # weights

        def reset(self):
            pass

        @property
        def in_use(self):
            return self.held

        @property
        def nbytes(self):
            self.held += GB
            return self.held + GB

    monkeypatch.setattr(interleaved_decoding, "Peak", Ledger)
    found = decode_in_turn(origin, cases(), bench)
    assert {one.peak for one in found.values()} == {7 * GB}
