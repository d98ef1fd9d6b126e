"""The fast path gives the tokens of `generate()` under `prune`, ragged batches of every family included."""

import pytest
import torch

from baselines import VTW, FastV
from plphp_core import PLPHP, prune
from plphp_core.decode import fast_generate
from plphp_core.slots import SlotLayer, _masked, slot_attention
from tests.core.test_oracle import ADJACENT, FOUR, TILED
from tests.factories import EOS_TOKEN, PAD_TOKEN, prompt_batch, tiny_llava_onevision
from tests.families.test_oracle import FAMILIES

METHODS = {
    "none": None,
    "plphp": PLPHP(alpha=0.8, beta=0.6),
    "plphp-zero": PLPHP(r=0.3, delta_r=0.3, alpha=1.0, beta=1.0),
    "fastv": FastV(K=3, R=0.5),
    "vtw": VTW(K=4),
}
NEW = 9


def ragged(family="llava_onevision", **options):
    """A model and a batch of four prompts with none to four images and different lengths."""
    if family == "llava_onevision":
        model = tiny_llava_onevision(**options)
        return model, prompt_batch(model, [TILED, ADJACENT, [7], FOUR], seed=7)
    kind = FAMILIES[family]
    model = kind.model(**options)
    return model, kind.batch(model, kind.samples, seed=7)


def usual(model, batch, method, **options):
    with prune(model, method) as trace:
        return model.generate(**batch, **options), trace


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", ["llava_onevision", *FAMILIES])
def test_greedy_tokens_equal_generate(family, method):
    model, batch = ragged(family)
    expected, trace = usual(model, batch, METHODS[method], max_new_tokens=NEW, do_sample=False, eos_token_id=None)
    found = fast_generate(model, batch, METHODS[method], max_new_tokens=NEW, eos_token_id=[])
    assert torch.equal(found.sequences, expected)
    assert torch.equal(found.trace.retention, trace.retention)
    assert found.decode_steps == NEW - 1


@pytest.mark.parametrize("row", range(4))
def test_samples_alone_equal_generate(row):
    model = tiny_llava_onevision()
    batch = prompt_batch(model, [[TILED, ADJACENT, [7], FOUR][row]])
    expected, _ = usual(model, batch, METHODS["plphp"], max_new_tokens=NEW, do_sample=False, eos_token_id=None)
    assert torch.equal(
        fast_generate(model, batch, METHODS["plphp"], max_new_tokens=NEW, eos_token_id=[]).sequences, expected
    )


@pytest.mark.parametrize("check_every", [1, 3, 100])
def test_samples_end_where_generate_ends_them_and_are_padded_behind(check_every):
    model, batch = ragged()
    free, _ = usual(model, batch, None, max_new_tokens=NEW, do_sample=False, eos_token_id=None)
    prompt = batch["input_ids"].shape[1]
    ends = sorted({int(free[0, prompt + 2]), int(free[1, prompt + 5]), int(free[2, prompt]), int(free[3, prompt + 4])})
    options = {"max_new_tokens": NEW, "eos_token_id": ends, "pad_token_id": PAD_TOKEN}
    expected, _ = usual(model, batch, None, do_sample=False, **options)
    assert expected.shape[1] < prompt + NEW and (expected[:, prompt:] == PAD_TOKEN).any()
    assert torch.equal(fast_generate(model, batch, None, check_every=check_every, **options).sequences, expected)


def test_one_token_needs_no_decoding():
    model, batch = ragged()
    expected, _ = usual(model, batch, None, max_new_tokens=1, do_sample=False)
    found = fast_generate(model, batch, None, max_new_tokens=1)
    assert torch.equal(found.sequences, expected) and found.decode_steps == 0


@pytest.mark.parametrize(
    "options", [{}, {"temperature": 0.7}, {"top_k": 5}, {"top_p": 0.8}, {"temperature": 1.3, "top_k": 20, "top_p": 0.9}]
)
def test_sampling_draws_what_generate_draws(options):
    model, batch = ragged()
    torch.manual_seed(3)
    expected, _ = usual(
        model, batch, METHODS["plphp"], max_new_tokens=NEW, do_sample=True, eos_token_id=None, **options
    )
    torch.manual_seed(3)
    found = fast_generate(
        model, batch, METHODS["plphp"], max_new_tokens=NEW, do_sample=True, eos_token_id=[], **options
    )
    assert torch.equal(found.sequences, expected)


def test_a_repetition_penalty_of_the_checkpoint_is_obeyed():
    model, batch = ragged()
    plain = fast_generate(model, batch, None, max_new_tokens=NEW, eos_token_id=[]).sequences
    model.generation_config.repetition_penalty = 1.8
    expected, _ = usual(model, batch, None, max_new_tokens=NEW, do_sample=False, eos_token_id=None)
    found = fast_generate(model, batch, None, max_new_tokens=NEW, eos_token_id=[]).sequences
    assert torch.equal(found, expected) and not torch.equal(found, plain)


def test_options_of_the_checkpoint_that_cannot_be_obeyed_are_refused():
    model, batch = ragged()
    model.generation_config.num_beams = 4
    with pytest.raises(ValueError, match=r"generation_config.num_beams = 4.*use model.generate"):
        fast_generate(model, batch, None)
    model.generation_config.num_beams = 1
    with pytest.raises(ValueError, match="max_new_tokens = 0"):
        fast_generate(model, batch, None, max_new_tokens=0)


def test_the_model_is_left_as_it_was_even_after_an_error(monkeypatch):
    model, batch = ragged()
    before, _ = usual(model, batch, None, max_new_tokens=3, do_sample=False)
    with monkeypatch.context() as patch:
        patch.setattr(SlotLayer, "update", lambda *args, **kwargs: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            fast_generate(model, batch, METHODS["plphp"], max_new_tokens=3)
    assert model.model.language_model.config._attn_implementation == "sdpa"
    after, _ = usual(model, batch, None, max_new_tokens=3, do_sample=False)
    assert torch.equal(before, after)


def test_bf16_follows_generate_closely():
    """Same prefill, same first token; later logits differ by rounding, since slots are summed in another order."""
    model, batch = ragged(dtype=torch.bfloat16)
    expected, _ = usual(model, batch, METHODS["plphp"], max_new_tokens=NEW, do_sample=False, eos_token_id=None)
    found = fast_generate(model, batch, METHODS["plphp"], max_new_tokens=NEW, eos_token_id=[]).sequences
    prompt = batch["input_ids"].shape[1]
    assert torch.equal(found[:, : prompt + 1], expected[:, : prompt + 1])
    assert (found == expected)[:, prompt:].float().mean() >= 0.75


def filled_layer(lengths, room=4, heads=2, dim=8, slots=11):
    torch.manual_seed(0)
    keys, values = (torch.randn(len(lengths), heads, slots, dim) for _ in range(2))
    return keys, values, SlotLayer(keys, values, lengths, room, slots)


@pytest.mark.parametrize("lengths", [(11, 11, 11), (11, 4, 7), (1, 1, 1), (5, 0, 2)])
def test_attention_over_slots_equals_attention_over_each_samples_own_tokens(lengths):
    """Exact slices and the length mask alike, for the sample's last slots and the new token behind them."""
    keys, values, layer = filled_layer(lengths)
    query, key, value = (torch.randn(3, heads, 1, 8) for heads in (4, 2, 2))
    layer.update(key, value)
    out, _ = slot_attention(None, query, layer, layer, None, scaling=0.3)
    masked = _masked(query.reshape(3, 2, 2, 8), layer, 0.3).reshape(3, 1, 4, 8)
    for b, length in enumerate(lengths):
        own_keys = torch.cat([keys[b, :, 11 - length :], key[b]], dim=1)
        own_values = torch.cat([values[b, :, 11 - length :], value[b]], dim=1)
        for head in range(4):
            weights = (query[b, head, 0] @ own_keys[head // 2].T * 0.3).softmax(-1)
            for found in (out, masked):
                torch.testing.assert_close(found[b, 0, head], weights @ own_values[head // 2], atol=1e-5, rtol=1e-4)


def test_growth_copies_nothing_and_rewinding_forgets_it():
    _, _, layer = filled_layer((3, 9))
    place = layer.keys.data_ptr()
    before = layer.nbytes
    assert before == 2 * 2 * 8 * 4 * (3 + 9)  # key and value, heads, dim, bytes, tokens
    for _ in range(4):
        layer.update(torch.randn(2, 2, 1, 8), torch.randn(2, 2, 1, 8))
    assert layer.keys.data_ptr() == place and layer.lengths == [7, 13] and layer.used.tolist() == [7, 13]
    layer.rewind()
    assert layer.lengths == [3, 9] and layer.used.tolist() == [3, 9] and layer.nbytes == before
    assert layer.get_seq_length() == 11


def test_pruned_prompts_take_fewer_slots():
    model, batch = ragged()
    from plphp_core.decode import _prefill
    from plphp_core.slots import slot_cache

    held = {}
    for name in ("none", "plphp"):
        with torch.no_grad(), prune(model, METHODS[name]) as trace:
            _, cache, _ = _prefill(model, batch)
        cache = slot_cache(cache, [layer.counts for layer in trace.layers], 4, batch["input_ids"].shape[1])
        held[name] = sum(layer.nbytes for layer in cache.layers)
        assert held[name] == sum(trace.kv_bytes_alone)
    assert held["plphp"] < 0.8 * held["none"]


def test_end_tokens_default_to_the_checkpoints():
    model, batch = ragged()
    assert model.generation_config.eos_token_id == EOS_TOKEN
    expected, _ = usual(model, batch, None, max_new_tokens=40, do_sample=False)
    assert torch.equal(fast_generate(model, batch, None, max_new_tokens=40).sequences, expected)
