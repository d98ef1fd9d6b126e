"""SparseVLM: the question's own words judge vision tokens, and what leaves is recycled (arXiv 2410.04417)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from baselines.budgeted import last_tokens
from plphp_core.pruning.method import Method
from plphp_core.pruning.renumbering import POSITIONS
from plphp_core.pruning.selection import Selection, Written, top_tokens
from plphp_core.pruning.validation import choice, enters, falling, numbers, require, stages
from plphp_core.pruning.view import EntryView, QueryRows

# Vision tokens that stay of LLaVA-1.5's 576, by version and by the average that papers name a setting after; what
# recycling adds comes on top.
IMAGE = 576
LISTS = {
    "1.5": {192: (300, 200, 110), 128: (303, 110, 36), 96: (238, 48, 26), 64: (66, 30, 17)},
    "2": {192: (300, 200, 118), 128: (238, 108, 60), 96: (246, 54, 28), 64: (66, 34, 20)},
}
HEADS = 14 / 32  # share of the query heads that judge, in version 2
LEAST = 0.01  # of the largest weight of a distance: the correction divides by no less


@dataclass(frozen=True)
class SparseVLM(Method):
    """In stages, the vision tokens stay that the raters attend to: the words of the prompt that are nearest to vision.

    https://arxiv.org/abs/2410.04417; semantics of github.com/Gumpest/SparseVLMs at 734d900 (1.5) and 26a5f48 (2).
    Raters are the tokens behind the last image whose share of the vision tokens' attention, softmax over text of the
    products of embeddings, is above the mean; all of them where none is. A token's score is the mean over raters and
    heads of the attention in the layer before. The vision tokens of all images of a sample compete as one.

    Args:
        version: `"1.5"` recycles; `"2"` divides attention by the weight that rotary positions give to a distance, and
            asks only the 14 of 32 heads with the most of it on vision.
        budget: 192, 128, 96 or 64: the official lists for 576 tokens, in proportion for other numbers of tokens.
        token_list: tokens that stay at each stage instead, "300+200+110", never rising.
        layer_list: layers that are the first to see fewer tokens, as many as the list has stages.
        recycle: whether 30 % of what leaves is merged into a tenth as many clusters, which stay, each in the place of
            its centre; None: as the version does.
        raters: `"relevant"`, or the `"last"` token alone.
        positions: as in `PyramidDrop`; None, as in runs: `"compact"` in version 1.5, `"keep"` in version 2.

    Raises:
        ValueError: a parameter outside of what is allowed; layers that the model does not have.
    """

    name: ClassVar[str] = "sparsevlm"
    reads_embeddings: ClassVar[bool] = True
    query_rows: ClassVar[QueryRows] = "post_vision"

    version: Literal["1.5", "2"] = "1.5"
    budget: int = 192
    token_list: Sequence[int] | str | None = None
    layer_list: Sequence[int] | str = (3, 7, 16)
    recycle: bool | None = None
    raters: Literal["relevant", "last"] = "relevant"
    positions: Literal["keep", "compact"] | None = "keep"

    def __post_init__(self) -> None:
        object.__setattr__(self, "version", str(self.version))
        choice("SparseVLM", "version", self.version, tuple(LISTS))
        budgets = tuple(LISTS[self.version])
        require(self.budget in budgets, f"SparseVLM: budget = {self.budget!r}, but must be one of {budgets}")
        choice("SparseVLM", "raters", self.raters, ("relevant", "last"))
        choice("SparseVLM", "recycle", self.recycle, (None, True, False))
        choice("SparseVLM", "positions", self.positions, (None, *POSITIONS))
        object.__setattr__(self, "layer_list", numbers("SparseVLM", "layer_list", self.layer_list, int))
        if self.token_list is not None:
            found = numbers("SparseVLM", "token_list", self.token_list, int)
            require(min(found) >= 0, f"SparseVLM: token_list = {found}, but must not be negative")
            falling("SparseVLM", "token_list", found)
            object.__setattr__(self, "token_list", found)
        kept: Any = self.token_list or LISTS[self.version][self.budget]
        stages("SparseVLM", "layer_list", self.layer_list, "the list of tokens", kept)

    @property
    def recycles(self) -> bool:
        return self.version == "1.5" if self.recycle is None else bool(self.recycle)

    @property
    def renumbers(self) -> bool:
        return self.version == "1.5" if self.positions is None else self.positions == "compact"

    def check(self, num_layers: int) -> None:
        for layer in self.layer_list:
            enters("SparseVLM", "layer_list", int(layer), num_layers)

    def withdraw(self, layer: int, entry: EntryView) -> Selection | None:
        if layer not in self.layer_list:
            return None
        keep = self.keep(tuple(self.layer_list).index(layer), entry)
        if keep == entry.vision_counts:
            return None
        scores = self.scores(entry)
        kept = top_tokens(scores[:, None], entry.vision, entry.vision_counts, keep)
        mask, counts = kept.mask[:, 0], kept.counts
        return self.recycled(entry, scores, mask, keep) if self.recycles else Selection(mask, counts)

    def keep(self, stage: int, entry: EntryView) -> tuple[int, ...]:
        """Tokens that stay of those that are there, per sample."""
        if self.token_list is not None:
            wanted = [int(self.token_list[stage])] * len(entry.vision_counts)
        else:
            part = LISTS[self.version][self.budget][stage]
            wanted = [sum(sizes) * part // IMAGE for sizes in entry.image_sizes]
        return tuple(map(min, wanted, entry.vision_counts))

    def scores(self, entry: EntryView) -> Tensor:
        """`(batch, tokens)`, fp32: the higher, the rather kept."""
        raters = last_only(entry) if self.raters == "last" else relevant(entry)
        total = torch.zeros(entry.query.shape[0], entry.query.shape[1], entry.vision.shape[1], device=raters.device)
        for rows, counted, places in entry.rows(raters):
            if self.version == "2":
                rows = rows / weights_of_distance(entry, places)[:, None]
            total += torch.einsum("bhrn,br->bhn", rows, counted)
        total = total / raters.sum(-1)[:, None, None].clamp(min=1)
        if self.version == "2":
            mass = (total * entry.vision[:, None]).sum(-1)
            order = mass.argsort(dim=-1, descending=True, stable=True)[:, : max(round(HEADS * mass.shape[1]), 1)]
            total = total.gather(1, order[..., None].expand(-1, -1, total.shape[-1]))
        return total.mean(1)

    def recycled(self, entry: EntryView, scores: Tensor, mask: Tensor, keep: tuple[int, ...]) -> Selection:
        """What `mask` keeps, and the clusters of the best that it does not."""
        slots, features, weights, more = torch.zeros_like(mask), [], [], []
        for sample, (count, now) in enumerate(zip(keep, entry.vision_counts, strict=True)):
            more.append(0)
            if count == now:
                continue
            best = (now - count) * 3 // 10 + 1
            lost = (entry.vision[sample] & ~mask[sample]).nonzero()[:, 0]
            lost = lost[scores[sample, lost].argsort(descending=True, stable=True)[:best]].sort().values
            centres, member = clusters(entry.hidden[sample, lost].float(), best // 10 + 1)
            more[-1] = len(centres)
            order = lost[centres].argsort()  # new states are written from the first slot to the last
            share = torch.zeros(len(centres), mask.shape[1], device=mask.device)
            share[:, lost] = member[order].float() / member[order].sum(-1, keepdim=True)
            slots[sample, lost[centres]] = True
            features.append(share @ entry.hidden[sample].float())
            weights.append(share)
        counts = tuple(text + count + extra for text, count, extra in zip(self.others(entry), keep, more, strict=True))
        return Selection(mask | slots, counts, Written(slots, torch.cat(features), torch.cat(weights)))

    @staticmethod
    def others(entry: EntryView) -> list[int]:
        """Tokens that are none of vision, padding included."""
        return [entry.vision.shape[1] - n for n in entry.vision_counts]


def behind(entry: EntryView) -> Tensor:
    """`(batch, most rows)`: which of the last tokens are behind the last image."""
    return last_tokens(entry.valid, entry.post_vision)[:, -max(entry.post_vision) :]


def last_only(entry: EntryView) -> Tensor:
    """The last token as the only rater."""
    return torch.ones_like(entry.valid[:, -1:])


def relevant(entry: EntryView) -> Tensor:
    """The tokens behind the last image that vision is nearest to, as in `behind`."""
    text, vision = behind(entry), entry.prompt.image_of.to(entry.valid.device) >= 0
    states = entry.embeddings.to(text.device).float()
    share = (states @ states[:, -text.shape[1] :].mT).masked_fill(~text[:, None], float("-inf")).softmax(-1)
    share = (share * vision[..., None]).sum(1) / vision.sum(-1, keepdim=True).clamp(min=1)
    above = (share > share.sum(-1, keepdim=True) / text.sum(-1, keepdim=True)) & text
    return torch.where(above.any(-1, keepdim=True), above, text)


def weights_of_distance(entry: EntryView, places: Tensor) -> Tensor:
    """How much rotary positions favour each token over others by its distance alone, `(batch, rows, tokens)`.

    The score of a query and a key that are all ones, from the layer's own tables; at least `LEAST` of the largest.
    """
    cos, sin = (table.float().expand(len(entry.valid), -1, -1) for table in entry.rotary)
    found = (cos[:, places] @ cos.mT + sin[:, places] @ sin.mT) / cos.shape[-1] ** 0.5
    return found.clamp(min=LEAST * cos.shape[-1] ** 0.5)


def clusters(states: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """Density peaks (DPC-KNN) of `states` `(n, hidden size)`; ties go to the earlier one.

    Returns:
        centres `(number,)`, best first, and which of the n belong to each, bool `(number, n)`.
    """
    distance = torch.cdist(states, states, compute_mode="donot_use_mm_for_euclid_dist") / states.shape[-1] ** 0.5
    nearest = distance.topk(number, largest=False).values  # itself included
    density = (-nearest.square().mean(-1)).exp()
    rank = density.argsort(descending=True, stable=True).argsort()
    denser = rank[None] < rank[:, None]
    apart = distance.masked_fill(~denser, float("inf")).amin(-1)
    apart = torch.where(rank == 0, distance.max(), apart)
    centres = (density * apart).argsort(descending=True, stable=True)[:number]
    own = distance[:, centres].argmin(-1)
    own[centres] = torch.arange(number, device=own.device)
    return centres, own == torch.arange(number, device=own.device)[:, None]
