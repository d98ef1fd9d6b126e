"""The columns of costs, benchmark by benchmark: KV cache, times, and their change against Uncompressed."""

from __future__ import annotations

from plphp_core.analysis.bootstrap import Estimate, scaled
from plphp_core.analysis.costs import DECODE, EVALUATION, KV, PREFILL, TIMES, Costs
from plphp_core.analysis.results import Results
from plphp_core.reporting.table_content import TableContent
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


def kv_unit(costs: Costs) -> tuple[str, int]:
    """Name and bytes of the unit that fits the table's caches."""
    largest = max((costs.value(index, KV).value for index in costs.cells()), default=0.0)
    return ("KiB", 2**10) if largest < 2**20 else ("MiB", 2**20) if largest < 2**30 else ("GiB", 2**30)


def cost_columns(content: TableContent, part: Results, quantity: str, change: bool = False) -> list[NumberColumn]:
    """A column per benchmark: a cost, or its change against Uncompressed."""
    make = _change if change else _cost
    return [make(content.costs(part, name), quantity, not content.benchmark) for name in part.asked()]


def _cost(costs: Costs, quantity: str, several: bool) -> NumberColumn:
    """KV cache: mean over samples; decode and prefill: medians; evaluation: the sum over the answered samples."""
    name, unit, published = HEADINGS[quantity]
    scale = 1.0
    if quantity == KV:
        unit, size = kv_unit(costs)
        scale = 1 / size

    def estimate(index: int) -> Estimate:
        found, cell = costs.value(index, quantity), costs.cell(index)
        return scaled(found, cell.n / 1e3) if quantity == EVALUATION and cell is not None else found

    return NumberColumn(
        _heading(costs, name, unit, several),
        estimate,
        scale=scale,
        mark=lambda index: APART * (quantity in TIMES and index in costs.apart),
        published=((costs.benchmark, published), (NA, published)),  # the paper may not say on which benchmark
    )


def _change(costs: Costs, quantity: str, several: bool) -> NumberColumn:
    """ "reference" in Uncompressed's own row."""
    return NumberColumn(
        _heading(costs, HEADINGS[quantity][0], "change", several),
        lambda index: costs.change(index, quantity),
        signed_percent,
        instead=lambda index: "reference" * (index == costs.results.reference and costs.cell(index) is not None),
    )


def _heading(costs: Costs, name: str, unit: str, several: bool) -> TableColumn:
    """Of a single benchmark, which the title names, the cost is the heading that columns share."""
    return TableColumn(f"{name} {unit}", costs.benchmark) if several else TableColumn(unit, name)
