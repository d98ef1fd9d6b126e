"""The fast path gives the tokens of `generate()` under `prune`, ragged batches of every family included."""

import pytest
import torch

from baselines import VTW, FastV
from plphp_core import PLPHP, prune
from plphp_core.decode import Prefilled, fast_generate, prefill
from plphp_core.slots import SlotCache, SlotLayer, slot_cache
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
    with pytest.raises(ValueError, match=r"num_beams = 4.*use model.generate"):
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


def test_growth_copies_nothing_and_rewinding_forgets_it():
    torch.manual_seed(0)
    keys, values = (torch.randn(2, 2, 11, 8) for _ in range(2))
    layers = [SlotLayer(keys, values, lengths, 4, 11) for lengths in ((3, 9), (11, 11))]
    cache, layer = SlotCache(layers), layers[0]
    place, before = layer.keys.data_ptr(), layer.nbytes
    assert before == 2 * 2 * 8 * 4 * (3 + 9)  # key and value, heads, dim, bytes, tokens
    for step in range(4):
        new = torch.randn(2, 2, 1, 8)
        for each in layers:
            each.update(torch.full_like(new, 7.0), new)  # written twice: only what was written last may count
            each.update(new, new)
        cache.advance()
        assert all(torch.equal(layer.keys[b, length + step], new[b, :, 0]) for b, length in enumerate((3, 9)))
    assert layer.keys.data_ptr() == place and layer.lengths == [7, 13] and layers[1].lengths == [15, 15]
    assert layer.place.tolist() == [7, 13] and layer.used.tolist() == [8, 14] and cache.get_seq_length() == 15
    assert torch.equal(layer.keys[0, :3], keys[0, :, 8:].transpose(0, 1))
    cache.rewind()
    assert layer.lengths == [3, 9] and layer.place.tolist() == [3, 9] and layer.nbytes == before
    assert cache.get_seq_length() == 11


def test_pruned_prompts_take_fewer_slots():
    model, batch = ragged()
    held = {}
    for name in ("none", "plphp"):
        with torch.no_grad(), prune(model, METHODS[name]) as trace:
            _, cache, _ = prefill(model, batch)
        cache = slot_cache(cache, [layer.counts for layer in trace.layers], 4, batch["input_ids"].shape[1])
        held[name] = sum(layer.nbytes for layer in cache.layers)
        assert held[name] == sum(trace.kv_bytes_alone)
    assert held["plphp"] < 0.8 * held["none"]


@pytest.mark.parametrize("method", ["none", "plphp", "vtw"])
def test_a_prefill_that_has_happened_is_not_done_again(method, monkeypatch):
    model, batch = ragged()
    expected = fast_generate(model, batch, METHODS[method], max_new_tokens=NEW, eos_token_id=[])
    with torch.no_grad(), prune(model, METHODS[method]) as trace:
        logits, cache, position = prefill(model, batch)
    stored = [(layer.keys, layer.values) for layer in cache.layers]
    copies = [tuple(tensor.clone() for tensor in layer) for layer in stored]
    monkeypatch.setattr("plphp_core.decode.prefill", lambda *_: pytest.fail("a second prefill"))
    given = Prefilled(logits, cache, position, trace, 1e6)
    found = fast_generate(model, batch, max_new_tokens=NEW, eos_token_id=[], prefilled=given)
    assert torch.equal(found.sequences, expected.sequences) and found.trace is trace
    assert 1e6 < found.prefill_ms < 1e6 + 1e4
    for layer, copy in zip(stored, copies, strict=True):  # shared with other settings of the same prefill
        assert all(torch.equal(*pair) for pair in zip(layer, copy, strict=True))


def test_the_kernel_is_named():
    model, batch = ragged()
    assert fast_generate(model, batch, None, max_new_tokens=2, eos_token_id=[]).kernel == "sdpa_slices"
    assert fast_generate(model, batch, None, max_new_tokens=1).kernel is None


def test_end_tokens_default_to_the_checkpoints():
    model, batch = ragged()
    assert model.generation_config.eos_token_id == EOS_TOKEN
    expected, _ = usual(model, batch, None, max_new_tokens=40, do_sample=False)
    assert torch.equal(fast_generate(model, batch, None, max_new_tokens=40).sequences, expected)
