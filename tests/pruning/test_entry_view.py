"""What a method sees at the entry of a layer is what the model and the float64 reference have there."""

import gc
import weakref
from dataclasses import dataclass, field
from typing import ClassVar

import pytest
import torch

from baselines import VTW, FastV
from plphp_core import prune
from plphp_core.families import family_of
from plphp_core.pruning import Method, Selection
from tests import reference, withdraw_reference
from tests.factories import prompt_batch, tiny_llava_onevision
from tests.families.tiny_models import FAMILIES, each_kind, tiny
from tests.oracle import references

LAYER = 3


@dataclass(frozen=True)
class Look(Method):
    """Keeps what it saw at the entry of `LAYER`, after half of the vision tokens left at layer 1."""

    name: ClassVar[str] = "look"
    query_rows: ClassVar[None] = None
    reads_embeddings: ClassVar[bool] = True
    seen: dict = field(default_factory=dict)
    halve: bool = False

    def withdraw(self, layer, entry):
        self.seen[layer] = entry
        if layer == 1 and self.halve:
            return FastV(K=1, R=0.5).withdraw(layer, entry)
        if layer == LAYER:
            rows = torch.zeros_like(entry.valid)
            rows[:, -3:-1] = True
            self.seen["sum"] = sum(
                torch.einsum("bhrn,br->bhn", found, counted) for found, counted, _ in entry.rows(rows & entry.valid)
            )
            self.seen["row"] = entry.entering_row()
        return None


@pytest.mark.parametrize("halve", [False, True])
@pytest.mark.parametrize("family", each_kind(1))
def test_states_and_rows_at_the_entry_of_a_layer(family, halve):
    model, batch = tiny(family)
    kind, method, entered = FAMILIES[family], Look(halve=halve), {}
    decoder = family_of(model).decoder(model)
    norm = decoder.layers[LAYER].input_layernorm  # called by the view, and then by the layer itself
    handle = norm.register_forward_pre_hook(lambda _, args: entered.update({LAYER: args[0]}))
    with torch.no_grad(), prune(model, method):
        model(**batch)
    handle.remove()
    entry = method.seen[LAYER]
    assert (entry.layer, entry.num_layers) == (LAYER - 1, len(decoder.layers))
    assert torch.equal(entry.hidden, entered[LAYER])
    for row, (own, ref) in enumerate(references(kind, model, batch, kind.samples)):
        (reference.fastv(1, 0.5) if halve else reference.Reference.nothing)(ref)
        n, maps = len(ref.embeds), withdraw_reference.look(ref)
        pads, held = int((~own).sum()), entry.valid[row]
        places = entry.tokens[row][held] - pads
        assert sorted(set(range(n)) - set(ref.everywhere[LAYER])) == places.tolist()
        close = {"atol": 1e-4, "rtol": 1e-3}
        torch.testing.assert_close(method.seen["row"][row][:, held].double(), maps[LAYER][:, -1, places], **close)
        expected = maps[LAYER - 1][:, -3:-1].sum(1)[:, places]
        torch.testing.assert_close(method.seen["sum"][row][:, held].double(), expected, **close)
        torch.testing.assert_close(entry.embeddings[row][own].double(), ref.embeds, **close)
        assert (method.seen["row"][row][:, ~held] == 0).all()
    normed = entry.final_norm(entry.hidden)
    assert torch.equal(normed, decoder.norm(entry.hidden))


def test_embeddings_are_held_only_where_a_method_reads_them():
    model = tiny_llava_onevision(4)

    class Blind(Look):
        name = "blind"
        reads_embeddings = False

        def withdraw(self, layer, entry):
            return entry.embeddings and None

    with pytest.raises(ValueError, match="reads_embeddings"), prune(model, Blind()):
        model(**prompt_batch(model, [[4, (20, 28, 1), 5]]))


def test_the_attention_of_the_layer_before_is_let_go_at_the_entry():
    """Of a layer that the method both compresses and looks back at, the full keys are gone once the next one runs."""
    model = tiny_llava_onevision()
    alive, full = [], []

    class Both(Method):
        name = "both"

        def withdraw(self, layer, entry):
            full.append(weakref.ref(entry.keys))

        def compress(self, layer, view):
            tokens = view.image_of.shape[1]
            mask = (~view.vision)[:, None].expand(-1, view.kv_heads, -1)
            return Selection(mask, tuple(tokens - n for n in view.vision_counts))

    def count(module, args, kwargs):
        gc.collect()
        alive.append(sum(ref() is not None for ref in full))

    for block in model.model.language_model.layers:
        block.self_attn.register_forward_pre_hook(count, with_kwargs=True)
    with torch.no_grad(), prune(model, Both()):
        model(**prompt_batch(model, [[4, (20, 28, 1), 5]]))
    assert len(full) == 7 and alive == [0] * 8


def test_two_layers_may_withdraw_and_attention_that_is_asked_for_is_traced():
    model = tiny_llava_onevision()

    @dataclass(frozen=True)
    class Twice(Method):
        name: ClassVar[str] = "twice"

        def withdraw(self, layer, entry):
            assert entry.vision_attention.shape == (1,)
            if layer == 2:
                return FastV(K=2, R=0.5).withdraw(layer, entry)
            return VTW(K=5).withdraw(layer, entry)

    with torch.no_grad(), prune(model, Twice(), record_attention=False) as trace:
        model(**prompt_batch(model, [[4, (20, 28, 1), 5]]))
    n = trace.prompt.vision_counts[0]
    assert [layer.vision_counts[0] for layer in trace.layers] == [n] * 2 + [round(n * 0.5)] * 3 + [0] * 3
    assert trace.vision_attention[0, :-1].isfinite().all() and trace.vision_attention[0, -1].isnan()
