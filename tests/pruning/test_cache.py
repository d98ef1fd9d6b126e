"""Slots follow their batch rows wherever Hugging Face moves a cache."""

import torch

from plphp_core.pruning.cache import PrunedLayer


def layer():
    """Two rows, two heads, three slots of five tokens; every row and head kept others."""
    kept = torch.tensor([[[0, 2, 4], [1, 2, 4]], [[-1, 3, 4], [-1, 0, 4]]])
    keys = kept[..., None].float() + torch.tensor([10.0, 20.0])[:, None, None, None]
    return PrunedLayer(keys, -keys, kept, seen=5, filled=True)


def expect_in_step(found):
    rows = found.keys[..., 0] - found.kept
    assert torch.equal(rows, rows[:, :1, :1].expand_as(rows))  # every slot still lies beside its own position
    assert torch.equal(found.values, -found.keys)


def test_beam_reordering_moves_positions_with_keys():
    found = layer()
    found.reorder_cache(torch.tensor([1, 1]))
    expect_in_step(found)
    assert found.kept[:, 0, 0].tolist() == [-1, -1]


def test_repeating_and_selecting_rows_moves_positions_with_keys():
    found = layer()
    found.batch_repeat_interleave(2)
    expect_in_step(found)
    assert found.kept[:, 0, 0].tolist() == [0, 0, -1, -1]
    found.batch_select_indices(torch.tensor([3, 0]))
    expect_in_step(found)
    assert found.kept[:, 0, 0].tolist() == [-1, 0]


def test_masks_are_gathered_per_head_and_filler_stays_hidden():
    mask = torch.ones(2, 1, 1, 6, dtype=torch.bool)
    mask[0, 0, 0, 1] = False  # a token that only head 1 of row 0 kept
    found = layer().slot_mask(mask, 1, query_heads=4, flash=False)
    assert found[0, :, 0].tolist() == [[True] * 4, [True] * 4, [False, True, True, True], [False, True, True, True]]
    assert found[1, :, 0].tolist() == [[False, True, True, True]] * 4


def test_after_reset_the_layer_is_an_ordinary_empty_one():
    found = layer()
    found.reset()
    assert found.get_seq_length() == 0
    keys, _ = found.update(torch.zeros(3, 2, 4, 1), torch.zeros(3, 2, 4, 1))
    assert keys.shape[2] == found.get_seq_length() == 4
    assert found.slot_mask(None, 1, 4, False) is None
