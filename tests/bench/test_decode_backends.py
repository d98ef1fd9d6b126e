"""Three backends, one model: the same tokens from the same cache, and lengths that stay where they are."""

import pytest
import torch

from plphp_core import prune
from plphp_core.bench.decode_backends import BACKENDS, PrefilledState, decoding, random_cache
from plphp_core.bench.decoder_shapes import SHAPES, build, prompts
from plphp_core.bench.forced_retention import forced_lengths, forced_method
from plphp_core.bench.roofline import kv_bytes
from plphp_core.decoding.fast_generate import prefill

TINY, STEPS, TEXT, BATCH = SHAPES["tiny"], 6, 20, 3
METHODS = {"none": {}, "plphp": {"r": 0.4, "delta_r": 0.3}, "fastv": {"K": 2, "R": 0.5}, "vtw": {"K": 3}}
FIRST = torch.tensor([3, 5, 7])
SLOT = TINY.slot_elements * 4


@pytest.fixture(scope="module")
def model():
    made = build(TINY, "cpu", torch.float32)
    with torch.no_grad():
        for name, tensor in made.named_parameters():
            if tensor.ndim > 1 and "vision_tower" not in name:  # large enough that attention decides
                tensor.normal_(std=1.5 * tensor.shape[-1] ** -0.5)
    return made


def prepared(method_name, images=2, text=TEXT):
    method = forced_method(method_name, METHODS[method_name])
    lengths = forced_lengths(method, TINY, images, text)
    seen = images * TINY.image_tokens + text
    cache = random_cache(TINY, lengths, BATCH, seen, torch.float32, "cpu")
    return method, PrefilledState(cache, [[tokens] * BATCH for tokens in lengths], seen, FIRST)


def decoded(backend, model, method, state):
    decoder = decoding(backend, model, state, method, room=STEPS)
    with decoder.on():
        return torch.stack([decoder.step().clone() for _ in range(STEPS)], dim=1)


@pytest.mark.parametrize("method_name", METHODS)
def test_every_backend_decodes_the_same_tokens(model, method_name):
    config = model.model.language_model.config
    before = config._attn_implementation
    found = {backend: decoded(backend, model, *prepared(method_name)) for backend in BACKENDS}
    assert torch.equal(found["legacy"], found["generate"])
    assert torch.equal(found["fast"], found["generate"])
    assert len(set(found["fast"].flatten().tolist())) > 2  # else any backend would agree with any other
    assert config._attn_implementation == before and "generate" not in vars(model)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("method_name", METHODS)
def test_a_backend_after_a_real_prefill_continues_as_generate_does(model, backend, method_name):
    inputs = prompts(TINY, 2, 2, TEXT, "cpu", torch.float32)
    seen = inputs["input_ids"].shape[1]
    method = forced_method(method_name, METHODS[method_name])
    with torch.inference_mode(), prune(model, method) as trace:
        expected = model.generate(**inputs, max_new_tokens=STEPS + 1, do_sample=False, eos_token_id=None)[:, seen:]
        logits, cache, _ = prefill(model, inputs)
    lengths = [list(layer.counts) for layer in trace.layers]
    first = logits.argmax(-1)
    found = decoded(backend, model, method, PrefilledState(cache, lengths, seen, first))
    assert torch.equal(torch.cat([first[:, None], found], dim=1), expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_rewound_step_happens_again_and_no_byte_is_left_over(model, backend):
    method, state = prepared("plphp")
    computed = kv_bytes(state.lengths, SLOT)
    decoder = decoding(backend, model, state, method)
    with decoder.on():
        free = BATCH * SLOT * TINY.layers if backend == "fast" else 0  # a slot per sample and layer for the next token
        assert decoder.held == computed + free
        once = decoder.step().clone()
        decoder.rewind()
        assert decoder.held == computed + free
        assert [layer.get_seq_length() for layer in decoder.cache.layers] == [state.seen] * TINY.layers
        decoder.tokens = FIRST
        assert torch.equal(decoder.step(), once)


def test_decoders_that_take_turns_decode_what_each_does_alone(model):
    names = [(backend, method) for backend in BACKENDS for method in METHODS]
    alone = {(backend, name): decoded(backend, model, *prepared(name)) for backend, name in names}
    in_turn = {}
    for backend, name in names:
        method, state = prepared(name)
        in_turn[backend, name] = decoding(backend, model, state, method, room=STEPS)
    for token in range(STEPS):
        for name, decoder in in_turn.items():
            with decoder.on():
                assert torch.equal(decoder.step(), alone[name][:, token])
