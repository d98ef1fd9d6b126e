"""The oracle: what a method does to a padded batch equals an independent float64 reference that only masks."""

import copy

import pytest
import torch

from plphp_core import fast_generate, prune
from tests.reference import Reference

STEPS = 3
CLOSE = {"atol": 3e-4, "rtol": 1e-3}


def generate(model, inputs, method, steps=STEPS, **options):
    """New tokens, logits `(batch, steps, vocabulary)` and the trace of a greedy `generate()` under `prune`."""
    options = {"max_new_tokens": steps, "do_sample": False, "eos_token_id": None, **options}
    with prune(model, method) as trace:
        out = model.generate(**inputs, **options, output_logits=True, return_dict_in_generate=True)
    return out.sequences[:, inputs["input_ids"].shape[1] :].tolist(), torch.stack(out.logits, 1), trace


def one_by_one(kind, model, batch, samples):
    """Each sample of a padded batch without its padding: which tokens of its row are its own, and its inputs alone."""
    for row, sample in enumerate(samples):
        own = batch["attention_mask"][row].bool()
        alone = {key: value for key, value in kind.batch(model, [sample]).items() if key != "attention_mask"}
        yield own, alone | {"input_ids": batch["input_ids"][row][own][None]}


def references(kind, model, batch, samples):
    """Which tokens of each row are its own, and the row's `Reference`."""
    double = copy.deepcopy(model).double()
    for (own, alone), sample in zip(one_by_one(kind, model, batch, samples), samples, strict=True):
        yield own, Reference(double, alone, kind.sizes(model, sample))


def expect_equal(kind, model, samples, method, rule, steps=STEPS, fast=True):
    """Each row of the padded batch equals the reference run alone on the unpadded sample.

    Tokens, logits, images, tokens kept per layer and head, those that stand for others, and vision attention; unless
    `fast` is False, `fast_generate` says and keeps the same.
    """
    batch = kind.batch(model, samples, seed=7)
    tokens, logits, trace = generate(model, batch, method, steps)
    if fast:
        found = fast_generate(model, batch, method, max_new_tokens=steps, eos_token_id=[])
        assert found.sequences[:, batch["input_ids"].shape[1] :].tolist() == tokens
        assert found.decode_steps == steps - 1
        assert all(torch.equal(a.tokens, b.tokens) for a, b in zip(found.trace.layers, trace.layers, strict=True))
    for row, (own, ref) in enumerate(references(kind, model, batch, samples)):
        expected, expected_logits = ref.generate(steps, rule)
        assert tokens[row] == expected
        torch.testing.assert_close(logits[row].double(), expected_logits, **CLOSE)
        pads = int((~own).sum())
        assert [(image - pads).tolist() for image in trace.images[row]] == ref.images
        for layer, kept in enumerate(ref.kept):
            vision = [[i for i in head if i in ref.vision] for head in kept]
            assert [(head - pads).tolist() for head in trace.kept[layer][row]] == vision, f"layer {layer}"
            assert trace.layers[layer].slots(row) == pytest.approx(sum(map(len, kept)) / len(kept))
        merged = {*ref.written, *(slot for slots in ref.merges.values() for slot, _ in slots)}
        assert (trace.merged[-1][row] - pads).tolist() == sorted(merged.intersection(*ref.kept[-1]))
        if hasattr(ref, "gamma"):
            gamma = torch.tensor(ref.gamma).double()
            torch.testing.assert_close(trace.vision_attention[row].double(), gamma, atol=1e-4, rtol=1e-3)
