"""Every method on every family equals the masked float64 reference (tests/reference.py), padded batches included."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch

from baselines import VTW, FastV
from plphp_core import PLPHP, prune
from tests import reference
from tests.families.idefics2_factory import LATENTS, idefics2_batch, tiny_idefics2
from tests.families.mantis_factory import IMAGE_SIZE, mantis_batch, tiny_mantis
from tests.families.qwen_factory import qwen_batch, tiny_qwen

STEPS = 4
METHODS = {
    "plphp": (PLPHP(alpha=0.8, beta=0.6), reference.plphp(0.4, 0.3, 0.8, 0.6)),
    "plphp-zero": (PLPHP(r=0.3, delta_r=0.3, alpha=1.0, beta=1.0), reference.plphp(0.3, 0.3, 1.0, 1.0)),
    "fastv": (FastV(K=3, R=0.5), reference.fastv(3, 0.5)),
    "fastv-rows": (FastV(K=3, R=0.75, rows="all"), reference.fastv(3, 0.75, "all")),
    "vtw": (VTW(K=4), reference.vtw(4)),
    "nothing": (None, reference.Reference.nothing),
}


@dataclass(frozen=True)
class Kind:
    """How a family's tiny model is built, how its inputs are made, and four samples with their images' tokens."""

    model: Callable
    batch: Callable
    samples: list
    sizes: list[list[int]]


def qwen(family):
    samples = [[4, (2, 3, 1), 5], [3, (2, 2, 1), (3, 2, 2), 4, (1, 4, 3), 6], [7], [(4, 4, 5), 1, (2, 2, 6), 3]]
    return Kind(lambda **k: tiny_qwen(family, **k), qwen_batch, samples, [[6], [4, 6, 4], [], [16, 4]])


FAMILIES = {name: qwen(name) for name in ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")}
# Images next to each other; of Idefics2's, two sizes. Tokens per image are fixed.
A, B, C = (24, 24, 1), (8, 24, 2), (24, 16, 3)
FAMILIES["idefics2"] = Kind(
    tiny_idefics2,
    idefics2_batch,
    [[4, A, 5], [3, B, C, 4, A, 6], [7], [C, 1, B, 3]],
    [[LATENTS], [LATENTS] * 3, [], [LATENTS] * 2],
)
FAMILIES["idefics2-window"] = replace(  # wider than the prompts, as in the real checkpoint
    FAMILIES["idefics2"], model=lambda **k: tiny_idefics2(text={"sliding_window": 4096}, **k)
)
FAMILIES["mantis"] = Kind(
    tiny_mantis,
    mantis_batch,
    [[4, (1,), 5], [3, (2,), (3,), 4, (4,), 6], [7], [(5,), 1, (6,), 3]],
    [[IMAGE_SIZE], [IMAGE_SIZE] * 3, [], [IMAGE_SIZE] * 2],
)


def generate(model, inputs, method):
    with prune(model, method) as trace:
        out = model.generate(
            **inputs,
            max_new_tokens=STEPS,
            do_sample=False,
            eos_token_id=None,
            output_logits=True,
            return_dict_in_generate=True,
        )
    return out.sequences[:, inputs["input_ids"].shape[1] :].tolist(), torch.stack(out.logits, 1), trace


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_padded_batch_with_none_to_three_images_equals_reference(family, method):
    kind, (method, rule) = FAMILIES[family], METHODS[method]
    model = kind.model()
    batch = kind.batch(model, kind.samples, seed=7)
    tokens, logits, trace = generate(model, batch, method)
    for row, (sample, sizes) in enumerate(zip(kind.samples, kind.sizes, strict=True)):
        own = batch["attention_mask"][row].bool()
        ids = batch["input_ids"][row][own][None]
        alone = {key: value for key, value in kind.batch(model, [sample]).items() if key != "attention_mask"}
        ref = reference.Reference(model, alone | {"input_ids": ids}, sizes)
        expected, expected_logits = ref.generate(STEPS, rule)
        assert tokens[row] == expected
        torch.testing.assert_close(logits[row].double(), expected_logits, atol=3e-4, rtol=1e-3)
        assert [len(image) for image in trace.images[row]] == sizes
        pads = int((~own).sum())
        if hasattr(ref, "kept"):
            for layer, kept in enumerate(ref.kept):
                assert (trace.kept[layer][row] - pads).tolist() == kept, f"layer {layer}"
            gamma = torch.tensor(ref.gamma).double()
            torch.testing.assert_close(trace.vision_attention[row].double(), gamma, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_nothing_pruned_is_bitwise_the_model_itself(family, dtype):
    kind = FAMILIES[family]
    model = kind.model(dtype=dtype)
    batch = kind.batch(model, kind.samples)
    options = {"max_new_tokens": STEPS, "do_sample": False, "output_logits": True, "return_dict_in_generate": True}
    plain = model.generate(**batch, **options)
    layers = 8
    for method in (None, PLPHP(r=1.0, delta_r=0.0), FastV(K=3, R=0.0), FastV(K=layers, R=0.9), VTW(K=layers)):
        with prune(model, method):
            found = model.generate(**batch, **options)
        assert torch.equal(found.sequences, plain.sequences)
        assert all(torch.equal(a, b) for a, b in zip(found.logits, plain.logits, strict=True)), method


@pytest.mark.parametrize("family", FAMILIES)
def test_a_second_turn_on_the_pruned_cache_equals_the_reference(family):
    """The next turn's text, fed as a plain forward on the cache, continues at the right positions."""
    kind = FAMILIES[family]
    model = kind.model()
    batch = kind.batch(model, kind.samples[1:2])
    ids = {key: value for key, value in batch.items() if key != "attention_mask"}
    method, rule = METHODS["plphp"]
    with torch.no_grad(), prune(model, method):
        first = model(**ids, use_cache=True)
        cache, more = first.past_key_values, torch.tensor([[5, 9, 2, 7]])
        second = model(input_ids=more, past_key_values=cache, use_cache=True)
    ref = reference.Reference(model, ids, kind.sizes[1])
    rule(ref)
    embeds = torch.cat([ref.embeds, ref.decoder.embed_tokens(more[0])])
    prompt, n = len(ref.embeds), len(ref.embeds) + more.shape[1]

    def hidden(layer, head):
        mask = torch.zeros(n, n, dtype=torch.bool)
        mask[prompt:, ref.later[layer][head]] = True
        return mask

    expected, _ = ref.forward(embeds, hidden)
    torch.testing.assert_close(second.logits[0, -1].double(), expected, atol=3e-4, rtol=1e-3)
