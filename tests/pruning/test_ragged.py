"""Heads that hold different numbers of tokens: what is stored, and that every move of a cache moves it alike."""

import pytest
import torch

from baselines import AdaKV
from plphp_core import PLPHP, prune
from plphp_core.pruning.cache import PrunedLayer, RaggedLayer
from tests.families.tiny_models import FAMILIES, tiny

KEPT = [[[0, 2, 3], [4]], [[1], [0, 1, 2, 4]], [[], [2]]]  # of five tokens, per sample and head
METHOD = AdaKV(budget=0.5, window_size=2, kernel_size=3)


def ragged():
    """Keys tell their token and head."""
    flat = [token for sample in KEPT for head in sample for token in head]
    owner = [100 * (b * 2 + h) for b, sample in enumerate(KEPT) for h, head in enumerate(sample) for _ in head]
    keys = torch.tensor([[t + o] for t, o in zip(flat, owner, strict=True)]).float()
    counts = tuple(tuple(map(len, sample)) for sample in KEPT)
    return RaggedLayer(keys, -keys, torch.tensor(flat), counts, seen=5)


def rectangle():
    """The same slots, filled up in front."""
    width = max(len(head) for sample in KEPT for head in sample)
    kept = torch.tensor([[[-1] * (width - len(head)) + head for head in sample] for sample in KEPT])
    owner = torch.arange(0, 600, 100).view(3, 2, 1)
    keys = (kept + owner)[..., None].float()
    return PrunedLayer(keys, -keys, kept, seen=5, filled=True)


def step(layer, number):
    layer.slot_mask(torch.ones(1, 1, 1, layer.seen + 1, dtype=torch.bool), 1, 4, flash=False)
    new = torch.full((len(layer.tokens()), 2, 1, 1), float(number))
    return layer.update(new, -new)


def expect_alike(found, expected):
    """Where there is a token, the same token with the same keys and values in the same place."""
    keys, values = step(found, 7)
    other, _ = step(expected, 7)
    width, tokens = keys.shape[2], found.tokens()  # a ragged layer is as wide as its longest head
    assert torch.equal(tokens, expected.tokens()[..., -width:]) and (expected.tokens()[..., :-width] < 0).all()
    shown = tokens >= 0
    assert torch.equal(keys[shown], other[..., -width:, :][shown]) and torch.equal(values[shown], -keys[shown])


MOVES = {
    "nothing": lambda layer: None,
    "beams": lambda layer: layer.reorder_cache(torch.tensor([2, 0, 0])),
    "repeat": lambda layer: layer.batch_repeat_interleave(3),
    "select": lambda layer: layer.batch_select_indices(torch.tensor([1, 2])),
    "crop": lambda layer: layer.crop(-1),
}


@pytest.mark.parametrize("moves", [[name] for name in MOVES] + [["crop", "repeat", "beams"]], ids="-".join)
def test_a_ragged_layer_moves_as_a_filled_up_rectangle_does(moves):
    found, expected = ragged(), rectangle()
    for layer in (found, expected):
        step(layer, 8)
        step(layer, 9)
    for move in moves:
        for layer in (found, expected):
            MOVES[move](layer)
    expect_alike(found, expected)


def test_the_mask_hides_the_filler_of_each_head_by_itself():
    layer = ragged()
    mask = layer.slot_mask(None, 1, 4, flash=False)
    assert mask.shape == (3, 4, 1, 5)
    assert mask.sum(-1).squeeze(-1).tolist() == [[4, 4, 2, 2], [2, 2, 5, 5], [1, 1, 2, 2]]  # and the token to come


def test_what_cannot_be_cropped_is_refused():
    layer = ragged()
    step(layer, 8)
    with pytest.raises(ValueError, match="cannot crop 2 tokens: only the 1 that came after the prompt"):
        layer.crop(-2)
    with pytest.raises(ValueError, match="negative integer"):
        layer.crop(1)


@torch.no_grad()
@pytest.mark.parametrize("method", [METHOD, PLPHP(alpha=0.8, beta=0.6, head_budget="ada")], ids=["adakv", "plphp"])
def test_storage_is_the_sum_of_what_heads_keep(method):
    model, batch = tiny()
    with prune(model, method) as trace:
        out = model(**batch, use_cache=True)
    layers = [layer for layer in out.past_key_values.layers if isinstance(layer, RaggedLayer)]
    assert len(layers) >= 5
    stored = sum(
        part.untyped_storage().nbytes() for layer in out.past_key_values.layers for part in (layer.keys, layer.values)
    )
    assert stored == sum(layer.nbytes for layer in trace.layers)
    for number, layer in enumerate(out.past_key_values.layers):
        if isinstance(layer, RaggedLayer):
            slots = [(head >= 0).sum().item() for sample in trace.layers[number].tokens for head in sample]
            assert layer.keys.shape[0] == sum(slots) and len(set(slots)) > 1
            assert sum(trace.layers[number].bytes_held(b) for b in range(4)) == trace.layers[number].nbytes


def test_beams_and_return_sequences_agree_with_single_prompts():
    """Each prompt of a padded batch ends as it does alone, where the ragged layers have other widths."""
    kind = FAMILIES["llava_onevision"]
    model = kind.model()
    options = {"max_new_tokens": 6, "num_beams": 3, "num_return_sequences": 2, "do_sample": False, "eos_token_id": None}
    batch = kind.batch(model, kind.samples, seed=7)
    with prune(model, METHOD):
        together = model.generate(**batch, **options)
    prompt = batch["input_ids"].shape[1]
    for row in range(4):
        own = batch["attention_mask"][row].bool()
        alone = kind.batch(model, [kind.samples[row]])
        alone["input_ids"] = batch["input_ids"][row][own][None]
        with prune(model, METHOD):
            found = model.generate(**alone, **options)
        assert torch.equal(found[:, own.sum() :], together[2 * row : 2 * row + 2, prompt:])
