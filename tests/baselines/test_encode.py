"""Encode methods: equality with the float64 reference of tests/encode_reference.py, and what must hold of each."""

import pytest
import torch

from baselines import CDPruner, DivPrune, PruMerge, VisionZip, VisPruner
from plphp_core import fast_generate
from tests import encode_reference, reference
from tests.families.tiny_models import FAMILIES
from tests.pruning.test_oracle import generate

METHODS = {  # the method, the reference's rule, and the layer of the tower that it reads, counted from the features'
    "divprune": (DivPrune(ratio=0.5), encode_reference.divprune(0.5), 0),
    "cdpruner-text": (CDPruner(ratio=0.3, relevance="text"), encode_reference.cdpruner(0.3, "text"), 0),
    "cdpruner-none": (CDPruner(ratio=0.3, relevance="none"), encode_reference.cdpruner(0.3, "none"), 0),
    "visionzip": (VisionZip(ratio=0.5, contextual=0.25), encode_reference.visionzip(0.5, 0.25), 0),
    "visionzip-mean": (
        VisionZip(ratio=0.4, contextual=0.5, merge="mean", class_token=False),
        encode_reference.visionzip(0.4, 0.5, "mean", False),
        0,
    ),
    "vispruner": (VisPruner(ratio=0.4), encode_reference.vispruner(0.4), 0),
    "compact": (VisionZip(ratio=0.5, positions="compact"), encode_reference.visionzip(0.5), 0),
    "prumerge+": (PruMerge(neighbours=3), encode_reference.prumerge(neighbours=3), 1),
    "prumerge-fixed": (
        PruMerge(adaptive=False, ratio=0.5, neighbours=2),
        encode_reference.prumerge(0.5, neighbours=2),
        1,
    ),
    "prumerge-top": (
        PruMerge(adaptive=False, ratio=0.4, plus=False, neighbours=0),
        encode_reference.prumerge(0.4, False, 0),
        1,
    ),
}
# CLIP tower, SigLIP tiles with newlines, M-RoPE with windows and DeepStack, pixel shuffle.
TOWERS = ["llava_1_5", "llava_onevision", "llava_next", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "internvl3"]
CASES = [(family, name) for family in TOWERS for name in METHODS if name != "compact" or "qwen" not in family]
# Each family with some, so that every method meets every kind of tower; the slow test has them all.
SOME = [case for number, case in enumerate(CASES) if number % 3 == 0 or case[0] in ("llava_1_5", "qwen3_vl")]


@pytest.mark.parametrize("family, name", SOME)
def test_a_padded_batch_with_none_to_four_images_equals_the_masked_reference(family, name):
    expect_equal(family, name)


@pytest.mark.slow
@pytest.mark.parametrize("family, name", sorted(set(CASES) - set(SOME)))
def test_every_method_on_every_kind_of_tower_equals_it(family, name):
    expect_equal(family, name)


def expect_equal(family, name):
    kind, (method, keep, layer) = FAMILIES[family], METHODS[name]
    model = kind.model(layers=4)
    batch = kind.batch(model, kind.samples, seed=7)
    tokens, logits, trace = generate(model, batch, method, 3)
    fast = fast_generate(model, batch, method, max_new_tokens=3, eos_token_id=[])
    assert fast.sequences[:, batch["input_ids"].shape[1] :].tolist() == tokens
    for row, sample in enumerate(kind.samples):
        own, sizes = batch["attention_mask"][row].bool(), kind.sizes(model, sample)
        alone = {key: value for key, value in kind.batch(model, [sample]).items() if key != "attention_mask"}
        alone["input_ids"] = batch["input_ids"][row][own][None]
        ref = reference.Reference(model, alone, sizes)
        rule = encode_reference.encoding(alone, keep, layer, compact=method.renumbers)
        expected, expected_logits = ref.generate(3, rule)
        pads = int((~own).sum())
        kept = [i for i in ref.kept[0][0] if i in ref.vision]
        assert [(head - pads).tolist() for head in trace.kept[0][row]] == [kept] * ref.kv_heads
        assert (trace.merged[-1][row] - pads).tolist() == sorted(ref.written)
        assert tokens[row] == expected
        torch.testing.assert_close(logits[row].double(), expected_logits, atol=3e-4, rtol=1e-3)
