"""Cache layers with fewer slots than tokens seen: a rectangle, or for each head as many slots as it keeps."""

from typing import Any

import torch
from torch import Tensor

from plphp_core.pruning.hf import Cache, DynamicLayer, DynamicSlidingWindowLayer
from plphp_core.pruning.validation import require


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
        removed: `(batch,)` long, how much lower the positions of later tokens are in this layer, where a method counts
            them without what it has withdrawn; None: they are what they are everywhere.

    Raises:
        ValueError: on `update`, if nobody has made this layer's mask, see `slot_mask`: outside of a `prune` block.
    """

    differs = False  # whether the heads of a sample hold different numbers of tokens

    def __init__(
        self,
        keys: Tensor,
        values: Tensor,
        kept: Tensor,
        seen: int,
        filled: bool,
        window: int | None = None,
        removed: Tensor | None = None,
    ):
        super().__init__()
        self.keys, self.values = keys, values
        self.dtype, self.device = keys.dtype, keys.device
        self.is_initialized = True
        self.kept, self.seen, self.filled, self.window = kept.int(), seen, filled, window
        self.removed = removed
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
        return self._append(key_states, value_states)

    def _append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        self.keys = torch.cat([self.keys, keys], dim=-2)
        self.values = torch.cat([self.values, values], dim=-2)
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
        groups = query_heads // tokens.shape[1]
        if mask is None and self.differs:
            return ~filler.repeat_interleave(groups, dim=1)[:, :, None]
        if mask is None and flash:
            return ~filler[:, 0]
        if mask is None:  # one query and no padding; with more queries there is a mask, it is not square
            return ~filler[:, :1, None]
        if mask.ndim == 2:  # padding and filler stand in the same leading slots of every head
            return mask.expand(tokens.shape[0], -1).gather(-1, index[:, 0]) & ~filler[:, 0]
        index = index.repeat_interleave(groups, dim=1)[:, :, None].expand(-1, -1, query_length, -1)
        filler = filler.repeat_interleave(groups, dim=1)[:, :, None]
        slots = mask.expand(tokens.shape[0], query_heads, -1, -1).gather(-1, index)
        hidden = False if mask.dtype == torch.bool else torch.finfo(mask.dtype).min
        return slots.masked_fill(filler, hidden)

    def reset(self) -> None:
        super().reset()
        self.seen, self.filled, self.removed = 0, False, None

    def crop(self, tokens_to_remove: int) -> None:
        require(
            tokens_to_remove <= 0,
            f"crop takes the number of tokens to remove as a negative integer, got {tokens_to_remove}",
        )
        if tokens_to_remove < 0 and self.is_initialized:
            self._crop(-tokens_to_remove)

    def _crop(self, removed: int) -> None:
        tokens = self.tokens()
        last = torch.arange(self.seen - removed, self.seen, device=tokens.device)
        if removed > tokens.shape[-1] or not bool((tokens[..., -removed:] == last).all()):
            raise ValueError(
                f"cannot crop {removed} tokens: that reaches into pruned vision tokens, which are gone; prefill again"
            )
        super().crop(-removed)
        self.kept = self.kept[..., : self.keys.shape[-2]]
        self.seen -= removed

    def reorder_cache(self, beam_idx: Tensor) -> None:
        super().reorder_cache(beam_idx)
        self._choose(beam_idx)

    def batch_repeat_interleave(self, repeats: int) -> None:
        super().batch_repeat_interleave(repeats)
        self._choose(torch.arange(len(self.kept)).repeat_interleave(repeats))

    def batch_select_indices(self, indices: Tensor) -> None:
        super().batch_select_indices(indices)
        self._choose(indices)

    def _choose(self, samples: Tensor) -> None:
        """Go on with these samples: what is not keys and values."""
        samples = samples.to(self.kept.device)
        self.kept = self.kept[samples]
        if self.removed is not None:
            self.removed = self.removed[samples]


class RaggedLayer(PrunedLayer):
    """Holds other numbers of the prompt's tokens in each head, and no slot that nobody reads.

    Tokens that come later are held by every head, as a small rectangle beside. At each step attention is given both as
    one rectangle, made for this layer alone and let go again: a copy, as an ordinary cache makes one with every token.

    Args:
        keys, values: `(Σ counts, head_dim)`, head after head, sample after sample.
        kept: `(Σ counts,)`, token of each slot, ascending in every head.
        counts: slots per sample and KV head.
        seen, window, removed: as in `PrunedLayer`.

    Attributes:
        new_keys, new_values: of the tokens that came later, `(batch, kv_heads, later, head_dim)`.
    """

    differs = True

    def __init__(
        self,
        keys: Tensor,
        values: Tensor,
        kept: Tensor,
        counts: tuple[tuple[int, ...], ...],
        seen: int,
        window: int | None = None,
        removed: Tensor | None = None,
    ):
        super().__init__(keys, values, kept, seen, filled=True, window=window, removed=removed)
        self.counts = counts
        self.new_keys = self.new_values = keys.new_empty(len(counts), len(counts[0]), 0, keys.shape[-1])

    def _append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        self.new_keys = torch.cat([self.new_keys, keys], dim=-2)
        self.new_values = torch.cat([self.new_values, values], dim=-2)
        rows, _ = self._rows()
        return (
            torch.cat([self.keys[rows], self.new_keys], dim=-2),
            torch.cat([self.values[rows], self.new_values], dim=-2),
        )

    def _rows(self) -> tuple[Tensor, Tensor]:
        """Rows of `keys` as a rectangle `(batch, kv_heads, slots)`, right-aligned, and which of them are filler."""
        counts = torch.tensor(self.counts, device=self.kept.device)
        width = int(max(map(max, self.counts)))
        ends = counts.flatten().cumsum(0).view_as(counts)
        ago = torch.arange(width, 0, -1, device=counts.device)
        filler = ago > counts[..., None]
        return (ends[..., None] - ago).masked_fill(filler, 0), filler

    def tokens(self, incoming: int = 0) -> Tensor:
        rows, filler = self._rows()
        tail = torch.arange(self.seen - self.new_keys.shape[-2], self.seen + incoming, device=self.kept.device)
        kept = self.kept[rows].long().masked_fill(filler, -1)
        return torch.cat([kept, tail.expand(*kept.shape[:2], -1)], dim=-1)

    def _crop(self, removed: int) -> None:
        later = self.new_keys.shape[-2]
        require(
            removed <= later,
            f"cannot crop {removed} tokens: only the {later} that came after the prompt can go; prefill again",
        )
        self.new_keys, self.new_values = (x[..., : later - removed, :] for x in (self.new_keys, self.new_values))
        self.seen -= removed

    def reorder_cache(self, beam_idx: Tensor) -> None:
        self.batch_select_indices(beam_idx.to(self.kept.device))

    def batch_repeat_interleave(self, repeats: int) -> None:
        self.batch_select_indices(torch.arange(len(self.counts)).repeat_interleave(repeats))

    def batch_select_indices(self, indices: Tensor) -> None:
        chosen = indices.tolist()
        ends = [0]
        for heads in self.counts:
            ends.append(ends[-1] + sum(heads))
        rows = torch.cat([torch.arange(ends[b], ends[b + 1]) for b in chosen]).to(self.kept.device)
        self.keys, self.values, self.kept = self.keys[rows], self.values[rows], self.kept[rows]
        chosen_rows = torch.tensor(chosen, device=self.kept.device)
        self.new_keys, self.new_values = self.new_keys[chosen_rows], self.new_values[chosen_rows]
        self.counts = tuple(self.counts[b] for b in chosen)
        if self.removed is not None:
            self.removed = self.removed[chosen_rows]
