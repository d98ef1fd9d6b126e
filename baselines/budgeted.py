"""What methods share that keep the best-scored tokens of a layer within a budget."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch
from torch import Tensor

from plphp_core.pruning.method import Method
from plphp_core.pruning.plphp import is_pruned
from plphp_core.pruning.selection import Count, Selection, top_tokens
from plphp_core.pruning.validation import choice, require, whole_number
from plphp_core.pruning.view import LayerView


@dataclass(frozen=True)
class Budgeted(Method):
    """Per KV head, the tokens with the highest `scores` stay, as many as `capacities` says.

    Args:
        budget: kept fraction, in (0, 1]: of the vision tokens, or of the whole prompt, as `scope` says.
        tokens: kept tokens per layer and head instead, as papers count; what the window holds is among them.
        scope: `"vision"`: text is always kept and only vision tokens compete; `"prompt"`, as in most official codes:
            text competes too, except for the last `window` tokens.
        whole_layers: `"none"`: every layer is compressed, as in official codes; `"plphp"`: not the first two and the
            last, which PLPHP leaves whole.
        kv_share: instead of `budget`, share of the prompt's KV cache that is held, text and whole layers included, in
            (0, 1]: of n tokens ⌊kv_share · n⌋ per layer and head, in the mean over layers. All methods that have this
            parameter hold equally many bytes of a sample, exactly.
        kv_tokens: the same as a count: so many tokens per layer and head, in the mean over layers, or the whole prompt
            where it is no longer.

    Raises:
        ValueError: a parameter outside of what is allowed; in a prefill, a budget that its window does not fit in, or
            a share of the cache that text and whole layers alone exceed.
    """

    budget: float = 0.4
    tokens: int | None = None
    scope: Literal["vision", "prompt"] = "vision"
    whole_layers: Literal["none", "plphp"] = "none"
    kv_share: float | None = field(default=None, kw_only=True)
    kv_tokens: int | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        name = type(self).__name__
        positive_share(name, "budget", self.budget)
        check_of_cache(self)
        whole_number(name, "tokens", self.tokens, 1, optional=True)
        choice(name, "scope", self.scope, ("vision", "prompt"))
        choice(name, "whole_layers", self.whole_layers, ("none", "plphp"))

    @property
    def evicts_text(self) -> bool:
        return self.scope == "prompt"

    def window(self, capacity: int) -> int:
        """Tokens at the end of the prompt that stay whatever their score, of `capacity` in all; `"prompt"` only."""
        return 0

    def scores(self, view: LayerView) -> Tensor:
        """`(batch, kv_heads, tokens)`, fp32: the higher, the rather kept."""
        raise NotImplementedError

    def compress(self, layer: int, view: LayerView) -> Selection | None:
        if not self.prunes(layer, view.num_layers):
            return None
        capacities = self.capacities(layer, view)
        if all(capacity >= size for capacity, size in zip(capacities, self.sizes(view), strict=True)):
            return None
        return self.choose(view, self.scores(view), capacities)

    def prunes(self, layer: int, num_layers: int) -> bool:
        """Whether a layer is compressed at all."""
        return self.whole_layers == "none" or is_pruned(layer, num_layers)

    def sizes(self, view: LayerView) -> tuple[int, ...]:
        """Tokens that the budget is a part of, per sample."""
        return view.vision_counts if self.scope == "vision" else view.lengths

    def capacities(self, layer: int, view: LayerView) -> list[int]:
        """Tokens that each head keeps of them in a layer, per sample."""
        layers = compressed_layers(self, view.num_layers)
        return [dealt(total, layers.index(layer), len(layers)) for total in self.totals(view)]

    def totals(self, view: LayerView) -> list[int]:
        """The same in all compressed layers together; everything of a sample without images."""
        layers = len(compressed_layers(self, view.num_layers))
        if not of_cache(self):
            sizes = zip(self.sizes(view), view.vision_counts, strict=True)
            return [layers * (self.share(size) if vision else size) for size, vision in sizes]
        return share_of_cache(self, view, (0,) * len(view.lengths) if self.evicts_text else None)

    def share(self, size: int) -> int:
        """The budget's part of `size` tokens, at most all. Floor, as PLPHP; 1e-9: 0.7 · 10 may be 6.999… in binary."""
        kept = math.floor(self.budget * size + 1e-9) if self.tokens is None else self.tokens
        return min(size, max(kept, 1) if self.scope == "prompt" else kept)

    def choose(self, view: LayerView, scores: Tensor, capacities: list[int]) -> Selection:
        """The best `capacities` tokens of each head, a window among them; samples that fit are left whole."""
        windows = self.windows(view, capacities)
        among = self.candidates(view, windows)
        numbers = [size - window for size, window in zip(self.sizes(view), windows, strict=True)]
        keep = [capacity - window for capacity, window in zip(capacities, windows, strict=True)]
        return top_tokens(scores, among, numbers, self.head_budgets(scores, among, keep))

    def head_budgets(self, scores: Tensor, candidates: Tensor, keep: list[int]) -> tuple[Count, ...]:
        """How many candidates each head keeps, `keep` on average, per sample."""
        return tuple(keep)

    def windows(self, view: LayerView, capacities: list[int]) -> list[int]:
        """Tokens of the window, per sample; none in the scope of vision and in samples that fit.

        Raises:
            ValueError: a window does not fit in its sample's budget.
        """
        found = []
        for capacity, size in zip(capacities, self.sizes(view), strict=True):
            window = 0 if self.scope == "vision" or capacity >= size else self.window(capacity)
            require(
                window <= capacity,
                f"{self!r}: its window of {window} tokens does not fit in the {capacity} of {size} that a head may "
                "keep: take a larger budget or a smaller window",
            )
            found.append(window)
        return found

    def candidates(self, view: LayerView, windows: list[int]) -> Tensor:
        """`(batch, tokens)` bool: tokens that compete."""
        if self.scope == "vision":
            return view.vision
        return view.valid & ~last_tokens(view.valid, windows)


class CompressesLayers(Protocol):
    """What compresses some layers, or all, perhaps to a part of the prompt's KV cache."""

    @property
    def kv_share(self) -> float | None: ...

    @property
    def kv_tokens(self) -> int | None: ...

    def prunes(self, layer: int, num_layers: int) -> bool: ...


def positive_share(owner: str, name: str, value: object, optional: bool = False) -> None:
    """Raise ValueError unless `value` is a number in (0, 1], or None where it is `optional`."""
    fits = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= 1
    words = "None or a number" if optional else "a number"
    require(fits or (optional and value is None), f"{owner}: {name} = {value!r}, but must be {words} in (0, 1]")


def of_cache(method: CompressesLayers) -> bool:
    """Whether its budget is a part of the prompt's KV cache."""
    return method.kv_share is not None or method.kv_tokens is not None


def check_of_cache(method: CompressesLayers) -> None:
    """Raise ValueError for a part of the cache that is none, or is given twice."""
    name, part, tokens = type(method).__name__, method.kv_share, method.kv_tokens
    positive_share(name, "kv_share", part, optional=True)
    whole_number(name, "kv_tokens", tokens, 1, optional=True)
    both = part is not None and tokens is not None
    require(not both, f"{name}: kv_share = {part!r} and kv_tokens = {tokens!r} say the same; leave out one of them")


def compressed_layers(method: CompressesLayers, num_layers: int) -> list[int]:
    """The layers that a method compresses at all."""
    return [layer for layer in range(num_layers) if method.prunes(layer, num_layers)]


def dealt(total: int, place: int, layers: int) -> int:
    """What one of `layers` gets of `total`, in equal parts; of what does not divide the first ones get one more."""
    return (total + layers - 1 - place) // layers


def rounded(wanted: list[float], total: int) -> list[int]:
    """Whole numbers near these that add up to `total`, or to their floors' sum: largest remainders."""
    floors = [int(value + 1e-9) for value in wanted]
    missing = max(total - sum(floors), 0)
    for place in sorted(range(len(floors)), key=lambda n: (floors[n] - wanted[n], n))[:missing]:
        floors[place] += 1
    return floors


def share_of_cache(method: CompressesLayers, view: LayerView, texts: Sequence[int] | None = None) -> list[int]:
    """Tokens that a head keeps in all compressed layers together beside text, so that the cache holds its part.

    Args:
        texts: tokens that every layer holds in any case, per sample; None: all text.

    Returns:
        per sample; all of one without images.

    Raises:
        ValueError: text and the layers that are left whole exceed the share.
    """
    layers = len(compressed_layers(method, view.num_layers))
    whole = view.num_layers - layers
    found = []
    for length, text, vision in zip(view.lengths, texts or view.text_counts, view.vision_counts, strict=True):
        held = whole * length + layers * text
        if method.kv_share is not None:
            mean, asked = math.floor(method.kv_share * length + 1e-9), f"kv_share = {method.kv_share:g}"
        else:
            mean = min(method.kv_tokens or length, length)
            asked = f"kv_tokens = {method.kv_tokens}, {mean / length:.1%}"
        total = view.num_layers * mean - held
        what = f"text, {text} of {length} prompt tokens," * bool(text) + " and " * bool(text and whole)
        what += f"{whole} of {view.num_layers} layers left whole" * bool(whole)
        require(
            not vision or total >= (0 if text else layers),
            f"{what or 'one token'} alone is {held / view.num_layers / length:.1%} of the KV cache, more than {asked}",
        )
        found.append(total if vision else layers * (length - text))
    return found


def part_of(share: float, capacity: int) -> int:
    """A window that is a share of the budget, at least one token."""
    return max(math.floor(share * capacity + 1e-9), 1)


def last_tokens(valid: Tensor, numbers: Sequence[int]) -> Tensor:
    """Of tokens `(batch, tokens)` the last, so many per sample, as bool. Prompts are padded on the left."""
    ago = torch.arange(valid.shape[1], 0, -1, device=valid.device)
    return ago <= torch.tensor(numbers, device=valid.device)[:, None]


def mean_of_all_heads(view: LayerView) -> Tensor:
    """The last row's mean over all query heads, the same for every KV head, `(batch, kv_heads, tokens)`."""
    return view.last_row.mean(1, keepdim=True).expand(-1, view.kv_heads, -1)


def pool(scores: Tensor, segments: Tensor, kernel: int, how: str) -> Tensor:
    """Each score replaced by the mean or maximum over `kernel` neighbours, itself in the middle.

    Args:
        scores: `(batch, heads, tokens)`.
        segments: `(batch, tokens)` long; only tokens of the same segment are neighbours.
        how: `"avg"`: what is missing at or within a segment counts as 0, as official codes do; or `"max"`.
    """
    if kernel == 1:
        return scores
    side = kernel // 2
    near = torch.nn.functional.pad(scores, (side, side)).unfold(-1, kernel, 1)
    same = torch.nn.functional.pad(segments, (side, side), value=-2).unfold(-1, kernel, 1) == segments[..., None]
    if how == "avg":
        return near.masked_fill(~same[:, None], 0).sum(-1) / kernel
    return near.masked_fill(~same[:, None], float("-inf")).amax(-1)
