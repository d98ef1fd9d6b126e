"""PyramidKV: SnapKV with more of the budget in shallow layers (arXiv 2406.02069)."""

from dataclasses import dataclass
from typing import ClassVar

from baselines.budgeted import compressed_layers, of_cache, rounded
from baselines.snapkv import SnapKV
from plphp_core.pruning.validation import whole_number
from plphp_core.pruning.view import LayerView


@dataclass(frozen=True)
class PyramidKV(SnapKV):
    """As SnapKV, but what a layer keeps falls linearly with its depth.

    https://arxiv.org/abs/2406.02069, semantics of github.com/Zefan-Cai/KVCache-Factory at c97f9d7 in the scope of the
    prompt: integer division, so that the sum is a little over budget, and a uniform budget for prompts shorter than
    twice of it. In the scope of vision, and under `kv_share` or `kv_tokens`, remainders are spread, so that the layers
    together keep exactly the budget.

    Args:
        beta: the deepest layer keeps 1/β of the mean, ≥ 1; 1 is SnapKV.

    Raises:
        ValueError: as `SnapKV`; or β below 1.
    """

    name: ClassVar[str] = "pyramidkv"

    beta: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        whole_number("PyramidKV", "beta", self.beta, 1)

    def capacities(self, layer: int, view: LayerView) -> list[int]:
        compressed = compressed_layers(self, view.num_layers)
        place, layers = compressed.index(layer), len(compressed)
        means, totals = super().capacities(layer, view), self.totals(view)
        windows = self.windows(view, means)
        if self.scope == "vision" or of_cache(self):
            return [
                window + spread(total - layers * window, size - window, self.beta, layers)[place]
                for total, size, window in zip(totals, self.sizes(view), windows, strict=True)
            ]
        return [
            mean if mean >= size else window + stepped(mean - window, size, window, self.beta, layers, place)
            for mean, size, window in zip(means, self.sizes(view), windows, strict=True)
        ]


def stepped(mean: int, size: int, window: int, beta: int, layers: int, place: int) -> int:
    """The official capacity of a layer beside its window, in a prompt of `size` tokens."""
    if layers == 1 or size < 2 * mean:
        return mean
    most = size - window
    low = mean // beta
    high = 2 * mean - low
    if high >= most:
        low, high = 2 * mean - most, most
    return high - place * ((high - low) // (layers - 1))


def spread(total: int, most: int, beta: int, layers: int) -> list[int]:
    """Whole numbers on a falling line, at most `most`, that add up to `total`."""
    mean = total / layers
    low = mean / beta
    high = min(2 * mean - low, most)
    low = 2 * mean - high
    line = [high - (high - low) * place / max(layers - 1, 1) if layers > 1 else mean for place in range(layers)]
    return rounded(line, total)
