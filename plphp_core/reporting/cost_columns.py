"""The columns of costs, benchmark by benchmark: KV cache, times, and their change against Uncompressed."""

from __future__ import annotations

from plphp_core.analysis.bootstrap import DECODE, EVALUATION, KV, PREFILL, TIMES, Estimate
from plphp_core.analysis.results import Results
from plphp_core.reporting.table_model import NA, TableColumn
from plphp_core.reporting.table_spec import NumberColumn, signed_percent

APART = "‡"  # beside times that are not compared
# quantity → what it is called, its unit, and its name among the paper's published numbers
HEADINGS = {
    KV: ("KV cache", "", "kv_cache_size"),
    DECODE: ("Decode", "ms/token", "decode_latency"),
    PREFILL: ("Prefill", "ms", "prefill_latency"),
    EVALUATION: ("Evaluation", "s", "evaluation_time"),
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
            instead=lambda index: "reference" * (index == results.reference and index in results.on(benchmark)),
        )

    return [column(benchmark) for benchmark in results.asked()]


def _heading(results: Results, benchmark: str, name: str, unit: str) -> TableColumn:
    """Of a single benchmark, which the title names, the cost is the heading that columns share."""
    alone = len(results.benchmarks) == 1
    return TableColumn(unit, name) if alone else TableColumn(f"{name} {unit}", benchmark)
