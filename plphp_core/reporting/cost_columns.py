"""The columns of costs, benchmark by benchmark: KV cache, times, their change against Uncompressed; and what to say of
them: what each is, and what comparing times rests on."""

from __future__ import annotations

import math
from collections.abc import Sequence

from plphp_core.analysis.bootstrap import DECODE, EVALUATION, FEWEST, KV, PREFILL, TIMES, Estimate
from plphp_core.analysis.results import Results
from plphp_core.reporting.table_model import NA, TableColumn
from plphp_core.reporting.table_spec import NumberColumn, signed_percent

APART = "‡"  # beside times that are not compared
NAMES = {"kv_cache": KV, "decode": DECODE, "prefill": PREFILL, "evaluation": EVALUATION}  # as a table's file has them
# quantity → what it is called, its unit, and its name among the paper's published numbers
HEADINGS = {
    KV: ("KV cache", "", "kv_cache_size"),
    DECODE: ("Decode", "ms/token", "decode_latency"),
    PREFILL: ("Prefill", "ms", "prefill_latency"),
    EVALUATION: ("Evaluation", "s", "evaluation_time"),
}

SENTENCES = {
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


def kv_unit(results: Results, benchmark: str) -> tuple[str, int]:
    """Name and bytes of the unit that fits the table's caches."""
    largest = max((results.value(index, benchmark, KV).value for index in results.on(benchmark)), default=0.0)
    return ("KiB", 2**10) if largest < 2**20 else ("MiB", 2**20) if largest < 2**30 else ("GiB", 2**30)


def costs(results: Results, quantity: str) -> list[NumberColumn]:
    """A column per benchmark. KV cache: mean over samples; decode, prefill: medians; evaluation: the sum over the
    answered samples."""
    name, unit, published = HEADINGS[quantity]

    def column(benchmark: str) -> NumberColumn:
        shown, scale = (unit, 1) if quantity != KV else kv_unit(results, benchmark)

        def estimate(index: int) -> Estimate:
            total = quantity == EVALUATION
            return results.seconds(index, benchmark) if total else results.value(index, benchmark, quantity)

        return NumberColumn(
            _heading(results, benchmark, name, shown),
            estimate,
            scale=1 / scale,
            mark=lambda index: APART * (quantity in TIMES and bool(results.apart(index, benchmark))),
            published=((benchmark, published), (NA, published)),  # the paper may not say on which benchmark
        )

    return [column(benchmark) for benchmark in results.asked()]


def cost_changes(results: Results, quantity: str) -> list[NumberColumn]:
    """Changes against Uncompressed, a column per benchmark; "reference" in its own row."""

    def column(benchmark: str) -> NumberColumn:
        return NumberColumn(
            _heading(results, benchmark, HEADINGS[quantity][0], "change"),
            lambda index: results.change(index, benchmark, quantity),
            signed_percent,
            instead=lambda at: "reference" if at == results.reference and at in results.on(benchmark) else None,
        )

    return [column(benchmark) for benchmark in results.asked()]


def _heading(results: Results, benchmark: str, name: str, unit: str) -> TableColumn:
    """Of a single benchmark, which the title names, the cost is the heading that columns share."""
    alone = len(results.benchmarks) == 1
    return TableColumn(unit, name) if alone else TableColumn(f"{name} {unit}", benchmark)


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
