"""The memory preset: how many samples decode together in a given memory, pruned and not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from plphp_core.bench.bench_settings import BenchCase, BenchSettings
from plphp_core.bench.bench_tables import BenchColumn, BenchResult, bench_table, decimals, share, times
from plphp_core.bench.decoder_shapes import DecoderShape
from plphp_core.bench.memory_estimate import decode_bytes
from plphp_core.bench.random_model import RandomModel

DEVICE_ROOM = 1e9  # CUDA context, kernels' workspaces and the graph's own pool
CAPACITY_COLUMNS = (
    BenchColumn("model", "model"),
    BenchColumn("method", "method"),
    BenchColumn("params", "parameters"),
    BenchColumn("prompt_tokens"),
    BenchColumn("vision_tokens", "vision"),
    BenchColumn("retention", "kept", share),
    BenchColumn("weights_gb", "weights GB", decimals(1)),
    BenchColumn("kv_mb_per_sample", "KV MB per sample", decimals(1)),
    BenchColumn("largest_batch", "largest batch"),
    BenchColumn("times_none", "of none", times),
)


def capacity_benchmark(bench: BenchSettings, say: Callable[[str], None] = print) -> BenchResult:
    """One row per model, length and method, computed from weights, KV bytes and room."""
    budget = (bench.memory_gb or 80) * 1e9
    rows = []
    for case in dict.fromkeys(replace(case, backend="fast", batch=1) for case in bench.cases):
        rows.append(_row(RandomModel(case.model, bench), case, budget))
        say("{model} {method} {params} vision {vision_tokens}: {largest_batch}".format(**rows[-1]))
    plain = {(row["model"], row["vision_tokens"]): row["largest_batch"] for row in rows if row["method"] == "none"}
    for row in rows:
        none = plain.get((row["model"], row["vision_tokens"]))
        row["times_none"] = row["largest_batch"] / none if none else None
    note = (
        f"{budget / 1e9:g} GB hold the weights, 1 GB of room, and per sample its keys and values, {bench.new_tokens} "
        "slots for new tokens, its logits, and the largest layer once more while it is copied into slots. Prompts are "
        f"prefilled one after the other. Computed for {bench.dtype}."
    )
    table = bench_table("Largest batches", CAPACITY_COLUMNS, rows)
    return BenchResult("The largest batch that fits", "computed", rows, CAPACITY_COLUMNS, (note,), [table])


def largest_batch(shape: DecoderShape, of_sample: Sequence[int], new_tokens: int, itemsize: int, budget: float) -> int:
    """Samples that decode together on a device of `budget` bytes, every one with `new_tokens` slots to spare.

    Args:
        of_sample: tokens that one sample keeps, per layer.
    """
    each = decode_bytes(shape, [([[tokens + new_tokens] for tokens in of_sample], "fast")], itemsize)
    return max(0, int((budget - shape.parameters * itemsize - DEVICE_ROOM) // each))


def _row(one: RandomModel, case: BenchCase, budget: float) -> dict:
    bench, shape, row = one.bench, one.shape, one.row(case)
    itemsize = bench.torch_dtype.itemsize
    of_sample = [layer[0] for layer in one.lengths(case.method, 1, case.vision_tokens)]
    batch = largest_batch(shape, of_sample, bench.new_tokens, itemsize, budget)
    return row | {
        "retention": (sum(of_sample) / shape.layers - bench.text_tokens) / row["vision_tokens"],
        "weights_gb": one.weight_bytes / 1e9,
        "kv_mb_per_sample": sum(of_sample) * shape.slot_elements * itemsize / 1e6,
        "largest_batch": batch,
    }
