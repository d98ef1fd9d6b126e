"""The fast path does what `generate()` does under `prune`; `tests.oracle` compares their tokens for every method."""

import copy

import pytest
import torch
import transformers
from packaging.version import Version
from transformers import GenerationConfig, RepetitionPenaltyLogitsProcessor

from baselines import VTW, FastV
from plphp_core import PLPHP, prune
from plphp_core.decoding.fast_generate import Prefilled, fast_generate, prefill
from plphp_core.decoding.slots import SlotCache, SlotLayer, slot_cache
from plphp_core.decoding.token_choice import OBEYED, WITHOUT_EFFECT, unsupported_options
from tests.factories import EOS_TOKEN, PAD_TOKEN
from tests.families.tiny_models import tiny

METHODS = {
    "none": None,
    "plphp": PLPHP(alpha=0.8, beta=0.6),
    "plphp-zero": PLPHP(r=0.3, delta_r=0.3, alpha=1.0, beta=1.0),
    "fastv": FastV(K=3, R=0.5),
    "vtw": VTW(K=4),
}
NEW = 9


def usual(model, batch, method, **options):
    with prune(model, method) as trace:
        return model.generate(**batch, **options), trace


@pytest.mark.parametrize("check_every", [1, 3, 100])
def test_samples_end_where_generate_ends_them_and_are_padded_behind(check_every):
    model, batch = tiny()
    free, _ = usual(model, batch, None, max_new_tokens=NEW, do_sample=False, eos_token_id=None)
    prompt = batch["input_ids"].shape[1]
    ends = sorted({int(free[0, prompt + 2]), int(free[1, prompt + 5]), int(free[2, prompt]), int(free[3, prompt + 4])})
    options = {"max_new_tokens": NEW, "eos_token_id": ends, "pad_token_id": PAD_TOKEN}
    expected, _ = usual(model, batch, None, do_sample=False, **options)
    assert expected.shape[1] < prompt + NEW and (expected[:, prompt:] == PAD_TOKEN).any()
    assert torch.equal(fast_generate(model, batch, None, check_every=check_every, **options).sequences, expected)


def test_one_token_needs_no_decoding():
    model, batch = tiny()
    expected, _ = usual(model, batch, None, max_new_tokens=1, do_sample=False)
    found = fast_generate(model, batch, None, max_new_tokens=1)
    assert torch.equal(found.sequences, expected) and found.decode_steps == 0


@pytest.mark.parametrize(
    "options", [{}, {"temperature": 0.7}, {"top_k": 5}, {"top_p": 0.8}, {"temperature": 1.3, "top_k": 20, "top_p": 0.9}]
)
def test_sampling_draws_what_generate_draws(options):
    model, batch = tiny()
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
    model, batch = tiny()
    plain = fast_generate(model, batch, None, max_new_tokens=NEW, eos_token_id=[]).sequences
    model.generation_config.repetition_penalty = 1.8
    expected, _ = usual(model, batch, None, max_new_tokens=NEW, do_sample=False, eos_token_id=None)
    found = fast_generate(model, batch, None, max_new_tokens=NEW, eos_token_id=[]).sequences
    assert torch.equal(found, expected) and not torch.equal(found, plain)


def test_options_of_the_checkpoint_that_cannot_be_obeyed_are_refused():
    model, batch = tiny()
    model.generation_config.num_beams = 4
    with pytest.raises(ValueError, match=r"num_beams = 4.*use model.generate"):
        fast_generate(model, batch, None)
    model.generation_config.num_beams = 1
    with pytest.raises(ValueError, match="max_new_tokens = 0"):
        fast_generate(model, batch, None, max_new_tokens=0)


def test_the_model_is_left_as_it_was_even_after_an_error(monkeypatch):
    model, batch = tiny()
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
    model, batch = tiny(dtype=torch.bfloat16)
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
        written = layer.keys.view(2, -1, 2, 8)
        assert all(torch.equal(written[b, length + step], new[b, :, 0]) for b, length in enumerate((3, 9)))
    assert layer.keys.data_ptr() == place and layer.lengths == [7, 13] and layers[1].lengths == [15, 15]
    assert layer.place.tolist() == [7, 13 + 13] and layer.used.tolist() == [8, 14] and cache.get_seq_length() == 15
    assert torch.equal(layer.keys[:3], keys[0, :, 8:].transpose(0, 1))
    cache.rewind()
    assert layer.lengths == [3, 9] and layer.place.tolist() == [3, 13 + 9] and layer.nbytes == before
    assert cache.get_seq_length() == 11


def test_pruned_prompts_take_fewer_slots():
    model, batch = tiny()
    held = {}
    for name in ("none", "plphp-zero"):
        with torch.no_grad(), prune(model, METHODS[name]) as trace:
            _, cache, _ = prefill(model, batch)
        cache = slot_cache(cache, [layer.counts for layer in trace.layers], 4, batch["input_ids"].shape[1])
        held[name] = sum(layer.nbytes for layer in cache.layers)
        assert held[name] == sum(trace.kv_bytes_alone)
    assert held["plphp-zero"] < 0.8 * held["none"]


@pytest.mark.parametrize("method", ["none", "plphp", "vtw"])
def test_a_prefill_that_has_happened_is_not_done_again(method, monkeypatch):
    model, batch = tiny()
    expected = fast_generate(model, batch, METHODS[method], max_new_tokens=NEW, eos_token_id=[])
    with torch.no_grad(), prune(model, METHODS[method]) as trace:
        logits, cache, position = prefill(model, batch)
    stored = [(layer.keys, layer.values) for layer in cache.layers]
    copies = [tuple(tensor.clone() for tensor in layer) for layer in stored]
    monkeypatch.setattr("plphp_core.decoding.fast_generate.prefill", lambda *_: pytest.fail("a second prefill"))
    given = Prefilled(logits, cache, position, trace, 1e6)
    found = fast_generate(model, batch, max_new_tokens=NEW, eos_token_id=[], prefilled=given)
    assert torch.equal(found.sequences, expected.sequences) and found.trace is trace
    assert 1e6 < found.prefill_ms < 1e6 + 1e4
    for layer, before in zip(stored, copies, strict=True):  # shared with other settings of the same prefill
        assert all(torch.equal(*pair) for pair in zip(layer, before, strict=True))


def test_the_kernel_is_named():
    model, batch = tiny()
    assert fast_generate(model, batch, None, max_new_tokens=2, eos_token_id=[]).kernel == "sdpa_slices"
    assert fast_generate(model, batch, None, max_new_tokens=1).kernel is None


def test_end_tokens_default_to_the_checkpoints():
    model, batch = tiny()
    assert model.generation_config.eos_token_id == EOS_TOKEN
    expected, _ = usual(model, batch, None, max_new_tokens=40, do_sample=False)
    assert torch.equal(fast_generate(model, batch, None, max_new_tokens=40).sequences, expected)


@pytest.mark.parametrize("method", ["none", "plphp", "fastv"])
def test_the_repetition_penalty_treats_padding_as_generate_of_this_release_does(method, monkeypatch):
    """The padding is a token that the model would choose next, so that it matters whether it is penalised."""
    model, batch = tiny()
    batch["input_ids"] = batch["input_ids"].clone()
    first = fast_generate(model, batch, METHODS[method], max_new_tokens=1, eos_token_id=[]).sequences[:, -1]
    for row, (ids, mask) in enumerate(zip(batch["input_ids"], batch["attention_mask"], strict=True)):
        ids[mask == 0] = first[row]
    options = {"max_new_tokens": NEW, "repetition_penalty": 1.8}
    expected, _ = usual(model, batch, METHODS[method], do_sample=False, eos_token_id=None, **options)
    found = fast_generate(model, batch, METHODS[method], eos_token_id=[], **options).sequences
    assert torch.equal(found, expected)
    monkeypatch.setattr(
        "plphp_core.decoding.token_choice.repetition_penalty",
        lambda penalty, mask: RepetitionPenaltyLogitsProcessor(penalty),
    )
    penalised = fast_generate(model, batch, METHODS[method], eos_token_id=[], **options).sequences
    passes_over = Version(transformers.__version__) >= Version("5.23")
    assert torch.equal(penalised, expected) != passes_over


def test_every_option_of_a_configuration_is_obeyed_without_effect_or_refused():
    """Whatever releases to come add is refused until somebody has looked at it."""
    model, batch = tiny(layers=4)
    values = {"begin_suppress_tokens": [5], "sequence_bias": [[[5], 2.0]], "stop_strings": ["x"], "guidance_scale": 1.5}
    checkpoints = model.generation_config
    for name in vars(GenerationConfig()):
        model.generation_config = copy.deepcopy(checkpoints)
        setattr(model.generation_config, name, values.get(name, 3))
        known = name in OBEYED | WITHOUT_EFFECT
        assert unsupported_options(model.generation_config) == ({} if known else {name: values.get(name, 3)})
        if not known:
            with pytest.raises(ValueError, match=rf"{name} = .*use model.generate"):
                fast_generate(model, batch, max_new_tokens=2)


def test_options_that_ask_for_nothing_are_no_reason_to_refuse():
    model, batch = tiny(layers=4)
    expected = fast_generate(model, batch, max_new_tokens=3).sequences
    model.generation_config.update(num_beams=1, guidance_scale=1.0, min_length=0, suppress_tokens=[], use_mtp=False)
    model.generation_config.update(return_dict_in_generate=True, output_scores=True, cache_implementation="static")
    assert torch.equal(fast_generate(model, batch, max_new_tokens=3.0).sequences, expected)


def test_sampling_in_the_checkpoint_is_obeyed_unless_the_call_says_otherwise():
    model, batch = tiny(layers=4)
    model.generation_config.update(do_sample=True, temperature=5.0, top_k=0)
    torch.manual_seed(3)
    expected = model.generate(**batch, max_new_tokens=NEW, eos_token_id=None)
    torch.manual_seed(3)
    assert torch.equal(fast_generate(model, batch, max_new_tokens=NEW, eos_token_id=[]).sequences, expected)
    greedy = fast_generate(model, batch, max_new_tokens=NEW, eos_token_id=[], do_sample=False).sequences
    assert not torch.equal(greedy, expected)


@pytest.mark.parametrize("value", [0, 2.5, "3", None, float("nan")])
def test_numbers_of_new_tokens_that_are_none_are_refused(value):
    model, batch = tiny(layers=4)
    with pytest.raises(ValueError, match=r"max_new_tokens = .*whole number from 1 on"):
        fast_generate(model, batch, max_new_tokens=value)


def test_masks_that_hide_more_than_padding_on_the_left_are_refused():
    model, batch = tiny(layers=4)
    holes = {**batch, "attention_mask": batch["attention_mask"].clone()}
    holes["attention_mask"][0, -3] = 0
    with pytest.raises(ValueError, match="hides tokens behind others that it shows"):
        fast_generate(model, holes, max_new_tokens=2)
    square = {**batch, "attention_mask": torch.ones(4, 1, 5, 5)}
    with pytest.raises(ValueError, match=r"attention_mask is \(4, 1, 5, 5\), but must be"):
        fast_generate(model, square, max_new_tokens=2)


def test_autocast_is_refused_by_name():
    model, batch = tiny(layers=4)
    with torch.autocast("cpu", dtype=torch.bfloat16), pytest.raises(ValueError, match=r"under torch\.autocast"):
        fast_generate(model, batch, max_new_tokens=2)
