"""What users combine with a `prune` block, on purpose or not: it works, or says in a sentence why it does not."""

import asyncio
import copy

import pytest
import torch
from torch import nn
from transformers import DynamicCache, StaticCache

from baselines import VTW, FastV
from plphp_core import PLPHP, prune
from plphp_core.pruning import hf
from tests.examples import first
from tests.factories import METHOD, PADDED, SAMPLES, greedy, prompt_batch, tiny_llava_onevision


@pytest.fixture(autouse=True)
def _nothing_compiled_before():
    torch._dynamo.reset()


# --- compiled models --------------------------------------------------------------------------------------------------


def in_place(model):
    model.compile(backend="eager")
    return model


def wrapped(model):
    return torch.compile(model, backend="eager")


@torch.no_grad()
@pytest.mark.slow
@pytest.mark.parametrize("compile_", [in_place, wrapped])
def test_a_model_compiled_and_called_before_the_block_is_pruned_in_it_and_whole_after(small, compile_):
    model, inputs = small
    with prune(model, METHOD) as trace:
        expected = model(**inputs).logits
    kept = trace.retention
    call = compile_(model)
    plain = call(**inputs).logits
    with prune(model, METHOD) as trace:
        found = call(**inputs).logits
    assert torch.equal(trace.retention, kept) and kept.min() < 1
    assert torch.equal(found, expected)
    assert torch.equal(call(**inputs).logits, plain) and "forward" not in vars(model)


def compiled_in_place(model, path):
    model.get_submodule(path).compile(backend="eager")


def compiled_and_put_back(model, path):
    model.set_submodule(path, torch.compile(model.get_submodule(path), backend="eager"))


DECODER = "model.language_model"
BLOCK = (f"{DECODER}.layers.2", "layer 2 was compiled by itself")
ATTENTION = (f"{DECODER}.layers.2.self_attn", "the attention of layer 2 was compiled")
COMPILED = [
    (compiled_in_place, *ATTENTION),
    (compiled_and_put_back, *BLOCK),
    (compiled_in_place, *BLOCK),
    (compiled_and_put_back, *ATTENTION),
    (compiled_in_place, DECODER, "the decoder was compiled by itself"),
    (compiled_in_place, "model", "hooks ran in 0 of 4 layers"),
]


@torch.no_grad()
@pytest.mark.parametrize("part", first(COMPILED, 2))
def test_a_compiled_part_is_refused_by_name_and_harmless_without_a_method(small, part):
    (model, inputs), (compile_, path, words) = small, part
    compile_(model, path)
    plain = model(**inputs).logits
    with prune(model, METHOD), pytest.raises(ValueError, match=words):
        model(**inputs)
    with prune(model, None) as trace:
        assert torch.equal(model(**inputs).logits, plain)
    assert trace.layers == [] and words in trace.missing


@torch.no_grad()
@pytest.mark.slow
def test_a_compiled_forward_is_refused_and_compiled_vision_towers_and_feed_forward_blocks_are_fine(small):
    model, inputs = small
    model.model.vision_tower.compile(backend="eager")
    model.model.language_model.layers[1].mlp.compile(backend="eager")
    with prune(model, METHOD) as trace:
        model(**inputs)
    assert len(trace.layers) == 4
    model.forward = torch.compile(model.forward, backend="eager")
    model(**inputs)
    with prune(model, METHOD), pytest.raises(ValueError, match="hooks ran in 0 of 4 layers"):
        model(**inputs)


# --- wrapped models ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrap, path",
    [(nn.DataParallel, "model.module"), (lambda m: torch.compile(m, backend="eager"), "model._orig_mod")],
)
def test_a_wrapper_is_refused_and_the_model_inside_it_named(wrap, path):
    wrapper = wrap(tiny_llava_onevision(layers=2))
    with (
        pytest.raises(TypeError, match=rf"prune\({path}, method\)"),
        prune(wrapper, METHOD),
    ):
        pass


# --- several blocks at once -------------------------------------------------------------------------------------------


@torch.no_grad()
def test_blocks_of_two_tasks_of_one_thread_do_not_mix(small):
    model, inputs = small
    methods = [METHOD, VTW(3), None]
    expected = []
    for method in methods:
        with prune(model, method) as trace:
            expected.append((greedy(model, inputs), trace.retention.tolist()))

    async def work(method, turns):
        with prune(model, method) as trace:
            await asyncio.sleep(0)  # all blocks are open now; they close in another order than they were opened
            found = []
            for _ in range(turns):
                found.append((greedy(model, inputs), trace.retention.tolist()))
                await asyncio.sleep(0)
            return found

    async def all_at_once():
        return await asyncio.gather(*(work(method, turns) for method, turns in zip(methods, (1, 3, 2), strict=True)))

    for found, turns, right in zip(asyncio.run(all_at_once()), (1, 3, 2), expected, strict=True):
        assert found == [right] * turns
    assert not model._forward_pre_hooks and "generate" not in vars(model)


@torch.no_grad()
def test_a_task_follows_the_block_it_was_made_in_and_not_after_its_end(small):
    model, inputs = small
    plain = greedy(model, inputs)
    with prune(model, VTW(2)):
        pruned = greedy(model, inputs)
    assert pruned != plain

    async def late(closed):
        await closed.wait()
        return greedy(model, inputs)

    async def run():
        closed = asyncio.Event()
        with prune(model, VTW(2)):
            soon = asyncio.create_task(asyncio.to_thread(greedy, model, inputs))
            afterwards = asyncio.create_task(late(closed))
            assert await soon == pruned
        closed.set()
        return await afterwards

    assert asyncio.run(run()) == plain


# --- what generate() can be asked for ---------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("method", [METHOD, None], ids=str)
def test_guidance_leaves_the_trace_with_the_prompts_own_prefill(small, method):
    model, inputs = small
    with prune(model, method) as alone:
        greedy(model, inputs)
    with prune(model, method) as trace:
        guided = greedy(model, inputs, guidance_scale=1.5)
        assert torch.equal(trace.retention, alone.retention) and trace.kv_bytes == alone.kv_bytes
        assert greedy(model, inputs, guidance_scale=1.5) == guided  # and the next call begins anew
        assert len(trace.layers) == 4 and trace.images[0]


@torch.no_grad()
def test_caches_that_cannot_shrink_are_refused_before_anything_is_read():
    model = tiny_llava_onevision(layers=4)
    inputs = prompt_batch(model, PADDED)
    for method in (METHOD, FastV(2, 0.5)):
        static = hf.cache_argument(model, StaticCache(config=model.config.text_config, max_cache_len=200))
        with prune(model, method), pytest.raises(ValueError, match="StaticLayer cannot shrink"):
            model.generate(**inputs, **static, max_new_tokens=2, do_sample=False)
        with prune(model, method), pytest.raises(ValueError, match="StaticLayer cannot shrink"):
            model(**inputs, **static)
    offloaded = DynamicCache()
    model(**inputs, **hf.cache_argument(model, offloaded))
    offloaded.offloading = True  # using such a cache needs a GPU, refusing it does not
    with pytest.raises(ValueError, match="an offloaded cache cannot shrink"):
        hf.refuse_cache(offloaded, 0, 10)


@torch.no_grad()
@pytest.mark.parametrize("method", [METHOD, FastV(2, 0.5), VTW(2)], ids=str)
def test_flex_attention_is_refused_by_name(method):
    model = tiny_llava_onevision(layers=4)
    model.model.language_model.config._attn_implementation = "flex_attention"
    with prune(model, method), pytest.raises(ValueError, match=r"attn_implementation='flex_attention'.*'sdpa'"):
        model(**prompt_batch(model, SAMPLES))


def test_without_a_method_a_padded_batch_with_a_static_cache_and_a_training_step_are_as_outside():
    model = tiny_llava_onevision(layers=4)
    inputs = prompt_batch(model, PADDED)
    with torch.no_grad():
        plain = greedy(model, inputs, cache_implementation="static")
        with prune(model, None) as trace:
            assert greedy(model, inputs, cache_implementation="static") == plain
    assert trace.layers == [] and "only the dynamic cache can shrink" in trace.missing
    for options in ({}, {"use_reentrant": True}, {"use_reentrant": False}):
        losses = []
        for inside in (False, True):
            trained = copy.deepcopy(model).train()
            trained.gradient_checkpointing_enable(gradient_checkpointing_kwargs=options or None)
            trained.enable_input_require_grads()
            labels = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, -100)
            if inside:
                with prune(trained, None) as trace:
                    loss = trained(**inputs, labels=labels).loss
                    loss.backward()
                assert "without a KV cache" in trace.missing
            else:
                loss = trained(**inputs, labels=labels).loss
                loss.backward()
            losses.append((loss.item(), trained.model.language_model.layers[1].self_attn.q_proj.weight.grad))
        assert losses[0][0] == losses[1][0] and torch.equal(losses[0][1], losses[1][1])


@torch.no_grad()
def test_a_pruned_cache_continued_outside_of_a_block_is_refused_in_a_sentence_and_works_inside():
    model = tiny_llava_onevision(layers=4)
    for samples in (SAMPLES, PADDED):
        inputs = prompt_batch(model, samples)
        token = torch.ones(len(samples), 1, dtype=torch.long)
        mask = torch.cat([inputs["attention_mask"], torch.ones_like(token)], dim=1)
        with prune(model, METHOD):
            cache = hf.cache_among(model(**inputs).values())
        for width in (1, 2):
            with pytest.raises(ValueError, match=r"this cache was pruned.*with prune\(model, method\)"):
                model(input_ids=token.expand(-1, width), **hf.cache_argument(model, copy.deepcopy(cache)))
        with prune(model, None):
            model(input_ids=token, attention_mask=mask, **hf.cache_argument(model, cache))


@torch.no_grad()
def test_a_mask_with_holes_prunes_like_any_other():
    """With everything kept, the tokens are those of generate() without a block."""
    model = tiny_llava_onevision(layers=6)
    inputs = prompt_batch(model, [[9, (16, 16, 1), 8, (16, 16, 2), 6], [7, (16, 16, 3), 9]])
    inputs["attention_mask"][:, -4:-2] = 0
    inputs["attention_mask"][0, 3:5] = 0
    plain = greedy(model, inputs)
    with prune(model, PLPHP(r=1.0, delta_r=0.0)):
        assert greedy(model, inputs) == plain


# --- what is shown ----------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_a_trace_prints_as_a_short_table():
    model = tiny_llava_onevision(layers=4)
    with prune(model, METHOD) as trace:
        assert str(trace) == "nothing traced: no prefill yet"
        model(**prompt_batch(model, SAMPLES))
    head, columns, *layers, total = str(trace).splitlines()
    assert head == f"prompt: {trace.prompt.lengths[0]} tokens, {trace.prompt.vision_counts[0]} of them vision, 3 images"
    assert columns.split() == ["layer", "γ", "vision", "kept", "slots"] and len(layers) == 4
    assert [line.split()[2] for line in layers] == [f"{kept:.1%}" for kept in trace.retention[0].tolist()]
    assert total.startswith(f"KV cache: {trace.kv_bytes[0]:,} of {trace.kv_bytes_full[0]:,} bytes")
    with prune(model, METHOD) as trace:
        model(**prompt_batch(model, PADDED))
    assert str(trace).startswith("2 prompts, means: ")
