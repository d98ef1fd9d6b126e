"""Three regimes, one model: the same tokens from the same cache, and lengths that stay where they are."""

import copy

import pytest
import torch

from plphp_core import prune
from plphp_core.bench.decode_backends import REGIMES, decoding, random_cache
from plphp_core.bench.decoder_shapes import SHAPES, build, prompts
from plphp_core.bench.forced_retention import plan_lengths, planned_method
from plphp_core.bench.roofline import kv_bytes
from plphp_core.decoding.fast_generate import prefill

TINY, STEPS, TEXT = SHAPES["tiny"], 6, 20
SEEN = 2 * TINY.image_tokens + TEXT
METHODS = {"none": {}, "plphp": {"r": 0.4, "delta_r": 0.3}, "fastv": {"K": 2, "R": 0.5}, "vtw": {"K": 3}}
SLOT = TINY.slot_elements * 4


@pytest.fixture(scope="module")
def model():
    made = build(TINY, "cpu", torch.float32)
    with torch.no_grad():
        for name, tensor in made.named_parameters():
            if tensor.ndim > 1 and "vision_tower" not in name:  # large enough that attention decides
                tensor.normal_(std=1.5 * tensor.shape[-1] ** -0.5)
    return made


def prepared(method_name, batch=3, ragged=False):
    method = planned_method(method_name, METHODS[method_name])
    lengths = plan_lengths(method, TINY.layers, TINY.kv_heads, [TINY.image_tokens] * 2, TEXT, batch, ragged)
    return method, lengths, random_cache(TINY, lengths, SEEN, torch.float32, "cpu")


def decoded(regime, model, method, lengths, cache, tokens, position=None):
    decoder = decoding(regime, model, cache, lengths, SEEN, method, tokens, position, room=STEPS)
    with decoder.on():
        return torch.stack([decoder.step().clone() for _ in range(STEPS)], dim=1)


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("method_name", METHODS)
def test_every_regime_decodes_the_same_tokens(model, method_name, ragged):
    first = torch.tensor([3, 5, 7])
    found = {}
    for regime in REGIMES:
        method, lengths, cache = prepared(method_name, ragged=ragged)
        found[regime] = decoded(regime, model, method, lengths, cache, first)
    assert torch.equal(found["legacy"], found["generate"])
    assert torch.equal(found["fast"], found["generate"])
    assert len(set(found["fast"].flatten().tolist())) > 2  # else any regime would agree with any other


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("method_name", METHODS)
def test_a_regime_after_a_real_prefill_continues_as_generate_does(model, regime, method_name):
    inputs = prompts(TINY, 2, 2, TEXT, "cpu", torch.float32)
    method = planned_method(method_name, METHODS[method_name])
    with torch.inference_mode(), prune(model, method) as trace:
        expected = model.generate(**inputs, max_new_tokens=STEPS + 1, do_sample=False, eos_token_id=None)[:, SEEN:]
        logits, cache, position = prefill(model, inputs)
    lengths = [list(layer.counts) for layer in trace.layers]
    first = logits.argmax(-1)
    found = decoded(regime, model, method, lengths, cache, first, position)
    assert torch.equal(torch.cat([first[:, None], found], dim=1), expected)


@pytest.mark.parametrize("regime", REGIMES)
def test_a_rewound_step_happens_again_and_no_byte_is_left_over(model, regime):
    method, lengths, cache = prepared("plphp")
    first = torch.tensor([3, 5, 7])
    planned = kv_bytes(lengths, SLOT)
    decoder = decoding(regime, model, cache, lengths, SEEN, method, first)
    with decoder.on():
        free = 3 * SLOT * TINY.layers if regime == "fast" else 0  # one slot per sample and layer for the next token
        assert decoder.held == planned + free
        once = decoder.step().clone()
        decoder.rewind()
        assert decoder.held == planned + free
        assert [layer.get_seq_length() for layer in decoder.cache.layers] == [SEEN] * TINY.layers
        decoder.tokens = first
        assert torch.equal(decoder.step(), once)


def test_regimes_leave_the_model_as_it_was(model):
    config = model.model.language_model.config
    before = copy.copy(config._attn_implementation)
    for regime in REGIMES:
        method, lengths, cache = prepared("plphp")
        decoded(regime, model, method, lengths, cache, torch.tensor([1, 2, 3]))
        assert config._attn_implementation == before
    assert "generate" not in vars(model)


@pytest.mark.parametrize("ragged", [False, True])
def test_decoders_that_take_turns_decode_what_each_does_alone(model, ragged):
    first = torch.tensor([3, 5, 7])
    names = [(regime, method) for regime in REGIMES for method in METHODS]
    alone, together = {}, {}
    for regime, name in names:
        method, lengths, cache = prepared(name, ragged=ragged)
        alone[regime, name] = decoded(regime, model, method, lengths, cache, first)
    for regime, name in names:
        method, lengths, cache = prepared(name, ragged=ragged)
        together[regime, name] = decoding(regime, model, cache, lengths, SEEN, method, first, room=STEPS)
    for token in range(STEPS):
        for name, decoder in together.items():
            with decoder.on():
                assert torch.equal(decoder.step(), alone[name][:, token])


def test_at_real_lengths_held_is_within_a_percent_of_planned(model):
    sizes = [TINY.image_tokens] * 32  # 2,080 vision tokens
    method = planned_method("plphp", METHODS["plphp"])
    lengths = plan_lengths(method, TINY.layers, TINY.kv_heads, sizes, 200, 2, False)
    cache = random_cache(TINY, lengths, 2280, torch.float32, "cpu")
    decoder = decoding("fast", model, cache, lengths, 2280, method, torch.tensor([1, 2]))
    assert decoder.held == pytest.approx(kv_bytes(lengths, SLOT), rel=0.01)
