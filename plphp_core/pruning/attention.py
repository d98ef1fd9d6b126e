"""Attention of the last prompt tokens, exact, in fp32, never S×S.

The model's own output keeps coming from SDPA or FlashAttention; these rows are computed beside it from the same keys.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from plphp_core.pruning.hf import rotary_function

CHUNK_ROWS = 128  # rows of attention held at once: (batch, query_heads, CHUNK_ROWS, tokens) fp32


def rotate(attention: nn.Module, projected: Tensor, cos: Tensor, sin: Tensor, norm: str = "q_norm") -> Tensor:
    """Queries as projected, `(batch, rows, heads · head_dim)` → rotated, `(batch, heads, rows, head_dim)`.

    Keys too, with `norm="k_norm"`: decoders such as Qwen3 normalise each head before rotating it.
    """
    batch, rows, _ = projected.shape
    states = projected.view(batch, rows, -1, attention.head_dim)
    if hasattr(attention, norm):
        states = getattr(attention, norm)(states)
    states = states.transpose(1, 2)
    rotated, _ = rotary_function(attention)(states, states[:, :0], cos, sin)  # one side alone
    return rotated


def coming_last_row(block: nn.Module, hidden: Tensor, tables: tuple[Tensor, Tensor], valid: Tensor | None) -> Tensor:
    """The last row as a decoder layer's own norm and projections will give it, before the layer runs.

    Args:
        block: the decoder layer.
        hidden: `(batch, tokens, hidden)`, what enters it.
        tables: cos and sin for these tokens.
        valid: as in `last_row`.
    """
    attention, normed = block.self_attn, block.input_layernorm(hidden)
    last = [table[..., -1:, :] for table in tables]
    query = rotate(attention, attention.q_proj(normed[:, -1:]), *last)
    keys = rotate(attention, attention.k_proj(normed), *tables, norm="k_norm")
    return last_row(query, keys, valid, attention.scaling)


def attention_rows(query: Tensor, keys: Tensor, visible: Tensor | None, scaling: float) -> Tensor:
    """Softmax attention of some query rows.

    Grouped-query attention without repeating keys: query head h reads KV head h // (query_heads / kv_heads).

    Args:
        query: `(batch, query_heads, rows, head_dim)`, rotated.
        keys: `(batch, kv_heads, tokens, head_dim)`, rotated.
        visible: bool, broadcastable to `(batch, 1, 1, rows, tokens)`; None: everything.

    Returns:
        `(batch, query_heads, rows, tokens)`, fp32, each row summing to 1.
    """
    batch, query_heads, rows, dim = query.shape
    kv_heads, tokens = keys.shape[1:3]
    # fp32 before the product: scores rounded to bf16 tie by the dozen and would be ranked by position.
    # Scaled before it too: a row of `dim` numbers instead of one of `tokens`. `bmm`: `@` takes half as long again.
    grouped = (query.float() * scaling).reshape(batch * kv_heads, -1, dim)
    scores = torch.bmm(grouped, keys.float().flatten(0, 1).mT).view(batch, kv_heads, -1, rows, tokens)
    if visible is not None:
        scores.masked_fill_(~visible, float("-inf"))
    return scores.softmax(-1).view(batch, query_heads, rows, tokens)


def last_row(query: Tensor, keys: Tensor, valid: Tensor | None, scaling: float) -> Tensor:
    """A_S: attention of the last prompt token, `(batch, query_heads, tokens)`, fp32.

    Args:
        query: `(batch, query_heads, 1, head_dim)`, rotated.
        keys: `(batch, kv_heads, tokens, head_dim)`, rotated.
        valid: bool, `(batch, tokens)`, False for padding, which gets no softmax mass; None: there is none.
    """
    visible = None if valid is None else valid[:, None, None, None]
    return attention_rows(query, keys, visible, scaling)[:, :, 0]


def column_sum(
    query: Tensor, keys: Tensor, valid: Tensor, counted: Tensor, scaling: float, blocks: Tensor | None = None
) -> Tensor:
    """Sum over query rows of the attention, `(batch, query_heads, tokens)`, fp32.

    Args:
        query: `(batch, query_heads, rows, head_dim)`, rotated: the last `rows` tokens' own.
        keys: `(batch, kv_heads, tokens, head_dim)`, rotated.
        valid: bool, `(batch, tokens)`, False for padding.
        counted: bool, `(batch, rows)`, the rows that are added up.
        blocks: long, `(batch, tokens)`: tokens with the same number see each other in both directions; −1 for those
            that see what is before them, as all do where it is None.
    """
    total = torch.zeros(query.shape[0], query.shape[1], keys.shape[2], device=keys.device)
    for rows, _, weight, _ in causal_rows(query, keys, valid, counted, scaling, blocks):
        total += torch.einsum("bhrn,br->bhn", rows, weight)
    return total


def row_density(
    query: Tensor, keys: Tensor, valid: Tensor, counted: Tensor, scaling: float, p: float, blocks: Tensor | None = None
) -> Tensor:
    """Share of visible entries that are at least `p` times their row's largest, `(batch, query_heads)`, fp32.

    The rest is what VL-Cache (arXiv 2410.23317) calls sparsity. Arguments as in `column_sum`.
    """
    dense = torch.zeros(query.shape[:2], device=keys.device)
    entries = torch.zeros(len(query), 1, device=keys.device)
    for rows, visible, weight, _ in causal_rows(query, keys, valid, counted, scaling, blocks):
        large = (rows >= p * rows.amax(-1, keepdim=True)) & visible[:, None]
        dense += torch.einsum("bhr,br->bh", large.sum(-1).float(), weight)
        entries += (visible.sum(-1) * weight).sum(-1, keepdim=True)
    return dense / entries


def causal_rows(
    query: Tensor, keys: Tensor, valid: Tensor, counted: Tensor, scaling: float, blocks: Tensor | None = None
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Some rows at a time. Arguments as in `column_sum`.

    Yields:
        attention `(batch, query_heads, r, tokens)`, what the rows see `(batch, r, tokens)`, which of them count as
        1 or 0 `(batch, r)`, and which tokens' they are `(r,)`.
    """
    tokens, held = keys.shape[2], query.shape[2]
    positions, keys = torch.arange(tokens, device=keys.device), keys.float()
    for start in range(0, held, CHUNK_ROWS):
        rows = positions[tokens - held + start :][:CHUNK_ROWS]
        visible = positions <= rows[:, None]
        if blocks is not None:
            block = blocks[:, rows, None]
            visible = visible | ((block == blocks[:, None]) & (block >= 0))
        visible = visible & valid[:, None]
        # A padding row sees nothing; let it see itself so that its softmax is finite; its weight is 0.
        visible = visible | (positions == rows[:, None])[None]
        chunk = slice(start, start + CHUNK_ROWS)
        found = attention_rows(query[:, :, chunk], keys, visible[:, None, None], scaling)
        yield found, visible, counted[:, chunk].float(), rows


def group_mean(rows: Tensor, kv_heads: int) -> Tensor:
    """`(batch, query_heads, tokens)` → `(batch, kv_heads, tokens)`: the mean over the query heads of a KV head."""
    return rows.unflatten(1, (kv_heads, -1)).mean(2)


def vision_mass(row: Tensor, vision: Tensor) -> Tensor:
    """γ (equation 8): the row's mass on all vision tokens, averaged over query heads.

    Args:
        row: `(batch, heads, tokens)`, fp32; of query heads, or means over groups of them, which have the same mean.
        vision: bool, `(batch, tokens)`.

    Returns:
        `(batch,)`, fp32.
    """
    return (row * vision[:, None]).sum(-1).mean(-1)
