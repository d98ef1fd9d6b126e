"""Sentences on costs: what each is, and what comparing times rests on."""

from __future__ import annotations

import math
from collections.abc import Sequence

from plphp_core.analysis.bootstrap import DECODE, EVALUATION, FEWEST, KV, PREFILL
from plphp_core.analysis.results import Results
from plphp_core.reporting.cost_columns import APART

QUANTITIES = {
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


def times(parts: Sequence[Results], profile: str) -> list[str]:
    """Engine, batch size, intervals of times, and rows that are not compared."""
    places = [(part, at, cell) for part in parts for at, cell in part.cells.items()]
    options = parts[0].options
    engines = ", ".join(sorted({cell.engine for *_, cell in places}))
    sizes = sorted({cell.batch_size for *_, cell in places if cell.batch_size is not None})
    batch = ", ".join(map(str, sizes)) or "unrecorded"
    alone = sizes == [1]
    found = [
        f"Times: engine {engines}, batch size {batch}. {options.confidence:.0%} intervals by resampling "
        f"{'samples' if alone else 'whole batches, as the samples of one share its time'} (percentile bootstrap, "
        f"{options.resamples:,} resamples, seed {options.seed}); changes are paired. Rows are measured one after "
        "the other: whatever else the machine did meanwhile is in their differences, not in the intervals."
    ]
    if any(math.isnan(part.value(*at, DECODE).low) for part, at, cell in places if cell.n):
        found[0] += f" n/a: fewer than {FEWEST} {'samples' if alone else 'batches'} are too few for an interval."
    if profile == "toy":
        found.append(
            "Times of the toy are those of a small model on the machine named above: they rest on overhead and on "
            "what else the machine was doing, not on the bytes that pruning saves. They show that times are measured, "
            "and nothing about real models."
        )
    apart = dict.fromkeys(f"{part.label(at[0])}: {why}" for part, at, _ in places if (why := part.apart(*at)))
    if apart:
        found.append(f"{APART} Times that are not compared with Uncompressed: {'; '.join(apart)}.")
    return found
