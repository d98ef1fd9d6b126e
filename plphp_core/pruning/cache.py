"""A cache layer with fewer slots than tokens seen."""

from typing import Any

import torch
from torch import Tensor

from plphp_core.pruning.hf import Cache, DynamicLayer, DynamicSlidingWindowLayer


def renew(cache: Cache) -> None:
    """Give a cache that was reset ordinary layers again, so that the next prompt can be pruned anew."""
    for number, layer in enumerate(cache.layers):
        if isinstance(layer, PrunedLayer) and not layer.is_initialized:
            sliding = layer.window is not None
            cache.layers[number] = DynamicSlidingWindowLayer(layer.window) if sliding else DynamicLayer()


class PrunedLayer(DynamicLayer):
    """Holds some of the tokens it has seen, other ones in each head, and tells Hugging Face how many it has *seen*.

    Masks and positions are built from the number of tokens seen, so generation goes on at the full prompt length. Slots
    behind `kept` are the tokens that came later, all of them. Where samples of a batch keep different numbers of
    tokens, the shorter ones are filled up in front; such slots have `kept = −1` and are never read.

    Args:
        keys, values: `(batch, kv_heads, slots, head_dim)`.
        kept: `(batch, kv_heads, slots)`, token of each slot, ascending; −1 for filler. Held in 32 bits: one slot of one
            head is hundreds of bytes of keys and values, its position should not add much.
        seen: tokens seen.
        filled: whether any slot is filler.
        window: the model's sliding window, within which all tokens must stay; None without one.

    Raises:
        ValueError: on `update`, if nobody has made this layer's mask, see `slot_mask`: outside of a `prune` block.
    """

    def __init__(self, keys: Tensor, values: Tensor, kept: Tensor, seen: int, filled: bool, window: int | None = None):
        super().__init__()
        self.keys, self.values = keys, values
        self.dtype, self.device = keys.dtype, keys.device
        self.is_initialized = True
        self.kept, self.seen, self.filled, self.window = kept.int(), seen, filled, window
        self.expected = False  # whether the coming `update` is one that `slot_mask` was asked for

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:  # after `reset`: an ordinary, empty layer
            self.lazy_initialization(key_states, value_states)
            batch, heads = key_states.shape[:2]
            self.kept = torch.empty(batch, heads, 0, dtype=torch.int, device=self.device)
        elif not self.expected:
            raise ValueError(
                "this cache was pruned and its slots are not the prompt's tokens any more: go on with it inside "
                "`with prune(model, method)`, of whatever method (None too), on a model that is not compiled"
            )
        self.expected = False
        self.seen += key_states.shape[-2]
        self.keys = torch.cat([self.keys, key_states], dim=-2)
        self.values = torch.cat([self.values, value_states], dim=-2)
        return self.keys, self.values

    def get_seq_length(self) -> int:
        return self.seen

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.seen + query_length, 0

    def tokens(self, incoming: int = 0) -> Tensor:
        """Token of each slot and of the next `incoming` ones, `(batch, kv_heads, slots + incoming)`; −1 for filler."""
        later = self.keys.shape[-2] - self.kept.shape[-1]
        tail = torch.arange(self.seen - later, self.seen + incoming, device=self.kept.device)
        return torch.cat([self.kept.long(), tail.expand(*self.kept.shape[:2], -1)], dim=-1)

    def slot_mask(self, mask: Tensor | None, query_length: int, query_heads: int, flash: bool) -> Tensor | None:
        """The mask that Hugging Face built over tokens, as a mask over this layer's slots.

        Args:
            mask: None; or `(batch, tokens)` as FlashAttention takes it; or `(batch, 1 | query_heads, query_length,
                tokens)`, bool (True: visible) or additive; `tokens` = seen + query_length.
            query_length: tokens about to be added.
            query_heads: query heads of the layer.
            flash: whether the attention takes two-dimensional masks; decides the shape where `mask` is None.

        Returns:
            None if every slot is visible, else the mask in the same convention over `slots + query_length`.
        """
        if self.window is not None and self.seen + query_length > self.window:
            raise ValueError(
                f"sliding_window={self.window}: generation has reached it after {self.seen} tokens, where a pruned "
                "cache would have to forget; set config.sliding_window=None or generate fewer tokens"
            )
        if mask is not None and not isinstance(mask, Tensor):
            raise ValueError(
                f"attention_mask is a {type(mask).__name__}, which cannot follow the slots that are kept: go on with "
                "attn_implementation='sdpa' or 'flash_attention_2'"
            )
        self.expected = True
        if mask is None and not self.filled:
            return None
        tokens = self.tokens(query_length)
        filler, index = tokens < 0, tokens.clamp(min=0)
        if mask is None and flash:
            return ~filler[:, 0]
        if mask is None:  # one query and no padding; with more queries there is a mask, it is not square
            return ~filler[:, :1, None]
        if mask.ndim == 2:  # padding and filler stand in the same leading slots of every head
            return mask.expand(tokens.shape[0], -1).gather(-1, index[:, 0]) & ~filler[:, 0]
        groups = query_heads // tokens.shape[1]
        index = index.repeat_interleave(groups, dim=1)[:, :, None].expand(-1, -1, query_length, -1)
        filler = filler.repeat_interleave(groups, dim=1)[:, :, None]
        slots = mask.expand(tokens.shape[0], query_heads, -1, -1).gather(-1, index)
        hidden = False if mask.dtype == torch.bool else torch.finfo(mask.dtype).min
        return slots.masked_fill(filler, hidden)

    def reset(self) -> None:
        super().reset()
        self.seen, self.filled = 0, False

    def crop(self, tokens_to_remove: int) -> None:
        removed = abs(tokens_to_remove)
        if tokens_to_remove > 0:
            raise ValueError(f"crop takes the number of tokens to remove as a negative integer, got {tokens_to_remove}")
        if removed == 0 or not self.is_initialized:
            return
        tokens = self.tokens()
        last = torch.arange(self.seen - removed, self.seen, device=tokens.device)
        if removed > tokens.shape[-1] or not bool((tokens[..., -removed:] == last).all()):
            raise ValueError(
                f"cannot crop {removed} tokens: that reaches into pruned vision tokens, which are gone; prefill again"
            )
        super().crop(tokens_to_remove)
        self.kept = self.kept[..., : self.keys.shape[-2]]
        self.seen -= removed

    def reorder_cache(self, beam_idx: Tensor) -> None:
        super().reorder_cache(beam_idx)
        self.kept = self.kept.index_select(0, beam_idx.to(self.kept.device))

    def batch_repeat_interleave(self, repeats: int) -> None:
        super().batch_repeat_interleave(repeats)
        self.kept = self.kept.repeat_interleave(repeats, dim=0)

    def batch_select_indices(self, indices: Tensor) -> None:
        super().batch_select_indices(indices)
        self.kept = self.kept[indices]
