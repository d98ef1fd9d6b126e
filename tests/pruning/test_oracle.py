"""Every method on every family equals an independent float64 reference that removes nothing and only masks.

The reference is tests/reference.py; padded batches with none to four images, decoding, and a second turn.
"""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from baselines import (
    H2O,
    TOVA,
    VTW,
    AdaKV,
    FastV,
    KeyDiff,
    MixKV,
    PyramidKV,
    Recency,
    SharedHeads,
    SnapKV,
    Uniform,
    VLCache,
)
from plphp_core import PLPHP, prune
from tests import compress_reference, reference
from tests.examples import examples
from tests.factories import prompt_batch, tiny_llava_onevision
from tests.families.tiny_models import ADJACENT, FAMILIES, covering, each_kind
from tests.oracle import CLOSE, STEPS, expect_equal, generate, references

LLAVA = FAMILIES["llava_onevision"]


@pytest.mark.parametrize("heads, kv_heads", [(2, 2), (4, 2), (4, 1), (8, 1)], ids=["gqa1", "gqa2", "gqa4", "gqa8"])
@pytest.mark.parametrize("layers", [6, 12])
def test_plphp_equals_reference_for_every_gqa_ratio_and_depth(heads, kv_heads, layers):
    model = tiny_llava_onevision(layers=layers, query_heads=heads, kv_heads=kv_heads, seed=layers + heads)
    method = PLPHP(r=0.4, delta_r=0.3, alpha=0.8, beta=0.6)
    expect_equal(LLAVA, model, [ADJACENT], method, reference.plphp(0.4, 0.3, 0.8, 0.6))


PARAMETERS = {"r": 0.4, "delta_r": 0.3, "alpha": 0.8, "beta": 0.6}
RIVALS = {
    "shared_heads": (SharedHeads(**PARAMETERS), compress_reference.shared_heads(*PARAMETERS.values())),
    "uniform": (Uniform(**PARAMETERS), compress_reference.uniform(*PARAMETERS.values())),
}
for scope in ("vision", "prompt"):
    some = {"budget": 0.5, "scope": scope}
    snap = {**some, "window_size": 2, "kernel_size": 3}
    RIVALS |= {
        f"snapkv-{scope}": (SnapKV(**snap), compress_reference.snapkv(0.5, scope, 2, 3, "max")),
        f"snapkv-avg-{scope}": (SnapKV(**snap, pooling="avg"), compress_reference.snapkv(0.5, scope, 2, 3, "avg")),
        f"pyramidkv-{scope}": (PyramidKV(**snap, beta=4), compress_reference.pyramidkv(0.5, scope, 2, 3, "max", 4)),
        f"adakv-{scope}": (AdaKV(**snap), compress_reference.adakv(0.5, scope, 2, 3, "max", 0.2)),
        f"h2o-{scope}": (H2O(**some), compress_reference.h2o(0.5, scope)),
        f"keydiff-{scope}": (KeyDiff(**some), compress_reference.keydiff(0.5, scope)),
        f"tova-{scope}": (TOVA(**some), compress_reference.tova(0.5, scope)),
        f"mixkv-{scope}": (MixKV(**some, window_size=2), compress_reference.mixkv(0.5, scope, 2)),
        f"vlcache-{scope}": (VLCache(**some), compress_reference.vlcache(0.5, scope)),
        f"recency-{scope}": (Recency(**some), compress_reference.recency(0.5, scope)),
    }
METHODS = {
    "plphp": (PLPHP(alpha=0.8, beta=0.6), reference.plphp(0.4, 0.3, 0.8, 0.6)),
    "plphp-max": (PLPHP(alpha=0.8, beta=0.6, gqa="max"), reference.plphp(0.4, 0.3, 0.8, 0.6, "max")),
    "plphp-zero": (PLPHP(r=0.3, delta_r=0.3, alpha=1.0, beta=1.0), reference.plphp(0.3, 0.3, 1.0, 1.0)),
    "fastv-1": (FastV(K=1, R=0.5), reference.fastv(1, 0.5)),
    "fastv-2": (FastV(K=2, R=0.75), reference.fastv(2, 0.75)),
    "fastv-rows": (FastV(K=3, R=0.5, rows="all"), reference.fastv(3, 0.5, "all")),
    "fastv-all-dropped": (FastV(K=3, R=1.0), reference.fastv(3, 1.0)),
    "vtw-1": (VTW(K=1), reference.vtw(1)),
    "vtw-2": (VTW(K=2), reference.vtw(2)),
    "vtw-4": (VTW(K=4), reference.vtw(4)),
    "nothing": (None, reference.Reference.nothing),
}


@pytest.mark.parametrize("family, name", covering(METHODS))
def test_a_padded_batch_with_none_to_four_images_equals_reference(family, name):
    kind = FAMILIES[family]
    expect_equal(kind, kind.model(), kind.samples, *METHODS[name])


@pytest.mark.parametrize("family, name", covering(RIVALS, each=2))
def test_a_rival_on_a_padded_batch_equals_its_reference(family, name):
    kind = FAMILIES[family]
    expect_equal(kind, kind.model(), kind.samples, *RIVALS[name])


@pytest.mark.parametrize("heads, kv_heads", [(2, 2), (4, 2), (4, 1), (8, 1)], ids=["gqa1", "gqa2", "gqa4", "gqa8"])
@pytest.mark.parametrize("name", ["snapkv-vision", "adakv-prompt", "mixkv-vision", "vlcache-prompt"])
def test_rivals_equal_their_reference_for_every_gqa_ratio(name, heads, kv_heads):
    model = tiny_llava_onevision(layers=4, query_heads=heads, kv_heads=kv_heads, seed=heads)
    expect_equal(LLAVA, model, [ADJACENT], *RIVALS[name], steps=2)


@pytest.mark.parametrize("name", METHODS)
def test_eager_attention_equals_reference(name):
    method, rule = METHODS[name]
    expect_equal(LLAVA, tiny_llava_onevision(attention="eager"), LLAVA.samples, method, rule, fast=False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("family", [*each_kind(0), "eager"])
def test_nothing_pruned_is_bitwise_the_model_itself(family, dtype):
    attention, family = ("eager", "llava_onevision") if family == "eager" else ("sdpa", family)
    kind, options = FAMILIES[family], {"max_new_tokens": STEPS, "do_sample": False, "eos_token_id": None}
    model = kind.model(dtype=dtype, attention=attention)
    for samples in (kind.samples, kind.samples[1:2]):
        batch = kind.batch(model, samples, seed=7)
        plain = model.generate(**batch, **options, output_logits=True, return_dict_in_generate=True)
        for method in (None, PLPHP(r=1.0, delta_r=0.0), FastV(K=3, R=0.0), FastV(K=8, R=0.9), VTW(K=8)):
            _, logits, trace = generate(model, batch, method)
            assert torch.equal(logits, torch.stack(plain.logits, 1)), method
            assert (trace.retention == 1).all()


@pytest.mark.parametrize("family", each_kind(1))
def test_a_second_turn_on_the_pruned_cache_equals_the_reference(family):
    """The next turn's text, fed as a plain forward on the cache, continues at the right positions."""
    kind, (method, rule) = FAMILIES[family], METHODS["plphp"]
    model = kind.model()
    batch = kind.batch(model, kind.samples[1:2])
    ((_, ref),) = references(kind, model, batch, kind.samples[1:2])
    with torch.no_grad(), prune(model, method):
        cache, more = model(**ref.inputs, use_cache=True).past_key_values, torch.tensor([[5, 9, 2, 7]])
        second = model(input_ids=more, past_key_values=cache, use_cache=True)
    rule(ref)
    embeds = torch.cat([ref.embeds, ref.decoder.embed_tokens(more[0])])
    prompt, n = len(ref.embeds), len(ref.embeds) + more.shape[1]

    def hidden(layer, head):
        mask = torch.zeros(n, n, dtype=torch.bool)
        mask[prompt:, ref.later[layer][head]] = True
        return mask

    expected, _ = ref.forward(embeds, hidden)
    torch.testing.assert_close(second.logits[0, -1].double(), expected, **CLOSE)


@given(data=st.data())
@examples(40)
def test_random_models_prompts_and_parameters_equal_reference(data):
    layers = data.draw(st.integers(6, 12), "layers")
    kv_heads, ratio = data.draw(st.sampled_from([(2, 1), (2, 2), (1, 4), (1, 8)]), "heads")
    model = tiny_llava_onevision(layers, kv_heads * ratio, kv_heads, seed=data.draw(st.integers(0, 99), "seed"))
    image = st.tuples(st.integers(8, 40), st.integers(8, 40), st.integers(0, 99))
    sample = st.lists(st.one_of(image, image, st.integers(1, 5)), min_size=1, max_size=5).map(lambda parts: [*parts, 3])
    samples = data.draw(st.lists(sample, min_size=1, max_size=3), "samples")
    r = data.draw(st.floats(0, 1), "r")
    delta_r = data.draw(st.floats(0, min(r, 1 - r)), "delta_r")
    alpha = data.draw(st.floats(0.3, 1), "alpha")
    beta = data.draw(st.floats(0, alpha), "beta")
    K, R = data.draw(st.integers(1, layers), "K"), data.draw(st.floats(0, 1), "R")
    method, rule = data.draw(
        st.sampled_from(
            [
                (PLPHP(r, delta_r, alpha, beta), reference.plphp(r, delta_r, alpha, beta)),
                (FastV(K, R), reference.fastv(K, R)),
                (VTW(K), reference.vtw(K)),
            ]
        ),
        "method",
    )
    expect_equal(LLAVA, model, samples, method, rule)


def test_bf16_kept_sets_follow_the_models_own_bf16_keys():
    """In bf16 the reference's float64 run ranks near-ties differently; almost all of the kept tokens must agree."""
    model = tiny_llava_onevision(dtype=torch.bfloat16)
    inputs = prompt_batch(model, [ADJACENT])
    method = PLPHP(alpha=0.8, beta=0.6)
    _, logits, trace = generate(model, inputs, method)
    ((_, ref),) = references(LLAVA, model, inputs, [ADJACENT])
    reference.plphp(0.4, 0.3, 0.8, 0.6)(ref)
    same = total = 0
    for layer in range(2, 7):
        if abs(ref.gamma[layer] - 0.8) < 0.02 or abs(ref.gamma[layer] - 0.6) < 0.02:
            continue  # rounding may decide the threshold
        for head, kept in enumerate(ref.kept[layer]):
            own, kept = trace.kept[layer][0][head].tolist(), [i for i in kept if i in ref.vision]
            assert len(own) == len(kept)
            same, total = same + len(set(own) & set(kept)), total + len(kept)
    assert same >= 0.9 * total > 0
    assert logits.isfinite().all()


def test_bf16_batch_of_one_equals_masking_the_full_cache():
    """bf16, exact: pruned decode equals the same model's decode over a full cache with the dropped slots masked."""
    model = tiny_llava_onevision(dtype=torch.bfloat16, attention="eager")
    inputs = prompt_batch(model, [ADJACENT])
    method = PLPHP(r=0.4, delta_r=0.3, alpha=0.8, beta=0.6)
    tokens, logits, trace = generate(model, inputs, method)
    masked = _generate_masked(model, inputs, trace)
    assert tokens[0] == masked[0]
    torch.testing.assert_close(logits[0].float(), masked[1].float(), atol=0.06, rtol=0.03)


def _generate_masked(model, inputs, trace):
    """Greedy decode over an unpruned cache; a per-head additive mask hides what `trace` says was dropped."""
    prompt, heads = inputs["input_ids"].shape[1], model.config.text_config.num_attention_heads
    vision = torch.cat(trace.images[0])
    handles = []
    for layer, block in enumerate(model.model.language_model.layers):

        def hide(attention, args, kwargs, layer=layer):
            if kwargs["hidden_states"].shape[1] > 1:
                return None
            mask = torch.zeros(1, heads, 1, seen[0] + 1, dtype=torch.bfloat16)
            kept = trace.kept[layer][0].repeat_interleave(heads // len(trace.kept[layer][0]), 0)
            for head in range(heads):
                dropped = vision[~torch.isin(vision, kept[head])]
                mask[0, head, 0, dropped] = torch.finfo(torch.bfloat16).min
            return args, {**kwargs, "attention_mask": mask}

        handles.append(block.self_attn.register_forward_pre_hook(hide, with_kwargs=True))
    seen = [prompt]
    out = model(**inputs, use_cache=True)
    cache, ids, logits = out.past_key_values, [], [out.logits[0, -1]]
    for _ in range(STEPS - 1):
        ids.append(int(logits[-1].argmax()))
        step = model(input_ids=torch.tensor([ids[-1:]]), past_key_values=cache, use_cache=True)
        logits.append(step.logits[0, -1])
        seen[0] += 1
    for handle in handles:
        handle.remove()
    return [*ids, int(logits[-1].argmax())], torch.stack(logits)
