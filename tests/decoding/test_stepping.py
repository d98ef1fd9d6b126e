"""Steps through a recorded forward are the steps of the forward itself; recording leaves no trace."""

import pytest
import torch

from plphp_core import PLPHP, prune
from plphp_core.decoding.fast_generate import prefill
from plphp_core.decoding.kernels import choose
from plphp_core.decoding.slots import slot_cache
from plphp_core.decoding.stepping import Stepper, _Graph
from tests.factories import prompt_batch, tiny_llava_onevision
from tests.graphs import record

STEPS = 5


def prepared(model, kind):
    batch = prompt_batch(model, [[7], [5, 5], [9, 9, 9]])
    with torch.no_grad(), prune(model, PLPHP()) as trace:
        logits, cache, position = prefill(model, batch)
    cache = slot_cache(cache, [layer.counts for layer in trace.layers], STEPS, batch["input_ids"].shape[1])
    return kind(model, cache, position), logits.argmax(-1)


@torch.no_grad()
def decoded(step, tokens, count=STEPS):
    found = []
    with step.on():
        for _ in range(count):
            tokens = step(tokens).argmax(-1)
            found.append(tokens)
    return torch.stack(found, dim=1)


@pytest.fixture
def recorded(monkeypatch):
    """The stand-in for graphs on a CPU, and the kernel that reads lengths on the device, as graphs must."""
    monkeypatch.setattr("plphp_core.decoding.stepping.record", record)
    monkeypatch.setattr("plphp_core.decoding.kernels._preferred", lambda device: ("sdpa_masked",))
    choose.cache_clear()
    yield
    choose.cache_clear()


def test_replayed_steps_equal_plain_ones(recorded):
    model = tiny_llava_onevision()
    expected = decoded(*prepared(model, Stepper))
    step, first = prepared(model, _Graph)
    buffers = [tensor.data_ptr() for layer in step.cache.layers for tensor in (layer.keys, layer.place, layer.used)]
    assert torch.equal(decoded(step, first), expected)
    after = [tensor.data_ptr() for layer in step.cache.layers for tensor in (layer.keys, layer.place, layer.used)]
    assert buffers == after  # a graph keeps addresses
    assert len({tuple(row) for row in expected.tolist()}) == 3


@pytest.mark.parametrize("kind", [Stepper, _Graph])
def test_rewound_steps_happen_again(recorded, kind):
    model = tiny_llava_onevision()
    step, first = prepared(model, kind)
    once = decoded(step, first)
    step.rewind()
    assert torch.equal(decoded(step, first), once)


def test_the_model_attends_to_slots_within_the_block_only():
    model = tiny_llava_onevision()
    step, _ = prepared(model, Stepper)
    config = model.model.language_model.config
    with pytest.raises(KeyError), step.on():
        assert config._attn_implementation == "plphp_slots"
        raise KeyError
    assert config._attn_implementation == "sdpa" and step.kernel == "sdpa_slices"
