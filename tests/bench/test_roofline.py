"""The roofline is arithmetic on bytes: numbers of Qwen2-7B and Llama-3-8B computed apart from it."""

import pytest
import torch

from plphp_core.bench.capacity_benchmark import DEVICE_ROOM, largest_batch
from plphp_core.bench.decoder_shapes import SHAPES, build
from plphp_core.bench.memory_estimate import decode_bytes
from plphp_core.bench.roofline import kv_bytes, measured_bandwidth, nominal_bandwidth, roofline_ms

QWEN = SHAPES["qwen2_7b"]
# Batch → roofline, ms, at 2.04 TB/s with 7,000 vision and 200 text tokens: whole, and 40 % of vision in 25 of 28 layers
PUBLISHED = {1: (7.14, 7.03), 8: (8.55, 7.71), 16: (10.17, 8.49), 32: (13.41, 10.04), 64: (19.89, 13.14)}


def test_bytes_of_the_shapes():
    assert QWEN.token_parameters * 2 == pytest.approx(14.14e9, rel=5e-4)
    assert QWEN.parameters == 7_615_616_512  # of Qwen/Qwen2-7B
    assert SHAPES["qwen2_0_5b"].parameters == 494_032_768  # of Qwen/Qwen2-0.5B
    assert SHAPES["llama3_8b"].parameters == 8_030_261_248  # of meta-llama/Meta-Llama-3-8B
    assert QWEN.layers * QWEN.slot_elements * 2 == 56 * 1024
    llama = SHAPES["llama3_8b"]
    assert llama.layers * llama.slot_elements * 2 == 128 * 1024


@pytest.mark.parametrize("batch", PUBLISHED)
def test_roofline_equals_the_published_table(batch):
    whole = [[7200] * batch] * 28
    pruned = [[7200 if layer in (0, 1, 27) else 3000] * batch for layer in range(28)]
    weights = QWEN.token_parameters * 2
    found = [roofline_ms(weights, kv_bytes(lengths, QWEN.slot_elements * 2), 2.04e12) for lengths in (whole, pruned)]
    assert found == pytest.approx(PUBLISHED[batch], abs=0.01)


@pytest.mark.parametrize("decoder", ["qwen2", "llama"])
@pytest.mark.parametrize("tied", [True, False])
def test_weights_are_counted_as_they_are(decoder, tied):
    from dataclasses import replace

    shape = replace(SHAPES["tiny"], decoder=decoder, tied=tied)
    model = build(shape, "cpu", torch.bfloat16)
    text = [*model.model.language_model.parameters(), *([] if tied else [model.lm_head.weight])]
    read = [*model.model.language_model.layers.parameters(), *model.model.language_model.norm.parameters()]
    assert sum(tensor.numel() for tensor in [*read, model.lm_head.weight]) == shape.token_parameters
    assert sum(tensor.numel() for tensor in text) == shape.parameters
    assert model.dtype == torch.bfloat16


def test_bandwidth_by_name_and_by_measurement():
    assert nominal_bandwidth("NVIDIA A100-SXM4-80GB") == 2.039e12
    assert nominal_bandwidth("NVIDIA GH200 480GB") != nominal_bandwidth("NVIDIA H200") == 4.8e12
    assert nominal_bandwidth("AMD EPYC 2 cores") is None
    speeds = measured_bandwidth("cpu", 2**22, 2)
    assert set(speeds) == {"copy", "read"} and all(1e8 < speed < 1e13 for speed in speeds.values())


@pytest.mark.parametrize("tokens", [[7200] * 28, [7200, 7200, *[3000] * 25, 7200]])
def test_the_largest_batch_is_the_largest(tokens):
    budget, room = 80e9, 256
    batch = largest_batch(QWEN, tokens, room, 2, budget)

    def needs(samples):
        lengths = [[length + room] * samples for length in tokens]
        return QWEN.parameters * 2 + DEVICE_ROOM + decode_bytes(QWEN, [(lengths, "fast")], 2)

    assert needs(batch) <= budget < needs(batch + 1)
    by_hand = sum(tokens) + 28 * room + max(tokens) + room  # slots, one layer of them twice
    assert batch == int((80e9 - 1e9 - 15.231e9) // (by_hand * 2048 + 152064 * 12))
