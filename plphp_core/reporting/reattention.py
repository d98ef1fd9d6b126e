"""Which layers look at the images again: the rule behind the marks of Figure 1 and claim C14."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.signal import find_peaks

from plphp_core.reporting.bootstrap import Estimate, difference

RISE = 0.05  # of all attention; what γ must win back
DEEP = 1 / 3  # of the layers come before those that can be re-attention peaks
RULE = (
    "Re-attention peak: a layer l, beyond the first third of the layers, whose mean γ is a local maximum of prominence "
    f"at least {RISE:g}, after a fall and a rise: there are earlier layers s < t < l with γ_s ≥ γ_t + {RISE:g} and "
    f"γ_l ≥ γ_t + {RISE:g}, and the 95 % interval of γ_l − γ_t, paired by sample, lies above 0"
)


@dataclass(frozen=True, eq=False)
class Peak:
    """A local maximum of γ at `layer` (0-based): γ fell by `fall` from some earlier layer to `valley`, then rose."""

    layer: int
    valley: int
    fall: float
    rise: Estimate


def peaks(gamma: Sequence[Estimate]) -> list[Peak]:
    """The re-attention peaks of one model, by RULE.

    Args:
        gamma: of every layer, with replicates of the same resamples, as `readings.layer_means` gives them.
    """
    found = local_maxima(gamma)
    return [one for one in found if one.fall >= RISE and one.rise.value >= RISE and one.rise.low > 0]


def local_maxima(gamma: Sequence[Estimate]) -> list[Peak]:
    """Every prominent maximum beyond the first third, with the earlier valley that is deepest on both of its sides."""
    means = np.array([one.value for one in gamma])
    tops, _ = find_peaks(np.concatenate([[0], means, [0]]), prominence=RISE)
    found = []
    for layer in (int(top) - 1 for top in tops):
        if layer < max(2, DEEP * len(means)):
            continue
        falls = [means[:valley].max() - means[valley] for valley in range(1, layer)]
        rises = means[layer] - means[1:layer]
        valley = 1 + int(np.argmax(np.minimum(falls, rises)))
        found.append(Peak(layer, valley, float(falls[valley - 1]), difference(gamma[layer], gamma[valley])))
    return found
