"""Checks on models with the head counts and widths of real checkpoints: random weights, few layers or none at all."""

import pytest
import torch

from baselines import VTW, FastV
from plphp_core import PLPHP, prune
from tests import reference

# Steps: one more where only decoding feels the pruning.
METHODS = [
    (PLPHP(alpha=0.8, beta=0.6), reference.plphp(0.4, 0.3, 0.8, 0.6), 2),
    (FastV(K=2, R=0.5), reference.fastv(2, 0.5), 1),
    (VTW(K=3), reference.vtw(3), 1),
]


def expect_every_hook_on_every_layer(model, family, layers, query_heads, kv_heads, head_dim):
    """A model on the meta device: geometry as published, hooks on each layer and off again, methods that fit."""
    blocks = family.decoder(model).layers
    assert len(blocks) == layers
    for block in blocks:
        attention = block.self_attn
        assert attention.q_proj.out_features == query_heads * head_dim
        assert attention.k_proj.out_features == kv_heads * head_dim
        assert attention.head_dim == head_dim and attention.scaling == head_dim**-0.5
    with prune(model, PLPHP()):
        for block in blocks:
            attention = block.self_attn
            assert len(block._forward_pre_hooks) == len(attention.q_proj._forward_hooks) == 1
            assert len(attention._forward_pre_hooks) == len(attention._forward_hooks) == 1
    assert not any(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())
    with prune(model, FastV(K=layers, R=0.5)):
        pass
    with pytest.raises(ValueError, match=str(layers)), prune(model, FastV(K=layers + 1, R=0.5)):
        pass


def expect_reference(model, inputs, sizes):
    """Tokens, logits and the tokens kept per KV head equal the masked float64 reference; the cache has shrunk."""
    ref = reference.Reference(model, inputs, sizes)
    for method, rule, steps in METHODS:
        with torch.no_grad(), prune(model, method) as trace:
            out = model.generate(
                **inputs,
                max_new_tokens=steps,
                do_sample=False,
                eos_token_id=None,
                output_logits=True,
                return_dict_in_generate=True,
            )
        ids, logits = ref.generate(steps, rule)
        assert out.sequences[0, -steps:].tolist() == ids
        torch.testing.assert_close(torch.cat(out.logits).double(), logits, atol=2e-3, rtol=2e-3)
        assert [len(image) for image in trace.images[0]] == sizes
        if isinstance(method, PLPHP):
            for layer, kept in enumerate(ref.kept):
                assert trace.kept[layer][0].tolist() == kept, f"layer {layer}"
        cache = out.past_key_values
        assert all(layer.keys.shape[1] == ref.kv_heads for layer in cache.layers)
        assert sum(layer.keys.shape[2] for layer in cache.layers) < ref.layers * cache.get_seq_length()
