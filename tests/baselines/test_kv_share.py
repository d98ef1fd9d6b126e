"""A share of the whole cache: every method that has the parameter holds the same bytes of a sample, to the last one."""

import pytest
import torch

from baselines import H2O, TOVA, AdaKV, KeyDiff, RandomTokens, SnapKV, Uniform
from plphp_core import prune
from plphp_core.pruning import make_method, method_names
from tests.baselines.rivals import BUDGETED, CONTROLS, ONE_IMAGE
from tests.examples import first
from tests.factories import prompt_batch, tiny_llava_onevision
from tests.families.tiny_models import FAMILIES, each_kind

SHARES = {"plphp": 0.88, "none": 0.72}  # of the cache; text alone is up to two thirds of these prompts
SMALL = {"window_size": 2}


@torch.no_grad()
def prefill(method, model, batch):
    with prune(model, method) as trace:
        cache = model(**batch, use_cache=True).past_key_values
    return trace, cache


def stored(cache):
    """Bytes of a cache, from the storages behind its tensors."""
    return sum(part.untyped_storage().nbytes() for layer in cache.layers for part in (layer.keys, layer.values))


def methods(share, layers, parameter="kv_share"):
    """Every method that has the parameter, in every scope that it has."""
    part = {parameter: share}
    for kind in BUDGETED:
        small = SMALL if issubclass(kind, SnapKV) else {}
        for scope in ("vision", "prompt"):
            yield kind(scope=scope, whole_layers=layers, **part, **small)
    yield from (kind(whole_layers=layers, **part) for kind in CONTROLS)
    yield Uniform(whole_layers=layers, head_budget="ada", **part)


@pytest.mark.parametrize("family", each_kind(0))
@pytest.mark.parametrize("layers", first(SHARES))
def test_every_method_holds_the_share_of_every_sample_exactly(family, layers):
    """Measured from the cache's storages, one sample at a time; and the same samples in a padded batch."""
    kind = FAMILIES[family]
    model = kind.model()
    samples = [one for one in kind.samples if any(not isinstance(part, int) for part in one)]
    batches = [kind.batch(model, [one], seed=3) for one in samples]
    together = kind.batch(model, samples, seed=3)
    full = [prefill(None, model, batch) for batch in batches]
    share, expected = SHARES[layers], []
    for trace, cache in full:
        (length,) = trace.prompt.lengths
        expected.append(stored(cache) // length * int(share * length + 1e-9))
    for method in methods(share, layers):
        for batch, held in zip(batches, expected, strict=True):
            trace, cache = prefill(method, model, batch)
            assert stored(cache) == held == trace.kv_bytes_alone[0], method
        assert prefill(method, model, together)[0].kv_bytes_alone == expected, method


def test_every_method_with_the_parameter_is_tried_here():
    names = [name for name in method_names() if "kv_share" in getattr(make_method(name), "params", dict)()]
    assert sorted({kind.name for kind in (*BUDGETED, *CONTROLS)} | {"oracle"}) == sorted(names)


def test_the_whole_cache_changes_no_bit():
    model = tiny_llava_onevision()
    batch = prompt_batch(model, ONE_IMAGE)
    for method in methods(1.0, "none"):
        trace, _ = prefill(method, model, batch)
        assert trace.kv_bytes_alone == trace.kv_bytes_full_alone and trace.kv_bytes == trace.kv_bytes_full, method


def test_a_count_keeps_what_the_share_that_it_comes_to_keeps():
    model = tiny_llava_onevision()
    batch = prompt_batch(model, ONE_IMAGE[:1])
    (length,) = prefill(None, model, batch)[0].prompt.lengths
    count = int(0.72 * length)
    pairs = zip(methods((count + 0.5) / length, "none"), methods(count, "none", "kv_tokens"), strict=True)
    for by_share, by_count in pairs:
        left, right = (prefill(method, model, batch)[0] for method in (by_share, by_count))
        assert right.kv_bytes_alone[0] * length == right.kv_bytes_full_alone[0] * count, by_count
        assert all(torch.equal(one.tokens, other.tokens) for one, other in zip(left.layers, right.layers, strict=True))
    for method in methods(length + 5, "none", "kv_tokens"):  # a prompt that is shorter is left whole
        trace, _ = prefill(method, model, batch)
        assert trace.kv_bytes == trace.kv_bytes_full, method


def test_a_share_over_the_prompt_is_its_budget_where_all_layers_are_compressed():
    model = tiny_llava_onevision()
    batch = prompt_batch(model, ONE_IMAGE)
    for kind in (KeyDiff, TOVA, H2O):
        by_share, by_budget = (
            prefill(kind(scope="prompt", **given), model, batch)[0] for given in ({"kv_share": 0.5}, {"budget": 0.5})
        )
        assert all(map(torch.equal, *([layer.tokens for layer in one.layers] for one in (by_share, by_budget))))


def test_uniform_at_a_share_is_snapkv_of_one_row():
    model = tiny_llava_onevision()
    batch = prompt_batch(model, ONE_IMAGE)
    left = prefill(Uniform(whole_layers="none", kv_share=0.6), model, batch)[0]
    right = prefill(SnapKV(window_size=1, kernel_size=1, kv_share=0.6), model, batch)[0]
    assert all(torch.equal(one.tokens, other.tokens) for one, other in zip(left.layers, right.layers, strict=True))


REFUSED = {
    "text": (lambda: KeyDiff(kv_share=0.1), r"text, 9 of \d+ prompt tokens, alone is \d+\.\d% of the KV cache, more"),
    "layers": (
        lambda: TOVA(kv_share=0.3, scope="prompt", whole_layers="plphp"),
        r"3 of 8 layers left whole alone is 37\.5% of the KV cache, more than kv_share = 0\.3",
    ),
    "both": (
        lambda: RandomTokens(kv_share=0.4),
        r"text, 9 of \d+ prompt tokens, and 3 of 8 layers left whole alone is \d+\.\d% of the KV cache",
    ),
    "no number": (lambda: SnapKV(kv_share=0.0), r"SnapKV: kv_share = 0\.0, but must be None or a number in \(0, 1\]"),
    "of a control": (lambda: RandomTokens(kv_share=1.2), r"RandomTokens: kv_share = 1\.2, but must be None or a num"),
    "no count": (lambda: SnapKV(kv_tokens=0), r"SnapKV: kv_tokens = 0, but must be None or a whole number from 1 on"),
    "said twice": (lambda: RandomTokens(kv_share=0.5, kv_tokens=9), r"kv_share = 0\.5 and kv_tokens = 9 say the same"),
    "too low a count": (lambda: KeyDiff(kv_tokens=3), r"alone is \d+\.\d% of the KV cache, more than kv_tokens = 3, "),
    "rounding": (lambda: AdaKV(kv_share=0.5, official_rounding=True), "AdaKV: kv_share is held exactly"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_share_that_cannot_be_held_is_refused_with_its_numbers(what):
    make, words = REFUSED[what]
    model = tiny_llava_onevision()
    with pytest.raises(ValueError, match=words):
        prefill(make(), model, prompt_batch(model, ONE_IMAGE))
