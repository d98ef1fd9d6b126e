"""Prefills take turns; what a method adds is its own work and nothing else."""

import pytest
import torch

from baselines import VTW
from plphp_core.bench import prefill_timing
from plphp_core.bench.decoder_shapes import SHAPES, build, prompts
from plphp_core.bench.forced_retention import forced_method
from plphp_core.bench.prefill_timing import PrefillTime, interleaved_prefills

METHODS = [None, forced_method("plphp", {"r": 0.4, "delta_r": 0.3}), VTW(K=3)]


@pytest.fixture(scope="module")
def model():
    return build(SHAPES["tiny"], "cpu", torch.float32)


def test_rounds_alternate_and_the_first_ones_warm_up(monkeypatch):
    order = []
    monkeypatch.setattr(
        prefill_timing,
        "_prefill_once",
        lambda model, inputs, method: order.append(method) or PrefillTime(len(order), 0.5, 0.0),
    )
    found = interleaved_prefills(None, {}, METHODS, 1, 2)
    assert order == METHODS + METHODS[::-1] + METHODS
    assert [[each.whole for each in rounds] for rounds in found] == [[6, 7], [5, 8], [4, 9]]


def test_a_method_without_memory_drops_out(monkeypatch):
    calls = []

    def fail(model, inputs, method):
        calls.append(method)
        if method is METHODS[1]:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return PrefillTime(1.0, 0.0, 0.0)

    monkeypatch.setattr(prefill_timing, "_prefill_once", fail)
    found = interleaved_prefills(None, {}, METHODS, 0, 3)
    assert found[1] is None and len(found[0]) == len(found[2]) == 3 and len(calls) == 7


def test_work_is_within_the_prefill_and_none_has_none(model):
    inputs = prompts(SHAPES["tiny"], 1, 2, 20, "cpu", torch.float32)
    none, plphp, vtw = interleaved_prefills(model, inputs, METHODS, 0, 2)
    assert [each.added for each in none] == [0, 0]
    assert all(0 < each.added < each.whole for each in (*plphp, *vtw))
