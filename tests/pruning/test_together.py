"""Blocks together with other things of the same process: workers, caches, options, wrapped parts, rows of logits."""

import contextvars
import gc
import pickle
import sys
import threading
import weakref

import pytest
import torch
from torch import nn
from transformers import GenerationConfig

from baselines import VTW, FastV
from plphp_core import PLPHP, fast_generate, prune
from plphp_core.decoding.shared_prefill import SharedPrefill
from plphp_core.pruning import hf
from tests.factories import METHOD, PADDED, SAMPLES, prompt_batch, tiny_llava_onevision
from tests.families.tiny_models import FAMILIES


@pytest.mark.parametrize("method", [METHOD, FastV(1, 0.5)], ids=str)
@pytest.mark.parametrize("family", ["llava_onevision", "qwen3_vl"])
def test_workers_that_follow_one_block_at_once_do_not_mix(family, method):
    """Qwen3-VL's encoder features join the first layers by their number, which belongs to the prefill."""
    if family == "llava_onevision":
        model = tiny_llava_onevision(layers=4)
        inputs = [prompt_batch(model, samples) for samples in (SAMPLES, [[3, (16, 16, 5), 2]], PADDED)]
    else:
        kind = FAMILIES[family]
        model = kind.model(layers=4)
        inputs = [kind.batch(model, [sample]) for sample in kind.samples[:2]]
    expected = []
    for one in inputs:
        with torch.no_grad(), prune(model, method):
            expected.append(model(**one).logits)
    found, before = [[] for _ in inputs], sys.getswitchinterval()

    def work(at):
        with torch.no_grad():
            found[at] += [model(**inputs[at]).logits for _ in range(12)]

    sys.setswitchinterval(1e-5)
    try:
        with prune(model, method) as trace:
            threads = [threading.Thread(target=work, args=(at,)) for at in range(len(inputs))]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    finally:
        sys.setswitchinterval(before)
    for logits, right in zip(found, expected, strict=True):
        assert len(logits) == 12 and all(torch.equal(one, right) for one in logits)
    assert len(trace.layers) == 4 and trace.missing is None


def test_a_block_that_is_closed_in_another_context_keeps_no_model_alive():
    model = tiny_llava_onevision(layers=2)
    alive, context, block = weakref.ref(model), contextvars.copy_context(), prune(model, METHOD)
    context.run(block.__enter__)
    block.__exit__(None, None, None)
    del model, block
    gc.collect()
    assert alive() is None and context is not None


@torch.no_grad()
@pytest.mark.parametrize(
    "name, value, words",
    [
        ("prompt_lookup_num_tokens", 3, "prompt_lookup_num_tokens: cannot be used while pruning"),
        ("cache_implementation", "static", "cache_implementation='static'"),
    ],
)
def test_options_of_the_checkpoint_count_beside_a_configuration_of_the_call(small, name, value, words):
    """transformers fills what the given configuration leaves open from the checkpoint's."""
    model, inputs = small
    setattr(model.generation_config, name, value)
    given = GenerationConfig(max_new_tokens=4, do_sample=False)
    with prune(model, METHOD), pytest.raises(ValueError, match=words):
        model.generate(**inputs, generation_config=given)
    with prune(model, None) as trace:
        model.generate(**inputs, generation_config=given)
    assert trace.layers == [] and words in trace.missing


@torch.no_grad()
def test_a_forward_that_cannot_be_traced_leaves_no_older_trace(small):
    model, inputs = small
    with prune(model, None) as trace:
        model(**inputs)
        assert trace.layers
        model(inputs_embeds=torch.zeros(1, 4, 32))
        assert trace.layers == [] and "inputs_embeds" in trace.missing
        broken = model.model.language_model.layers[2].mlp.register_forward_hook(lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            model(**inputs)
        broken.remove()
        assert trace.layers == [] and "did not come to its end" in trace.missing


@torch.no_grad()
@pytest.mark.parametrize("method", [FastV(2, 0.5), VTW(2)], ids=str)
def test_rows_of_logits_that_withdrawn_tokens_would_shift_are_refused(small, method):
    model, inputs = small  # six tokens of text behind the last image
    with prune(model, method):
        whole = model(**inputs).logits
        for rows in (1, 6):
            assert torch.allclose(model(**inputs, logits_to_keep=rows).logits, whole[:, -rows:], atol=1e-5)
        for rows in (7, torch.tensor([3])):
            with pytest.raises(ValueError, match=r"logits_to_keep=.*only the last 6 rows"):
                model(**inputs, logits_to_keep=rows)
    with prune(model, METHOD):
        assert model(**inputs, logits_to_keep=torch.tensor([3])).logits.shape[1] == 1


@torch.no_grad()
def test_a_cache_that_was_reset_is_pruned_anew(small):
    model, inputs = small
    with prune(model, METHOD) as trace:
        cache = hf.cache_among(model(**inputs).values())
        first = trace.retention
        cache.reset()
        model(**inputs, **hf.cache_argument(model, cache))
        assert torch.equal(trace.retention, first) and first.min() < 1


def test_continuous_batching_is_refused_by_name(small):
    model, _ = small
    with prune(model, METHOD), pytest.raises(ValueError, match="generate_batch: continuous batching"):
        model.generate_batch([[1, 2, 3]])
    assert "generate_batch" not in vars(model)


@torch.no_grad()
def test_fast_generate_takes_no_options_among_its_inputs_and_does_not_pass_over_a_block(small):
    model, inputs = small
    for name, value in {"num_beams": 2, "do_sample": True, "position_ids": None, "use_cache": True}.items():
        with pytest.raises(ValueError, match=f"inputs hold {name}"):
            fast_generate(model, {**inputs, name: value}, max_new_tokens=2)
    with pytest.raises(ValueError, match="inputs have no input_ids"):
        fast_generate(model, {"inputs_embeds": torch.zeros(1, 4, 32)}, max_new_tokens=2)
    with pytest.raises(TypeError, match=r"prune\(model.module, method\)"):
        fast_generate(nn.DataParallel(model), inputs, max_new_tokens=2)
    with prune(model, METHOD), pytest.raises(ValueError, match="give it the method as its argument"):
        fast_generate(model, inputs, max_new_tokens=2)


@torch.no_grad()
def test_a_shared_prefill_goes_on_from_its_own_prompt_only(small):
    model, inputs = small
    shared = SharedPrefill(model, inputs)
    other = {**inputs, "input_ids": inputs["input_ids"].clone()}
    other["input_ids"][0, 0] += 1
    for call, options in ((other, {}), (inputs, {"num_beams": 2})):
        with shared.resumed(PLPHP()), pytest.raises(ValueError, match="goes on from its own prompt"):
            model.generate(**call, max_new_tokens=2, do_sample=False, **options)


def test_a_trace_can_be_kept(small):
    model, inputs = small
    with torch.no_grad(), prune(model, METHOD) as trace:
        model(**inputs)
    assert str(pickle.loads(pickle.dumps(trace))) == str(trace)
