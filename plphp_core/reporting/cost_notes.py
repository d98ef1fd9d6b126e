"""Sentences on costs: what each is, and what comparing times rests on."""

from __future__ import annotations

import math
from collections.abc import Sequence

from plphp_core.analysis.costs import DECODE, EVALUATION, FEWEST, KV, PREFILL, RETENTION, Costs
from plphp_core.reporting.cost_columns import APART

QUANTITIES = {
    RETENTION: "Vision kept (the paper's RR): share of the vision tokens in the cache, mean over layers and samples.",
    KV: (
        "KV cache: bytes that the prompt's keys and values occupy after the prefill, all layers, mean over samples; "
        "new tokens come on top."
    ),
    DECODE: (
        "Decode ms/token: time of the decode steps divided by their number and by the samples of the batch, median "
        "over samples; the prefill and the first token are not in it."
    ),
    PREFILL: "Prefill: vision encoder, scoring and pruning included, median over samples.",
    EVALUATION: (
        "Evaluation time: sum over the answered samples of prefill (vision encoder, scoring and pruning included) "
        "and decode, each batch's time shared equally among its samples. Not in it: loading, image processing, "
        "metrics, and whatever passed between the runs of a resumed evaluation."
    ),
}


def times(every: Sequence[Costs], profile: str) -> list[str]:
    """Engine, batch size, intervals of times, and rows that are not compared."""
    cells = [cell for costs in every for cell in costs.cells().values()]
    options = every[0].results.options
    engines = ", ".join(sorted({cell.engine for cell in cells}))
    sizes = sorted({cell.batch_size for cell in cells if cell.batch_size is not None})
    batch = ", ".join(map(str, sizes)) or "unrecorded"
    alone = sizes == [1]
    found = [
        f"Times: engine {engines}, batch size {batch}. {options.confidence:.0%} intervals by resampling "
        f"{'samples' if alone else 'whole batches, as the samples of one share its time'} (percentile bootstrap, "
        f"{options.resamples:,} resamples, seed {options.seed}); changes are paired. Rows are measured one after "
        "the other: whatever else the machine did meanwhile is in their differences, not in the intervals."
    ]
    if any(math.isnan(costs.value(at, DECODE).low) for costs in every for at, cell in costs.cells().items() if cell.n):
        found[0] += f" n/a: fewer than {FEWEST} {'samples' if alone else 'batches'} are too few for an interval."
    if profile == "toy":
        found.append(
            "Times of the toy are those of a small model on the machine named above: they rest on overhead and on "
            "what else the machine was doing, not on the bytes that pruning saves. They show that times are measured, "
            "and nothing about real models."
        )
    apart = [f"{costs.results.label(at)}: {why}" for costs in every for at, why in costs.apart.items()]
    if apart:
        found.append(f"{APART} Times that are not compared with Uncompressed: {'; '.join(dict.fromkeys(apart))}.")
    return found
