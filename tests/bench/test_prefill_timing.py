"""Prefills take turns; what a method adds is its own work and nothing else."""

import itertools

import pytest
import torch

from baselines import DivPrune
from plphp_core.bench import prefill_timing
from plphp_core.bench.prefill_timing import TimedPrefill, add_decode_tokens, prefill_rows
from plphp_core.bench.random_model import RandomModel
from tests.bench.factories import settings


@pytest.fixture(scope="module")
def one():
    made = RandomModel("tiny", settings(backends=["generate", "fast"], prefill_warm_up=1, prefill_rounds=2))
    made.load()
    return made


def test_a_row_per_method_whose_work_is_within_the_prefill(one):
    rows = {row["method"]: row for row in prefill_rows(one, one.bench.cases, lambda line: None)}
    assert list(rows) == ["none", "plphp", "fastv", "vtw"] and rows["none"]["added_prefill_ms"] == 0
    assert rows["none"]["prefill_vs_none"] == 1
    for name in ("plphp", "fastv", "vtw"):
        assert 0 < rows[name]["added_prefill_ms"] < rows[name]["prefill_ms"] and 0 < rows[name]["prefill_vs_none"]

    def flops(n):  # hidden 64, intermediate 128
        return 4 * n * 64**2 + 2 * n**2 * 64 + 2 * n * 64 * 128

    assert rows["none"]["flops_vs_none"] == rows["plphp"]["flops_vs_none"] == 1
    assert rows["fastv"]["flops_vs_none"] == pytest.approx((2 * flops(150) + 4 * flops(85)) / 6 / flops(150))
    assert rows["vtw"]["flops_vs_none"] == pytest.approx((3 * flops(150) + 3 * flops(20)) / 6 / flops(150))

    def operations(n):  # 4 query heads on 2 KV heads of 16, three matrices, causal
        return n * (64 * (64 + 32 + 32 + 64) + 3 * 64 * 128) + 2 * 4 * 16 * sum(range(1, n + 1))

    assert rows["plphp"]["operations_vs_none"] == 1
    expected = (2 * operations(150) + 4 * operations(85)) / 6 / operations(150)
    assert rows["fastv"]["operations_vs_none"] == pytest.approx(expected)


def test_fewer_tokens_in_the_decoder_take_less_memory_at_once(one):
    inputs = one.inputs(1, 4000)
    none, fewer = (_peak(TimedPrefill(one.model, inputs, method)) for method in (None, DivPrune(ratio=0.1)))
    assert fewer < 0.5 * none


def _peak(timed):
    """The most bytes of tensors at once in a prefill, as the profiler saw them come and go."""
    with torch.inference_mode(), timed.on(), torch.profiler.profile(profile_memory=True) as profile:
        timed.step()
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = itertools.accumulate(event.nbytes() for event in sorted(events, key=lambda event: event.start_ns()))
    return max(held)


def test_a_prefill_that_does_not_fit_is_a_row(one, monkeypatch):
    def fail(model, inputs):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(prefill_timing, "prefill", fail)
    assert [row["status"] for row in prefill_rows(one, one.bench.cases, lambda line: None)] == ["oom"] * 4
    monkeypatch.setattr(prefill_timing, "prefill", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        prefill_rows(one, one.bench.cases, lambda line: None)


def test_warm_up_counts_in_nothing(one, monkeypatch):
    monkeypatch.setattr(TimedPrefill, "rewind", lambda self: self.added.append(1.0 if self.added else 100.0))
    rows = prefill_rows(one, one.bench.cases, lambda line: None)
    assert [row["added_prefill_ms"] for row in rows] == [1.0] * 4


def test_added_work_in_tokens_of_none_at_batch_1():
    same = {"model": "m", "vision_tokens": 7}
    decoded = [
        same | {"backend": backend, "method": method, "batch": batch, "ms_per_token": ms}
        for backend, method, batch, ms in (("fast", "none", 8, 20.0), ("fast", "none", 1, 5.0), ("fast", "vtw", 1, 4.0),
                                           ("generate", "none", 1, 9.0))
    ]  # fmt: skip
    row, failed = same | {"added_prefill_ms": 1.0}, same | {"status": "oom"}
    add_decode_tokens([row, failed], decoded)
    assert row["added_decode_tokens"] == pytest.approx(0.2) and "added_decode_tokens" not in failed
    other = {"model": "other", "vision_tokens": 7, "added_prefill_ms": 1.0}
    add_decode_tokens([other], decoded)
    assert "added_decode_tokens" not in other
