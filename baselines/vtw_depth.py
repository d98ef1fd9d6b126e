"""Where VTW may withdraw: the first layer after which vision no longer matters to the next token.

The rule of VTW (arXiv 2405.05803): on a few samples, the first K whose mean KL(P_vtw ‖ P_full) of the last token's
distribution is at most η; they use 20 samples, η = 0.003 for 7B and 0.0005 for 13B models.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from baselines.vtw import VTW
from plphp_core.pruning.hooks import prune
from plphp_core.pruning.validation import require

FIRST_K = 5


@torch.no_grad()
def divergences(model: nn.Module, samples: Iterable[dict[str, Any]], first: int = FIRST_K) -> dict[int, float]:
    """Mean KL(P_vtw ‖ P_full) in nats of the last token's distribution, for each K from `first` to the last layer.

    Args:
        model: a model of a known family.
        samples: model inputs of one prompt each, on the model's device.

    Raises:
        ValueError: no sample, or `first` beyond the model's layers.
    """
    with prune(model, None) as trace:
        sums: dict[int, float] = {}
        count = 0
        for inputs in samples:
            full = _last(model, inputs)
            layers = len(trace.layers)
            require(1 <= first < layers, f"first = {first}, but the model has {layers} layers (1 ≤ first < {layers})")
            for K in range(first, layers):
                with prune(model, VTW(K)):
                    withdrawn = _last(model, inputs)
                divergence = (withdrawn.exp() * (withdrawn - full)).sum(-1).mean()
                sums[K] = sums.get(K, 0.0) + float(divergence)
            count += 1
    require(count > 0, "no samples to compare on")
    return {K: total / count for K, total in sums.items()}


def choose_k(divergence: dict[int, float], eta: float) -> int | None:
    """The first K with divergence ≤ `eta`; None if there is none."""
    return next((K for K in sorted(divergence) if divergence[K] <= eta), None)


def _last(model: nn.Module, inputs: dict[str, Any]) -> Tensor:
    """Log-probabilities of the token after the prompt, `(batch, vocabulary)`, fp32."""
    return model(**inputs, use_cache=True, logits_to_keep=1).logits[:, -1].float().log_softmax(-1)
