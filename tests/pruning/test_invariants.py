"""What must hold between methods, whatever the model: prefill is exact, rows stay apart, memory really falls."""

import gc
import weakref

import pytest
import torch

from baselines import VTW, FastV, PyramidDrop
from plphp_core import PLPHP, prune
from plphp_core.pruning.cache import PrunedLayer
from plphp_core.pruning.hf import cache_among
from tests.factories import prompt_batch, tiny_llava_onevision

LAYERS = 8
BATCH = [[4, (20, 28, 1), 5], [3, (16, 16, 1), (16, 16, 2), 4, (10, 20, 3), 6], [7]]
SINGLE = [BATCH[1]]


def run(model, inputs, method, **kwargs):
    kwargs = {"max_new_tokens": 5, "do_sample": False, "eos_token_id": None, **kwargs}
    with prune(model, method) as trace:
        out = model.generate(**inputs, **kwargs, output_logits=True, return_dict_in_generate=True)
    return out, torch.stack(out.logits), trace


def test_nothing_pruned_means_equal_prefill_logits_in_a_plain_forward():
    model = tiny_llava_onevision(LAYERS)
    inputs = prompt_batch(model, BATCH)
    plain = model(**inputs).logits
    with prune(model, PLPHP()):  # prefill is exact even where the cache shrinks
        assert torch.equal(model(**inputs).logits, plain)


def test_batch_rows_equal_single_runs():
    """Rates are per sample: nothing is averaged over the batch."""
    model = tiny_llava_onevision(LAYERS)
    for method in (
        PLPHP(alpha=0.8, beta=0.6),
        FastV(2, 0.5),
        VTW(3),
        PyramidDrop((2, 5), (0.5, 0.2), positions="compact"),
    ):
        together, _, trace = run(model, prompt_batch(model, BATCH, seed=3), method)
        batch = prompt_batch(model, BATCH, seed=3)
        for row, sample in enumerate(BATCH):
            own = batch["attention_mask"][row].bool()
            alone = {**prompt_batch(model, [sample]), "input_ids": batch["input_ids"][row][own][None]}
            alone["attention_mask"] = torch.ones_like(alone["input_ids"])
            out, _, single = run(model, alone, method)
            assert out.sequences[0, -5:].tolist() == together.sequences[row, -5:].tolist()
            assert trace.kv_bytes_alone[row] == single.kv_bytes[0] == single.kv_bytes_alone[0]
            assert trace.kv_bytes_full_alone[row] == single.kv_bytes_full[0]
            torch.testing.assert_close(trace.retention[row], single.retention[0])


def test_withdrawn_tokens_are_neither_computed_nor_stored():
    model = tiny_llava_onevision(LAYERS)
    inputs = prompt_batch(model, SINGLE)
    lengths = []
    handles = [
        block.mlp.register_forward_pre_hook(lambda module, args: lengths.append(args[0].shape[1]))
        for block in model.model.language_model.layers
    ]
    out, _, _ = run(model, inputs, FastV(K=2, R=0.5), max_new_tokens=1)
    for handle in handles:
        handle.remove()
    prompt, vision = inputs["input_ids"].shape[1], int((inputs["input_ids"] == 90).sum())
    short = prompt - vision + round(vision * 0.5)
    assert lengths == [prompt] * 2 + [short] * (LAYERS - 2)
    assert [layer.keys.shape[2] for layer in out.past_key_values.layers] == lengths
    assert {layer.get_seq_length() for layer in out.past_key_values.layers} == {prompt}


def test_pruned_storage_is_small_and_the_full_one_is_gone():
    model = tiny_llava_onevision(LAYERS)
    inputs = prompt_batch(model, SINGLE)
    full = []

    def watch(module, args, kwargs, output):
        full.append(weakref.ref(cache_among(kwargs.values()).layers[module.layer_idx].keys))

    handles = [b.self_attn.register_forward_hook(watch, with_kwargs=True) for b in model.model.language_model.layers]
    with torch.no_grad(), prune(model, PLPHP(alpha=1.0, beta=0.0)) as trace:  # balanced: 0.4 everywhere
        cache = model(**inputs).past_key_values
    for handle in handles:
        handle.remove()
    gc.collect()
    alive = [ref() is not None for ref in full]
    assert alive == [True, True] + [False] * 5 + [True]  # layers 2 … N−2 replaced, others untouched
    prompt = inputs["input_ids"].shape[1]
    images = [len(image) for image in trace.images[0]]
    slots = prompt - sum(images) + sum(int(0.4 * n + 1e-9) for n in images)
    storages = 0
    for index, layer in enumerate(cache.layers):
        expected = prompt if index in (0, 1, 7) else slots
        for tensor in (layer.keys, layer.values):
            assert tensor.shape[2] == expected
            assert tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
            storages += tensor.untyped_storage().nbytes()
    assert trace.kv_bytes == [storages]
    assert trace.kv_bytes_full == [LAYERS * prompt * 2 * 2 * 8 * 4]


def test_batch_storage_is_what_the_trace_says():
    model = tiny_llava_onevision(LAYERS)
    with prune(model, PLPHP(alpha=0.8, beta=0.6)) as trace:
        cache = model(**prompt_batch(model, BATCH)).past_key_values
    held = sum(t.untyped_storage().nbytes() for layer in cache.layers for t in (layer.keys, layer.values))
    assert sum(trace.kv_bytes) == pytest.approx(held)


def test_text_only_prompts_are_untouched():
    model = tiny_llava_onevision(LAYERS)
    inputs = prompt_batch(model, [[9], [4]])
    plain = model.generate(**inputs, max_new_tokens=5, do_sample=False, eos_token_id=None)
    for method in (PLPHP(), FastV(2, 0.5), VTW(1)):
        out, _, trace = run(model, inputs, method)
        assert torch.equal(out.sequences, plain)
        assert not any(isinstance(layer, PrunedLayer) for layer in out.past_key_values.layers)
        assert (trace.images, trace.kv_bytes) == ([[], []], trace.kv_bytes_full)


@pytest.mark.parametrize("options", [{"num_beams": 3}, {"num_beams": 3, "num_return_sequences": 2}], ids=str)
def test_beam_search_off_is_off_and_on_is_deterministic(options):
    model = tiny_llava_onevision(LAYERS)
    inputs = prompt_batch(model, BATCH[:2])
    plain = model.generate(**inputs, max_new_tokens=5, do_sample=False, **options)
    off, _, _ = run(model, inputs, PLPHP(r=1.0, delta_r=0.0), eos_token_id=92, **options)
    assert torch.equal(off.sequences, plain)
    on, _, trace = run(model, inputs, PLPHP(alpha=0.8, beta=0.6), eos_token_id=92, **options)
    assert len(trace.images) == 6
    again, _, _ = run(model, inputs, PLPHP(alpha=0.8, beta=0.6), eos_token_id=92, **options)
    assert torch.equal(on.sequences, again.sequences)


@pytest.mark.parametrize(
    "method", [PLPHP(alpha=0.8, beta=0.6), PyramidDrop((2, 5), (0.5, 0.2), positions="compact")], ids=str
)
def test_one_beam_of_many_scores_like_greedy(method):
    """Beam scores are the pruned model's own: re-scoring the best beam step by step gives the same sum."""
    model = tiny_llava_onevision(LAYERS)
    inputs = prompt_batch(model, BATCH[:2])
    out, _, _ = run(model, inputs, method, num_beams=3, output_scores=True, length_penalty=0.0)
    with prune(model, method):
        prompt = inputs["input_ids"].shape[1]
        step = model(**inputs, position_ids=(inputs["attention_mask"].cumsum(1) - 1).clamp(min=0))
        total, mask = torch.zeros(2), inputs["attention_mask"]
        for t in range(5):
            token = out.sequences[:, prompt + t]
            total += step.logits[:, -1].log_softmax(-1).gather(1, token[:, None])[:, 0]
            mask = torch.cat([mask, torch.ones(2, 1, dtype=mask.dtype)], 1)
            positions = mask.sum(1, keepdim=True) - 1
            step = model(
                input_ids=token[:, None],
                attention_mask=mask,
                position_ids=positions,
                past_key_values=step.past_key_values,
            )
    torch.testing.assert_close(out.sequences_scores, total, atol=1e-4, rtol=1e-4)


def test_several_return_sequences_of_sampling_share_the_prompts_pruning():
    model = tiny_llava_onevision(LAYERS)
    inputs = prompt_batch(model, SINGLE)
    with prune(model, PLPHP(alpha=0.8, beta=0.6)) as trace:
        out = model.generate(**inputs, max_new_tokens=4, do_sample=True, num_return_sequences=3)
    assert len(out) == 3 == len(trace.images)
    assert all(torch.equal(trace.kept[3][0], kept) for kept in trace.kept[3])
