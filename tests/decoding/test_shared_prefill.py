"""A method that goes on from a shared prefill does what it does alone, bit by bit."""

import functools
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

from baselines import H2O, VTW, AdaKV, FastV, RandomTokens, SnapKV, VLCache
from plphp_core import PLPHP, prune
from plphp_core.decoding.fast_generate import fast_generate
from plphp_core.decoding.features import shared_features
from plphp_core.decoding.shared_prefill import SharedPrefill, can_share
from plphp_core.pruning import Method, top_tokens
from tests.factories import EOS_TOKEN, PAD_TOKEN
from tests.families.tiny_models import each_kind, tiny

NEW = 9
METHODS = [
    None,
    PLPHP(alpha=0.8, beta=0.6),
    PLPHP(r=0.3, delta_r=0.3, alpha=1.0, beta=1.0),
    PLPHP(r=1.0, delta_r=0.0),
    PLPHP(alpha=0.7, beta=0.7, gqa="max"),
    SnapKV(window_size=3, kernel_size=3),
    AdaKV(window_size=4, kernel_size=3, scope="prompt", budget=0.6),
    VLCache(),
    H2O(),
    RandomTokens(alpha=0.8, beta=0.6),
    None,
]
OPTIONS = {"max_new_tokens": NEW, "do_sample": False, "eos_token_id": None}


@dataclass(frozen=True)
class EveryRow(Method):
    """Keeps the tokens that all rows together attend to most."""

    name: ClassVar[str] = "every_row"
    query_rows: ClassVar[None] = None

    def compress(self, layer, view):
        scores = view.mean_row().unflatten(1, (view.kv_heads, -1)).mean(2)
        return top_tokens(scores, view.vision, view.vision_counts, tuple(n // 2 for n in view.vision_counts))


def alone(model, batch, method, **options):
    with prune(model, method, record_attention=False) as trace:
        out = model.generate(**batch, **options, output_logits=True, return_dict_in_generate=True)
    return out, trace


def expect_same_trace(found, expected):
    assert torch.equal(found.retention, expected.retention)
    assert found.kv_bytes == expected.kv_bytes and found.kv_bytes_full == expected.kv_bytes_full
    assert found.kv_bytes_alone == expected.kv_bytes_alone
    for mine, theirs in zip(found.layers, expected.layers, strict=True):
        assert torch.equal(mine.tokens, theirs.tokens)


@pytest.mark.parametrize("family", each_kind(0))
def test_generate_goes_on_as_if_it_had_prefilled_itself(family):
    model, batch = tiny(family)
    with shared_features(model):
        shared = SharedPrefill(model, batch, METHODS)
        for method in METHODS:
            expected, trace = alone(model, batch, method, **OPTIONS)
            with shared.resumed(method) as resumed:
                found = model.generate(**batch, **OPTIONS, output_logits=True, return_dict_in_generate=True)
            assert torch.equal(found.sequences, expected.sequences)
            assert torch.equal(torch.stack(found.logits), torch.stack(expected.logits))
            expect_same_trace(resumed.trace, trace)
    assert "forward" not in vars(model)


@pytest.mark.parametrize("family", each_kind(1))
def test_the_fast_path_goes_on_as_if_it_had_prefilled_itself(family):
    model, batch = tiny(family)
    shared = SharedPrefill(model, batch, METHODS)
    for method in METHODS:
        expected = fast_generate(model, batch, method, max_new_tokens=NEW, record_attention=False)
        found = fast_generate(model, batch, method, max_new_tokens=NEW, prefilled=shared.prefilled(method))
        assert torch.equal(found.sequences, expected.sequences)
        expect_same_trace(found.trace, expected.trace)
    assert all(layer.keys.shape[2] == batch["input_ids"].shape[1] for layer in shared.cache.layers)


def test_samples_that_end_with_the_first_token_are_padded_as_ever():
    model, batch = tiny()
    first = alone(model, batch, None, **{**OPTIONS, "max_new_tokens": 1})[0].sequences[:, -1]
    options = OPTIONS | {"eos_token_id": [int(first[0]), EOS_TOKEN], "pad_token_id": PAD_TOKEN}
    shared = SharedPrefill(model, batch)
    expected, _ = alone(model, batch, METHODS[1], **options)
    with shared.resumed(METHODS[1]):
        assert torch.equal(model.generate(**batch, **options), expected.sequences)


def test_the_last_rows_are_computed_once_for_all_and_charged_to_each():
    model, batch = tiny()
    shared = SharedPrefill(model, batch)
    assert shared.scoring_ms == 0
    none = shared.prefilled(None)
    assert shared.scoring_ms == 0 and none.prefill_ms >= shared.prefill_ms
    first = shared.prefilled(METHODS[1])
    scored = shared.scoring_ms
    assert scored > 0 and first.prefill_ms >= shared.prefill_ms + scored
    second = shared.prefilled(METHODS[2])
    assert shared.scoring_ms == scored and second.prefill_ms >= shared.prefill_ms + scored


def test_a_failing_call_leaves_the_model_as_it_was():
    model, batch = tiny()
    shared = SharedPrefill(model, batch)
    with pytest.raises(RuntimeError, match="on purpose"), shared.resumed(METHODS[1]):
        raise RuntimeError("on purpose")
    assert "forward" not in vars(model)
    expected, _ = alone(model, batch, None, **OPTIONS)
    assert torch.equal(alone(model, batch, None, **OPTIONS)[0].sequences, expected.sequences)


def test_methods_that_change_the_prefill_are_refused():
    model, batch = tiny()
    shared = SharedPrefill(model, batch)
    for method in (FastV(K=3), VTW(K=4)):
        assert not can_share(method)
        with pytest.raises(ValueError, match="withdraws"):
            shared.prefilled(method)
        with pytest.raises(ValueError, match="withdraws"), shared.resumed(method):
            pass
    with pytest.raises(ValueError, match="reads all query rows, but 1 are held"):
        SharedPrefill(model, batch).prefilled(EveryRow())


@pytest.mark.parametrize("family", each_kind(2))
def test_images_are_encoded_once_within_the_block(family):
    model, batch = tiny(family)
    expected = [alone(model, batch, method, **OPTIONS)[0].sequences for method in (FastV(K=3), VTW(K=4), METHODS[1])]
    calls = []
    encode = model.model.get_image_features

    @functools.wraps(encode)
    def counted(*args, **kwargs):
        calls.append(1)
        return encode(*args, **kwargs)

    model.model.get_image_features = counted
    with shared_features(model) as clock:
        shared = SharedPrefill(model, batch)
        assert calls == [1] and clock.reused_ms == 0
        found = [alone(model, batch, method, **OPTIONS)[0].sequences for method in (FastV(K=3), VTW(K=4))]
        with shared.resumed(METHODS[1]):
            found.append(model.generate(**batch, **OPTIONS))
        assert calls == [1] and 0 < clock.reused_ms <= 3 * shared.prefill_ms
    assert all(map(torch.equal, found, expected))
    assert model.model.get_image_features is counted
    alone(model, batch, None, **OPTIONS)
    assert calls == [1, 1]
