"""Costs: memory as the allocator counts it, decoding beside its roofline, prefill with and without scoring."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch

from plphp_core import prune
from plphp_core.bench.bench_tables import BenchColumn, decimals, megabytes
from plphp_core.bench.decode_timing import decoding_rows
from plphp_core.bench.gpu_check.gpu_evidence import GpuCheck, gpu_part
from plphp_core.bench.gpu_check.gpu_setting import GpuSetting
from plphp_core.bench.prefill_timing import add_decode_tokens, prefill_rows
from plphp_core.bench.speed_benchmark import DECODE_COLUMNS, PREFILL_COLUMNS
from plphp_core.decoding.device import PeakMemory, free_memory, synchronise
from plphp_core.decoding.fast_generate import prefill

MORE = 1.02  # times its keys and values: a pruned layer also holds its tokens' positions, 4 bytes per slot and head
BLOCK = 512  # bytes that the CUDA allocator rounds up to
GROUP_SECONDS = 12  # less is not worth building caches for
LEFT_FOR_PREFILL = 25  # seconds that decoding does not take
VISION = BenchColumn("vision_tokens", "vision", decimals(0))
MEMORY_COLUMNS = (
    BenchColumn("method", "method"),
    BenchColumn("full", "unpruned", megabytes),
    BenchColumn("reported", "reported", megabytes),
    BenchColumn("held", "storage", megabytes),
    BenchColumn("allocated", "allocated", megabytes),
    BenchColumn("peak", "peak of the prefill", megabytes),
    BenchColumn("left", "left", megabytes),
)


@gpu_part("memory", "Memory before and after pruning", least=15, limit=40, columns=MEMORY_COLUMNS)
@torch.inference_mode()
def memory(setting: GpuSetting) -> Iterator[dict | GpuCheck]:
    """What a prefill of one prompt leaves in memory: as `trace.kv_bytes` reports it, as the storage of keys and values,
    as the CUDA allocator counts it, and what is left once the cache is let go. MB.
    """
    inputs = setting.inputs(1, setting.bench.vision_tokens[0])
    for method in setting.methods():
        name = str(method or "none")
        free_memory()
        before = _allocated(setting)
        peak = PeakMemory(setting.model.device)
        with prune(setting.model, method, record_attention=False) as trace:
            _, cache, _ = prefill(setting.model, inputs)
        reported, full = sum(trace.kv_bytes), sum(trace.kv_bytes_full)
        del trace
        free_memory()
        tensors = [tensor for layer in cache.layers for tensor in (layer.keys, layer.values)]
        held = sum(tensor.untyped_storage().nbytes() for tensor in tensors)
        blocks = 2 * BLOCK * len(tensors)
        row = {"method": name, "full": full, "reported": reported, "held": held}
        if setting.cuda:
            row |= {"allocated": _allocated(setting) - before, "peak": peak.bytes()}
        del cache, tensors
        free_memory()
        if setting.cuda:
            row["left"] = _allocated(setting) - before
        yield row
        says = f"trace.kv_bytes {reported}, storage {held}, of {full} unpruned"
        yield GpuCheck(f"trace.kv_bytes is what is held, {name}", held == reported, says)
        yield GpuCheck(f"smaller only where something is pruned, {name}", (held < full) == (method is not None), says)
        if setting.cuda:
            fits = reported <= row["allocated"] <= MORE * reported + blocks
            yield GpuCheck(f"the allocator counts as much, {name}", fits, f"allocated {row['allocated']}, {says}")
            yield GpuCheck(f"nothing is left behind, {name}", row["left"] <= blocks, f"{row['left']} bytes")


def _allocated(setting: GpuSetting) -> int:
    synchronise(setting.device)
    return torch.cuda.memory_allocated() if setting.cuda else 0


@gpu_part("decoding", "Decoding beside its roofline", least=40, limit=240, columns=(VISION, *DECODE_COLUMNS))
def decoding(setting: GpuSetting) -> Iterator[dict | GpuCheck]:
    """The three backends, as in `make bench`: cases of a batch take turns, speed-up and share are of the same round.
    ρ = roofline / measured; roofline: weights, keys and values read once. See docs/performance.md.
    """
    setting.model  # noqa: B018  (first: it may not fit)
    random = setting.random
    groups = [(vision, batch) for vision in setting.bench.vision_tokens for batch in setting.bench.batch]
    for number, (vision, batch) in enumerate(groups):
        cases = [case for case in setting.bench.cases if (case.vision_tokens, case.batch) == (vision, batch)]
        seconds = (setting.left - LEFT_FOR_PREFILL) / (len(groups) - number)
        if setting.cuda and seconds < GROUP_SECONDS:
            yield from (random.row(case) | {"status": "no time left"} for case in cases)
            continue
        # Half for building, warming up and the round that is already running.
        random.bench = replace(setting.bench, group_seconds=min(setting.bench.group_seconds, seconds / 2))
        rows = decoding_rows(random, cases, setting.machine, lambda _: None)
        setting.decoded += rows
        yield from rows
        if setting.cuda:  # a CPU's caches may hold what the roofline takes from memory
            quickest = max((row.get("rho", 0.0) for row in rows), default=0.0)
            what = f"no token is faster than its roofline, {vision} vision tokens, batch {batch}"
            yield GpuCheck(what, quickest <= 1, f"the best has ρ = {quickest:.2f}")


@gpu_part("prefill", "Prefill with and without scoring", least=15, limit=60, columns=PREFILL_COLUMNS)
def prefills(setting: GpuSetting) -> Iterator[dict | GpuCheck]:
    """Prefills of one prompt take turns. Added: the method's own work within the prefill; in tokens: of an unpruned one
    in the fast backend.
    """
    setting.model  # noqa: B018  (first: it may not fit)
    for vision in setting.bench.vision_tokens:
        methods = ["none", "plphp", "fastv", "vtw"]
        cases = replace(setting.bench, methods=methods, vision_tokens=[vision]).cases
        rows = prefill_rows(setting.random, cases, lambda _: None)
        add_decode_tokens(rows, setting.decoded)
        yield from rows
