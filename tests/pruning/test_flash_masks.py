"""FlashAttention takes two-dimensional masks. A stand-in with the same contract proves that path on a CPU."""

import pytest
import torch
from transformers import AttentionInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, flash_attention_mask
from transformers.modeling_flash_attention_utils import _is_packed_sequence

from baselines import VTW, AdaKV, FastV, PyramidDrop
from plphp_core import PLPHP, prune
from tests.factories import prompt_batch, tiny_llava_onevision

BATCH = [[4, (20, 28, 1), 5], [3, (16, 16, 1), (16, 16, 2), 4, (10, 20, 3), 6], [7]]


def flash_stand_in(module, query, key, value, attention_mask, scaling=None, position_ids=None, **kwargs):
    """Causal, aligned at the lower right; the mask is None or `(batch, keys)`; positions with gaps mean packing."""
    batch, _, rows, _ = query.shape
    keys = key.shape[2]
    assert attention_mask is None or attention_mask.shape == (batch, keys)
    assert not _is_packed_sequence(position_ids, batch)
    visible = torch.ones(rows, keys, dtype=torch.bool).tril(keys - rows)[None, None]
    if attention_mask is not None:
        visible = visible & attention_mask[:, None, None]
    out = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=visible, scale=scaling, enable_gqa=True
    )
    return out.transpose(1, 2).contiguous(), None


AttentionInterface.register("flash_stand_in", flash_stand_in)
ALL_MASK_ATTENTION_FUNCTIONS.register("flash_stand_in", flash_attention_mask)


@pytest.mark.parametrize(
    "method",
    [
        *(PLPHP(alpha=0.8, beta=0.6), FastV(2, 0.5), VTW(3), AdaKV(window_size=2, kernel_size=3)),
        *(PyramidDrop((2, 5), (0.5, 0.2), positions="compact"), None),
    ],
    ids=str,
)
@pytest.mark.parametrize("samples", [BATCH, BATCH[1:2]], ids=["batch", "single"])
def test_two_dimensional_masks_give_the_tokens_of_sdpa(method, samples):
    found = {}
    for attention in ("sdpa", "flash_stand_in"):
        model = tiny_llava_onevision()
        # Not set_attn_implementation, which looks for an installed kernel of any name with "flash" in it.
        model.model.language_model.config._attn_implementation = attention
        inputs = prompt_batch(model, samples)
        with prune(model, method):
            out = model.generate(
                **inputs,
                max_new_tokens=4,
                do_sample=False,
                eos_token_id=None,
                return_dict_in_generate=True,
                output_logits=True,
            )
            cache, length = out.past_key_values, out.sequences.shape[1] + 4
            mask = torch.cat([inputs["attention_mask"], torch.ones(len(samples), 9, dtype=torch.long)], 1)[:, :length]
            positions = (mask.cumsum(1) - 1)[:, -5:]
            turn = torch.cat([out.sequences[:, -1:], torch.ones(len(samples), 4, dtype=torch.long)], 1)
            second = model(input_ids=turn, attention_mask=mask, position_ids=positions, past_key_values=cache).logits
        found[attention] = out.sequences, torch.stack(out.logits), second
    assert torch.equal(found["sdpa"][0], found["flash_stand_in"][0])
    torch.testing.assert_close(found["sdpa"][1], found["flash_stand_in"][1], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found["sdpa"][2], found["flash_stand_in"][2], atol=1e-4, rtol=1e-4)
