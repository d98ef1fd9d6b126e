"""Attention to vision as frames: γ per layer, and how it divides among five groups of an image's tokens.

A model's results are one per benchmark, with `doc_ids` (n,), `vision_attention` (γ; n, layers), `groups` (cut → n,
layers, 6) and `group_tokens` (cut → n, 6). Means are over benchmarks of means over samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from plphp_core.analysis.bootstrap import Estimate, Resamples, with_interval
from plphp_core.config.report_choices import RESAMPLES
from plphp_core.vision.spatial_groups import LABELS

if TYPE_CHECKING:
    from plphp_core.records.attention_result import AttentionResult

BAND = (0.1, 0.9)  # quantiles of γ over all samples
NO_PLACE = "no place"  # tokens that end a row of tiles, and tokens on padding


def layer_means(
    parts: Sequence[AttentionResult], values: Sequence[np.ndarray] | None = None, seed: int = 0
) -> list[Estimate]:
    """The mean over benchmarks of the mean over samples, layer by layer, with 95 % intervals.

    All layers share their resamples of the samples, so that differences between layers are paired.

    Args:
        parts: results of one model.
        values: `(n, layers)` of each; None: γ.
    """
    values = [one.vision_attention for one in parts] if values is None else values
    replicates = []
    for one, own in zip(parts, values, strict=True):
        resamples = Resamples(one.doc_ids, one.benchmark, RESAMPLES, seed)
        replicates.append(resamples.means(one.doc_ids, own) if one.n > 1 else np.full((own.shape[1], 1), np.nan))
    if any(part.shape[1] == 1 for part in replicates):
        replicates = [part[:, :1] * np.nan for part in replicates]
    drawn = np.mean(replicates, axis=0)
    means = np.mean([own.mean(axis=0) for own in values], axis=0)
    return [with_interval(float(mean), some) for mean, some in zip(means, drawn, strict=True)]


def gamma_frame(models: Mapping[str, Sequence[AttentionResult]], seed: int = 0) -> pd.DataFrame:
    """One line per model, benchmark ("all": their mean) and layer, counted from 0.

    Columns: model, benchmark, layer, n, gamma with low and high, and the quantiles BAND of the samples, q10 and q90.
    """
    lines = []
    for model, parts in models.items():
        for name, some in [*((part.benchmark, [part]) for part in parts), ("all", parts)]:
            band = np.quantile(np.concatenate([part.vision_attention for part in some]), BAND, axis=0).T
            n = sum(part.n for part in some)
            for layer, (one, quantiles) in enumerate(zip(layer_means(some, seed=seed), band, strict=True)):
                lines.append((model, name, layer, n, one.value, one.low, one.high, *quantiles))
    columns = ["model", "benchmark", "layer", "n", "gamma", "low", "high", "q10", "q90"]
    return pd.DataFrame(lines, columns=columns)


def group_frame(models: Mapping[str, Sequence[AttentionResult]], cut: str) -> pd.DataFrame:
    """One line per model, group of tokens (the five of the cut, then NO_PLACE) and layer, counted from 0.

    Columns: model, cut, group, layer, share of γ with low and high, token_share of the vision tokens, n. Fractions.
    """
    lines = []
    for model, parts in models.items():
        tokens = np.mean([part.group_tokens[cut].mean(axis=0) for part in parts], axis=0)
        n = sum(part.n for part in parts)
        for at, group in enumerate((*LABELS[cut], NO_PLACE)):
            means = layer_means(parts, [part.groups[cut][:, :, at] for part in parts])
            for layer, one in enumerate(means):
                lines.append((model, cut, group, layer, one.value, one.low, one.high, tokens[at], n))
    columns = ["model", "cut", "group", "layer", "share", "low", "high", "token_share", "n"]
    return pd.DataFrame(lines, columns=columns)
