"""Which tokens stay: masks, their counts, and the gather that turns them into smaller tensors."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from plphp_core.pruning.validation import require

if TYPE_CHECKING:
    from plphp_core.pruning.method import Method
    from plphp_core.pruning.stream import Stream


Count = int | tuple[int, ...]  # of a sample, or of each of its KV heads
Counts = tuple[Count, ...]


@dataclass(frozen=True, eq=False)
class Written:
    """New hidden states for some of the tokens that stay: what was merged into them.

    Attributes:
        slots: bool, `(batch, tokens)`, the tokens that get them, all among those that stay, of images unless the method
            may evict text.
        features: `(slots that are True, hidden size)`, by sample, then by place.
        weights: `(slots that are True, tokens)`, which of its sample's tokens each is made of, and how much of them. By
            these are merged, too, the features that a decoder adds behind its first layers (DeepStack); None: a slot
            gets its own.
    """

    slots: Tensor
    features: Tensor
    weights: Tensor | None = None


@dataclass(frozen=True)
class Selection:
    """Tokens that stay.

    Attributes:
        mask: bool, `(batch, kv_heads, tokens)` for `compress`, `(batch, tokens)` for `withdraw`. Text and padding are
            True (padding goes later, by itself).
        counts: True entries per sample, where every head of a sample keeps equally many and the kept part is a
            rectangle; per sample and KV head (`compress` only) where heads keep different numbers. Plain integers,
            because a count becomes a shape and reading it back from the device would wait for it.
        written: in `withdraw`, new hidden states for some of the tokens that stay; None: each keeps its own.
    """

    mask: Tensor
    counts: Counts
    written: Written | None = None


def head_counts(counts: Counts, heads: int) -> tuple[tuple[int, ...], ...]:
    """`counts` per sample and KV head."""
    return tuple((count,) * heads if isinstance(count, int) else count for count in counts)


def sample_counts(counts: Counts) -> tuple[int, ...]:
    """`counts` per sample, where all heads of a sample keep equally many."""
    return tuple(count if isinstance(count, int) else count[0] for count in counts)


def is_ragged(counts: Counts) -> bool:
    """Whether heads of one sample keep different numbers."""
    return any(not isinstance(count, int) and len(set(count)) > 1 for count in counts)


def top_per_image(
    scores: Tensor, image_of: Tensor, vision_counts: tuple[int, ...], budget: list[list[int]]
) -> Selection:
    """Keep, per head and image, the `budget` tokens with the highest score, and all text.

    Ties go to the earlier token. One stable sort, no loop over images and no device synchronisation. What depends on
    `image_of` alone is computed once, so that the tensor must not be changed afterwards.

    Args:
        scores: `(batch, heads, tokens)`, fp32.
        image_of: `(batch, tokens)`, index of the token's image in its sample, −1 for text and padding.
        vision_counts: tokens with `image_of ≥ 0`, per sample.
        budget: tokens to keep of each image, per sample; lists may differ in length.
    """
    _, heads, tokens = scores.shape
    most = max((len(row) for row in budget), default=0)
    # Column 0 stands for text, which is always kept.
    limit = torch.tensor([[tokens, *row, *[0] * (most - len(row))] for row in budget])
    limit = limit.to(scores.device, non_blocking=True)

    # Sorted by group, then by score from high to low, then by position.
    high, group, rank = _groups(image_of)
    order = (high[:, None] - _ordinal(scores)).argsort(dim=-1, stable=True)
    keep_sorted = rank < limit.gather(-1, group)
    mask = torch.zeros_like(scores, dtype=torch.bool).scatter_(-1, order, keep_sorted[:, None].expand(-1, heads, -1))
    return Selection(mask, tuple(tokens - n + sum(row) for n, row in zip(vision_counts, budget, strict=True)))


def _groups(image_of: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What of a sort by group, text first and then image after image, is the same in every layer. Computed once, and
    kept as an attribute of the tensor.

    Returns:
        Each `(batch, tokens)` long: the high half of every token's key; of the sorted tokens the group, and how many of
        the same group come before.
    """
    found: tuple[Tensor, Tensor, Tensor] | None = getattr(image_of, "_groups", None)
    if found is None:
        group, _ = (image_of + 1).sort(dim=-1)
        rank = torch.arange(group.shape[-1], device=group.device) - torch.searchsorted(group, group)
        found = ((image_of + 1) << 32, group, rank)
        setattr(image_of, "_groups", found)  # noqa: B010, since a tensor has no such field
    return found


def _ordinal(scores: Tensor) -> Tensor:
    """int32 numbers in the order of fp32 `scores`: the bits of a float, read as an integer, grow with it."""
    bits = (scores.float() + 0.0).view(torch.int32)  # + 0.0, since −0 is no less than 0
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)  # of a negative number they grow the other way


def top_tokens(scores: Tensor, candidates: Tensor, numbers: Sequence[int], budget: Counts) -> Selection:
    """Keep, per head, the `budget` candidates with the highest score, and all tokens that are none.

    Ties go to the earlier token.

    Args:
        scores: `(batch, heads, tokens)`, fp32.
        candidates: bool, `(batch, tokens)`, the tokens that compete: the vision tokens, or all but a window.
        numbers: how many candidates there are, per sample.
        budget: candidates to keep, per sample, or per sample and head.
    """
    _, heads, tokens = scores.shape
    scores = scores.float().masked_fill(~candidates[:, None], float("inf"))
    order = scores.argsort(dim=-1, descending=True, stable=True)
    others = [tokens - number for number in numbers]  # they come first
    counts = tuple(
        other + kept if isinstance(kept, int) else tuple(other + head for head in kept)
        for other, kept in zip(others, budget, strict=True)
    )
    limit = torch.tensor(head_counts(counts, heads)).to(scores.device, non_blocking=True)
    first = torch.arange(tokens, device=scores.device) < limit[..., None]
    return Selection(torch.zeros_like(first).scatter_(-1, order, first), counts)


def head_budgets(scores: Tensor, candidates: Tensor, keep: Sequence[int], floor: float) -> tuple[tuple[int, ...], ...]:
    """How a layer's budget is split over its heads by the competition of AdaKV (arXiv 2407.11550).

    Each head's best ⌊floor · keep⌋ candidates stay; the rest of heads · keep goes to the best scores of all heads. Of
    equal ones, that with the better place in its head comes first, then the earlier head. Reads the device.

    Args:
        scores: `(batch, heads, tokens)`, fp32.
        candidates: bool, `(batch, tokens)`.
        keep: candidates to keep per head, a mean over heads, per sample.
        floor: share of its budget that a head keeps in any case, in [0, 1].

    Returns:
        Per sample and head; adds up to heads · keep.
    """
    _, heads, tokens = scores.shape
    scores = scores.float().masked_fill(~candidates[:, None], float("-inf"))
    values, _ = scores.sort(-1, descending=True)
    own = torch.tensor([math.floor(floor * number + 1e-9) for number in keep], device=scores.device)
    safe = torch.arange(tokens, device=scores.device) < own[:, None]
    # Token by token, head by head: a head's own come first, then by score.
    order = values.masked_fill(safe[:, None], float("inf")).mT.flatten(1).argsort(dim=-1, descending=True, stable=True)
    best = (
        torch.arange(heads * tokens, device=scores.device) < heads * torch.tensor(keep, device=scores.device)[:, None]
    )
    counts = torch.zeros(len(scores), heads, dtype=torch.long, device=scores.device)
    counts.scatter_add_(1, order % heads, best.long())
    return tuple(map(tuple, counts.tolist()))


def gather_index(mask: Tensor, counts: tuple[int, ...]) -> tuple[Tensor, Tensor | None]:
    """Positions of the True entries, in order, right-aligned in a rectangle.

    A sample that keeps fewer tokens than the longest one is filled up *in front* with tokens that are not kept, as left
    padding would be; the caller masks them.

    Args:
        mask: bool, `(batch, …, tokens)`; `counts[b]` True entries along the last axis.

    Returns:
        index: long, `(batch, …, max(counts))`.
        filler: bool, `(batch, max(counts))`, True in the slots that only fill up; None if there are none.
    """
    width = max(counts)
    index = mask.to(torch.int8).argsort(dim=-1, stable=True)[..., mask.shape[-1] - width :]
    if min(counts) == width:
        return index, None
    missing = torch.tensor([width - count for count in counts]).to(mask.device, non_blocking=True)
    return index, torch.arange(width, device=mask.device) < missing[:, None]


def slot_rows(mask: Tensor, counts: Counts) -> tuple[Tensor, Tensor | None]:
    """Rows of the True entries of `mask` `(batch, kv_heads, tokens)` in a tensor of its first three dimensions, flat.

    Head after head, sample after sample, each in the order of its tokens. Where all heads of a sample keep equally many
    but samples differ, the shorter samples are filled up as in `gather_index`: the rows of a rectangle.

    Returns:
        rows: long, one-dimensional.
        filler: as in `gather_index`.
    """
    ragged = is_ragged(counts)
    if ragged or (mask.device.type == "cpu" and len(set(counts)) == 1):  # other devices wait for the number of entries
        return mask.flatten().nonzero()[:, 0], None
    batch, heads, tokens = mask.shape
    index, filler = gather_index(mask, sample_counts(counts))
    first = torch.arange(0, batch * heads * tokens, tokens, device=mask.device).view(batch, heads, 1)
    return (first + index).flatten(), filler


class SelectionCheck:
    """Refuses selections that would be carried out wrongly: another shape, counts that lie, text left out.

    What a tensor holds is looked at on the spot on a CPU; on other devices it is summed up there and read once, in
    `verify`, after the last layer, since a look waits for the device.

    Args:
        method: whose selections they are; named in errors.
    """

    def __init__(self, method: Method | None):
        self.method = method
        self._open: list[tuple[tuple[int, bool], Counts, Tensor, Tensor]] = []  # where, counts, tokens kept, and lost

    def __call__(
        self, selection: Selection | None, stream: Stream, kv_heads: int, layer: int, withdraws: bool = False
    ) -> Selection | None:
        """The selection itself.

        Args:
            stream: the tokens that it selects among.

        Raises:
            TypeError, ValueError: it cannot be carried out; the message names method, layer, sample and numbers.
        """
        if selection is None or self.method is None:
            return None
        where = (layer, withdraws)
        if not isinstance(selection, Selection) or not isinstance(selection.mask, Tensor):
            raise TypeError(f"{self._place(*where)}: got {type(selection).__name__}, but a Selection or None is needed")
        batch, tokens = stream.image_of.shape
        shape = (batch, tokens) if withdraws else (batch, kv_heads, tokens)
        mask, counts = selection.mask, selection.counts
        if tuple(mask.shape) != shape or mask.dtype != torch.bool or mask.device != stream.image_of.device:
            right = f"{shape} bool on {stream.image_of.device}"
            found = f"{tuple(mask.shape)} {mask.dtype} on {mask.device}"
            raise ValueError(f"{self._place(*where)}: mask is {found}, but must be {right}")
        if not _countable(counts, batch, 0 if withdraws else kv_heads, tokens):
            heads = "" if withdraws else f", or {kv_heads} of them each"
            allowed = f"{batch} plain integers from 0 to {tokens}{heads}"
            raise ValueError(f"{self._place(*where)}: counts = {counts!r}, but must be {allowed}")
        mask = mask.view(batch, -1, tokens)
        # Padding and filler, which are no image's either, go by themselves, and counts include them.
        needed = ~stream.valid if self.method.evicts_text else stream.image_of < 0
        if withdraws:
            needed[:, -1] = True  # the token that answers
        lost = needed[:, None] & ~mask
        self._open.append((where, counts, mask.sum(-1), lost.sum(-1)))
        if selection.written is not None:
            self._check_written(selection.written, mask, needed | ~stream.valid, self._place(*where), withdraws)
        if mask.device.type == "cpu":
            self.verify()
        return selection

    def _check_written(self, written: Written, kept: Tensor, fixed: Tensor, place: str, withdraws: bool) -> None:
        """Raise ValueError unless new hidden states fit tokens that stay. Looks at the device: merging is rare.

        Args:
            kept: bool, `(batch, 1, tokens)`.
            fixed: bool, `(batch, tokens)`, tokens that no method may change.
        """
        slots, features, weights = written.slots, written.features, written.weights
        require(withdraws, f"{place}: written features, but only tokens of the residual stream have any")
        for part, value in (("slots", slots), ("features", features)):
            found = type(value).__name__
            require(isinstance(value, Tensor), f"{place}: written.{part} is a {found}, but a tensor is needed")
        fits = slots.shape == fixed.shape and slots.dtype == torch.bool and slots.device == fixed.device
        right = f"{tuple(fixed.shape)} bool on {fixed.device}"
        require(fits, f"{place}: written.slots is {tuple(slots.shape)} {slots.dtype} on {slots.device}, not {right}")
        number, tokens = int(slots.sum()), slots.shape[1]
        require(
            features.ndim == 2 and len(features) == number,
            f"{place}: written.features is {tuple(features.shape)}, but {number} slots are written",
        )
        require(
            weights is None or tuple(weights.shape) == (number, tokens),
            f"{place}: written.weights is {weights is not None and tuple(weights.shape)}, not {(number, tokens)}",
        )
        wrong = int((slots & (fixed | ~kept[:, 0])).sum())
        require(wrong == 0, f"{place}: {wrong} of {number} written slots are text or padding, or do not stay")

    def verify(self) -> None:
        """Raise ValueError if a selection since the last call was not what its method says of it."""
        pending, self._open = self._open, []
        if not pending:
            return
        device = pending[0][2].device
        numbers = iter(torch.cat([part.flatten().to(device) for _, _, *parts in pending for part in parts]).tolist())
        for where, counts, found, _ in pending:
            heads = found.shape[1]
            told = list(itertools.chain(*head_counts(counts, heads)))
            kept, lost = (list(itertools.islice(numbers, len(told))) for _ in range(2))
            if kept == told and not any(lost):
                continue
            at = next(at for at, of_head in enumerate(kept) if of_head != told[at] or lost[at])
            place = f"{self._place(*where)}, sample {at // heads}" + (f", head {at % heads}" if heads > 1 else "")
            require(kept[at] == told[at], f"{place}: the mask keeps {kept[at]} tokens, but counts say {told[at]}")
            raise ValueError(
                f"{place}: the mask leaves out {lost[at]} tokens that must stay: text (unless the method sets "
                "evicts_text), padding, which goes by itself, and in withdraw the last token"
            )

    def _place(self, layer: int, withdraws: bool) -> str:
        verb = "compress in" if not withdraws else "withdraw before" if layer else "encode before"
        return f"{self.method!r}, {verb} layer {layer}"


def _countable(counts: Counts, batch: int, heads: int, tokens: int) -> bool:
    """Whether these are counts of `batch` samples: plain integers, or `heads` of them each."""
    if not isinstance(counts, tuple) or len(counts) != batch:
        return False
    per_head = [count for count in counts if isinstance(count, tuple)]
    numbers = [n for count in counts for n in (count if isinstance(count, tuple) else (count,))]
    fits = not per_head or (heads > 0 and all(len(count) == heads for count in per_head))
    return fits and all(type(n) is int and 0 <= n <= tokens for n in numbers)
