"""What a method may look at: one decoder layer after its attention, and the entry of the next one."""

import functools
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from plphp_core.pruning.attention import causal_rows, column_sum, group_mean, last_row, row_density, vision_mass
from plphp_core.pruning.prompt import Prompt
from plphp_core.pruning.validation import require

# Rows of the query that a method wants, counted from the end: a number, those behind the last image, all (None), or the
# most of several wishes.
QueryRows = int | Literal["post_vision"] | None | tuple["QueryRows", ...]

# `once(what, compute)`: the tensor called `what`, computed at the first call.
Once = Callable[[Hashable, Callable[[], Tensor]], Tensor]


@dataclass(frozen=True, eq=False)
class LayerView:
    """One decoder layer after its attention, in the prefill of a prompt with images.

    `tokens` are those still in the residual stream: the whole prompt unless the method withdrew some before. What costs
    anything is computed when a method asks, once.

    Attributes:
        layer: 0-based index.
        num_layers: decoder layers of the model.
        keys, values: `(batch, kv_heads, tokens, head_dim)`, keys rotated; the cache's own tensors, never to be changed.
        image_of: `(batch, tokens)` long, index of the token's image in its sample; −1 for text and padding.
        valid: `(batch, tokens)` bool, False for padding and for filler where samples differ in length.
        image_sizes: S_j, tokens of each image, per sample, before any pruning.
        vision_counts: vision tokens still in the stream, per sample.
        text_counts: the valid tokens beside them, per sample.
        post_vision: rows behind the last image, per sample; 1, the last one, where a prompt ends in an image.
        sample_keys: what each sample is called, see `plphp_core.pruning.prompt.sample_keys`.
        mutual: whether the tokens of an image see each other in both directions, as in Gemma 3.
        scaling: of the scores, as the attention module has it.
        rotary: cos and sin of these tokens in this layer, `(batch or 1, tokens, head_dim)`.
        rotated: makes the query rows that are held, rotated, `(batch, query_heads, rows, head_dim)`; the last one is
            the last prompt token's.
        once: where computed tensors are kept.

    Query head h belongs to KV head h // (query_heads / kv_heads). `last_row` and `vision_attention` are always there;
    reading more rows than the method's `query_rows` asks for raises ValueError.
    """

    layer: int
    num_layers: int
    keys: Tensor
    values: Tensor
    image_of: Tensor
    valid: Tensor
    image_sizes: list[list[int]]
    vision_counts: tuple[int, ...]
    text_counts: tuple[int, ...]
    post_vision: tuple[int, ...]
    sample_keys: tuple[str, ...]
    mutual: bool
    scaling: float
    rotary: tuple[Tensor, Tensor]
    rotated: Callable[[], Tensor]
    once: Once

    @property
    def kv_heads(self) -> int:
        return self.keys.shape[1]

    @property
    def query(self) -> Tensor:
        """The query rows held, rotated, `(batch, query_heads, rows, head_dim)`."""
        return self.once("query", self.rotated)

    @functools.cached_property
    def last_row(self) -> Tensor:
        """A_S: attention of the last prompt token, `(batch, query_heads, tokens)`, fp32."""
        visible = None if self.unpadded else self.valid
        return self.once("last_row", lambda: last_row(self.query[:, :, -1:], self.keys, visible, self.scaling))

    @functools.cached_property
    def group_row(self) -> Tensor:
        """`last_row`, mean over the query heads of a KV head, `(batch, kv_heads, tokens)`, fp32."""
        return group_mean(self.last_row, self.kv_heads)

    @functools.cached_property
    def vision_attention(self) -> Tensor:
        """γ of this layer (equation 8), `(batch,)`, fp32."""
        return vision_mass(self.group_row, self.vision)

    def column_sum(self, rows: int | Sequence[int] | None) -> Tensor:
        """Attention that each token receives from the last `rows` query rows, `(batch, query_heads, tokens)`, fp32.

        A sum. As the model attends, exact; padding has no row and receives nothing.

        Args:
            rows: valid rows at the end, for all samples or per sample, as in `column_sum(view.post_vision)`; all of a
                sample that has fewer. None: all rows.

        Raises:
            ValueError: more rows than the method's `query_rows` asked for.
        """
        counted = self._counted(rows)
        return self.once(
            ("column_sum", self._named(rows)),
            lambda: column_sum(
                self.query[:, :, -counted.shape[1] :], self.keys, self.valid, counted, self.scaling, self._blocks
            ),
        )

    def row_counts(self, rows: int | Sequence[int] | None) -> Tensor:
        """How many rows `column_sum(rows)` adds up, `(batch,)` long: fewer than asked for in shorter samples."""
        return self._counted(rows).sum(-1)

    def mean_row(self) -> Tensor:
        """Mean over all query rows but padding of the attention, `(batch, query_heads, tokens)`, fp32."""
        return self.column_sum(None) / self.row_counts(None)[:, None, None]

    def row_density(self, rows: int | Sequence[int] | None, p: float) -> Tensor:
        """Share of entries, among those that these rows may see, of at least `p` times their row's largest.

        Args:
            rows: as in `column_sum`.

        Returns:
            `(batch, query_heads)`, fp32.
        """
        counted = self._counted(rows)
        return self.once(
            ("row_density", self._named(rows), p),
            lambda: row_density(
                self.query[:, :, -counted.shape[1] :], self.keys, self.valid, counted, self.scaling, p, self._blocks
            ),
        )

    def rows(self, chosen: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Attention of some query rows, heads apart, a few rows at a time; padding is not seen.

        Args:
            chosen: bool, `(batch, r)`, which of the last r rows are meant.

        Yields:
            attention `(batch, query_heads, few, tokens)`, fp32; 1 for rows that are meant and 0 for others, `(batch,
            few)`; whose rows they are, `(few,)` long, places among the tokens.

        Raises:
            ValueError: more rows than the method's `query_rows` asked for.
        """
        query = self.query[:, :, -self._held(chosen.shape[1]) :]
        for found, _, counted, places in causal_rows(query, self.keys, self.valid, chosen, self.scaling, self._blocks):
            yield found, counted, places

    @property
    def _blocks(self) -> Tensor | None:
        return self.image_of if self.mutual else None

    @property
    def scored(self) -> bool:
        """Whether anybody has looked at γ."""
        return "vision_attention" in vars(self)

    @functools.cached_property
    def vision(self) -> Tensor:
        """`(batch, tokens)` bool, True for the tokens of images."""
        return self.image_of >= 0

    @property
    def lengths(self) -> tuple[int, ...]:
        """Valid tokens, per sample."""
        return tuple(text + vision for text, vision in zip(self.text_counts, self.vision_counts, strict=True))

    @property
    def unpadded(self) -> bool:
        """Whether all tokens are valid."""
        return min(self.lengths) == self.valid.shape[1]

    def _counted(self, rows: int | Sequence[int] | None) -> Tensor:
        """`(batch, r)` bool: which of the last r query rows are meant, r the most that a sample asks for."""
        wanted = self._wanted(rows)
        widest = self._held(max(wanted))
        ago = torch.arange(widest, 0, -1, device=self.valid.device)  # 1 for the last row
        return (ago <= torch.tensor(wanted, device=self.valid.device)[:, None]) & self.valid[:, -widest:]

    def _held(self, rows: int) -> int:
        held = self.query.shape[2]
        require(
            rows <= held,
            f"layer {self.layer}: {rows} query rows are read, but {held} are held: say so in the method's query_rows",
        )
        return rows

    def _wanted(self, rows: int | Sequence[int] | None) -> list[int]:
        tokens = self.valid.shape[1]
        asked = [tokens if rows is None else rows] * len(self.valid) if rows is None or isinstance(rows, int) else rows
        require(
            len(asked) == len(self.valid) and min(asked) >= 1,
            f"rows = {rows!r}, but must be None, or a number from 1 on for all or each of {len(self.valid)} samples",
        )
        return [min(wish, tokens) for wish in asked]

    @staticmethod
    def _named(rows: int | Sequence[int] | None) -> Hashable:
        return rows if rows is None or isinstance(rows, int) else tuple(rows)


@dataclass(frozen=True, eq=False)
class EntryView(LayerView):
    """The entry of a decoder layer: the attention of the layer before it, `view.layer`, and what comes in.

    Attributes:
        hidden: `(batch, tokens, hidden size)`, the states that enter the layer; never to be changed.
        tokens: `(batch, tokens)` long, each token's place in the prompt; −1 for filler.
        prompt: as it was before anything was withdrawn.
        coming_row: makes `entering_row`.
        final_norm: the decoder's last norm, of states `(…, hidden size)`.
        embedded: states that entered layer 0, `(batch, prompt_length, hidden size)`; None unless the method's
            `reads_embeddings` is True.
    """

    hidden: Tensor
    tokens: Tensor
    prompt: Prompt
    coming_row: Callable[[], Tensor]
    final_norm: Callable[[Tensor], Tensor]
    embedded: Tensor | None

    def entering_row(self) -> Tensor:
        """The last row by the entered layer's own norm, projections and rotary tables, as `last_row`."""
        return self.once("entering_row", self.coming_row)

    @property
    def embeddings(self) -> Tensor:
        """The whole prompt as it entered layer 0, `(batch, prompt_length, hidden size)`.

        Raises:
            ValueError: they are not held.
        """
        if self.embedded is None:
            raise ValueError("embeddings are read, but not held: say so in the method's reads_embeddings")
        return self.embedded


def memo() -> Once:
    """Keeps tensors by what they are called."""
    kept: dict[Hashable, Tensor] = {}

    def once(what: Hashable, compute: Callable[[], Tensor]) -> Tensor:
        if what not in kept:
            kept[what] = compute()
        return kept[what]

    return once


def check_query_rows(owner: object, wish: QueryRows) -> None:
    """Raise ValueError unless `wish` says which query rows to hold."""
    for one in wish if isinstance(wish, tuple) else (wish,):
        require(
            one is None or one == "post_vision" or (type(one) is int and one >= 1),
            f"{owner!r}: query_rows = {one!r}, but must be None (all rows), 'post_vision' or a number from 1 on",
        )


def rows_to_hold(wish: QueryRows, prompt: Prompt) -> int | None:
    """The fewest query rows of a prompt that serve `wish`, counted from the end; None: all of them."""
    wishes = wish if isinstance(wish, tuple) else (wish,)
    numbers = [max(prompt.post_vision) if one == "post_vision" else one for one in wishes]
    return None if None in numbers else max(numbers)  # type: ignore[type-var, return-value]
