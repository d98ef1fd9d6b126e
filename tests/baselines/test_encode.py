"""Encode methods: equality with the float64 reference of tests/encode_reference.py, on each kind of tower."""

from dataclasses import replace

import pytest

from baselines import CDPruner, DivPrune, PruMerge, VisionZip, VisPruner
from tests import encode_reference
from tests.families.idefics3_factory import PATCH
from tests.families.tiny_models import FAMILIES, covering
from tests.oracle import expect_equal

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
# CLIP tower, SigLIP tiles with newlines, M-RoPE with windows and DeepStack, pixel shuffle, pooling.
TOWERS = ["llava_1_5", "llava_onevision", "llava_next", "internvl3", "qwen2_vl", "qwen2_5_vl", "qwen3_vl"]
TOWERS += ["idefics3", "smolvlm2", "gemma3"]


@pytest.mark.parametrize(
    "family, name", covering(METHODS, TOWERS, lambda family, name: "qwen" not in family or name != "compact")
)
def test_a_padded_batch_with_none_to_four_images_equals_the_masked_reference(family, name):
    expect_the_reference(FAMILIES[family], name)


@pytest.mark.parametrize("name", ["visionzip", "vispruner", "prumerge+"])
def test_patches_of_nothing_are_attended_by_none_and_attend_to_none(name):
    def batch(model, samples, seed=0):
        inputs = FAMILIES["idefics3"].batch(model, samples, seed)
        if "pixel_attention_mask" in inputs:  # of every other crop the last row of patches
            inputs["pixel_attention_mask"][:, ::2, -PATCH:] = 0
        return inputs

    expect_the_reference(replace(FAMILIES["idefics3"], batch=batch), name)


def expect_the_reference(kind, name):
    method, keep, layer = METHODS[name]
    rule = encode_reference.encoding(keep, layer, compact=method.renumbers)
    expect_equal(kind, kind.model(layers=4), kind.samples, method, rule)
