"""Which layers look at the images again: the rule behind the marks of Figure 1 and claim C14."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.signal import find_peaks

from plphp_core.analysis.bootstrap import Estimate, with_interval

RISE = 0.05  # of all attention; what γ must lose and win back
DEEP = 1 / 3  # of the layers come before those that can be re-attention peaks
FEWEST = 30  # samples of a benchmark, below which an interval is too narrow to mark anything
RULE = (
    "Re-attention peak: a layer l, beyond the first third of the layers, whose mean γ is a local maximum of prominence "
    f"at least {RISE:g}, after a fall and a rise: the rebound, min(γ_s − γ_t, γ_l − γ_t) for earlier layers s < t < l,"
    f" is above {RISE:g} with its whole 95 % interval, paired by sample; none is marked if a benchmark has fewer than "
    f"{FEWEST} samples"
)


@dataclass(frozen=True, eq=False)
class AttentionPeak:
    """A local maximum of γ at `layer` (0-based), and how much of the fall to `valley` it wins back."""

    layer: int
    valley: int
    rebound: Estimate


def peaks(gamma: Sequence[Estimate], samples: Sequence[int]) -> list[AttentionPeak]:
    """The re-attention peaks of one model, by RULE.

    Args:
        gamma: of every layer, with replicates of the same resamples, as `attention_frame.layer_means` gives them.
        samples: of each benchmark.
    """
    if not samples or min(samples) < FEWEST:
        return []
    means = np.array([one.value for one in gamma])
    tops, _ = find_peaks(np.concatenate([[0], means, [0]]), prominence=RISE)
    deep = [int(top) - 1 for top in tops if int(top) - 1 >= max(2, DEEP * len(means))]
    found = [rebound(gamma, layer) for layer in deep]
    return [one for one in found if one.rebound.low > RISE]


def rebound(gamma: Sequence[Estimate], layer: int) -> AttentionPeak:
    """The earlier valley from which `layer` (≥ 2) wins back most; s and t are chosen on the means and kept."""
    means = np.array([one.value for one in gamma])
    falls = [means[:valley].max() - means[valley] for valley in range(1, layer)]
    valley = 1 + int(np.argmax(np.minimum(falls, means[layer] - means[1:layer])))
    before = int(np.argmax(means[:valley]))
    low, sides = gamma[valley], (gamma[before], gamma[layer])
    value = float(min(side.value - low.value for side in sides))
    return AttentionPeak(
        layer, valley, with_interval(value, np.minimum(*(side.replicates - low.replicates for side in sides)))
    )
