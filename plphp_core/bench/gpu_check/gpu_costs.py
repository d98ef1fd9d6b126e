"""What does it cost? Memory as the allocator counts it, decoding beside its floor, prefill with and without scoring."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch

from plphp_core import prune
from plphp_core.bench.bench_settings import BenchCase
from plphp_core.bench.gpu_check.gpu_evidence import Check
from plphp_core.bench.gpu_check.gpu_setting import Setting, label
from plphp_core.bench.speed_benchmark import decoding_rows, empty_row, prefill_columns
from plphp_core.bench.speed_ups import relate
from plphp_core.decoding.device import free_memory, synchronise
from plphp_core.decoding.fast_generate import prefill
from plphp_core.pruning.method import method_names

MORE = 1.02  # times its keys and values: a pruned layer also holds its tokens' positions, 4 bytes per slot and head
BLOCK = 512  # bytes that the CUDA allocator rounds up to
GROUP_SECONDS = 12  # less is not worth building caches for
LEFT_FOR_PREFILL = 25  # seconds that decoding does not take


@torch.inference_mode()
def memory(setting: Setting) -> Iterator[dict | Check]:
    """What a prefill leaves behind, and that it is given back."""
    inputs = setting.inputs(1, setting.sizes.vision[0])
    for method in setting.methods():
        free_memory()
        before = _allocated(setting)
        if setting.cuda:
            torch.cuda.reset_peak_memory_stats()
        with prune(setting.model, method, record_attention=False) as trace:
            _, cache, _ = prefill(setting.model, inputs)
        reported, full = sum(trace.kv_bytes), sum(trace.kv_bytes_full)
        del trace
        free_memory()
        tensors = [tensor for layer in cache.layers for tensor in (layer.keys, layer.values)]
        held = sum(tensor.untyped_storage().nbytes() for tensor in tensors)
        grown = _allocated(setting) - before if setting.cuda else None
        peak = torch.cuda.max_memory_allocated() - before if setting.cuda else None
        blocks = 2 * BLOCK * len(tensors)
        del cache, tensors
        free_memory()
        left = _allocated(setting) - before if setting.cuda else None
        yield {
            "method": label(method),
            "full": full,
            "reported": reported,
            "held": held,
            "allocated": grown,
            "peak": peak,
            "left": left,
        }
        says = f"trace.kv_bytes {reported}, storage {held}, of {full} unpruned"
        yield Check(f"trace.kv_bytes is what is held, {label(method)}", held == reported, says)
        yield Check(
            f"smaller only where something is pruned, {label(method)}", (held < full) == (method is not None), says
        )
        if setting.cuda:
            fits = reported <= grown <= MORE * reported + blocks
            yield Check(f"the allocator counts as much, {label(method)}", fits, f"allocated {grown}, {says}")
            yield Check(f"nothing is left behind, {label(method)}", left <= blocks, f"{left} bytes")


def _allocated(setting: Setting) -> int:
    synchronise(setting.device)
    return torch.cuda.memory_allocated() if setting.cuda else 0


def decoding(setting: Setting) -> Iterator[dict | Check]:
    """The regimes, pruned and not, length by length and batch by batch."""
    setting.model  # noqa: B018  (first: it may not fit)
    groups = [(vision, batch) for vision in setting.sizes.vision for batch in setting.sizes.batch]
    for number, (vision, batch) in enumerate(groups):
        cases = setting.cases(vision, batch)
        seconds = (setting.left - LEFT_FOR_PREFILL) / (len(groups) - number)
        if setting.cuda and seconds < GROUP_SECONDS:
            yield from ({**empty_row(case), "status": "no time left"} for case in cases)
            continue
        # Half for building, warming up and the round that is already running.
        setting.source.bench = replace(setting.bench, group_seconds=min(setting.bench.group_seconds, seconds / 2))
        measured = decoding_rows(setting.source, cases, setting.source.bench, setting.machine, lambda _: None)
        rows = [row for row, _ in measured]
        relate(rows, [one for _, one in measured], 1)
        yield from rows
        fast = next((row for row in rows if (row["regime"], row["method"]) == ("fast", "none")), None)
        if batch == 1 and fast and fast["ms_per_token"]:
            setting.token_ms[vision] = fast["ms_per_token"]
        if setting.cuda:  # a CPU's caches may hold what the floor takes from memory
            quickest = max((row["rho_nominal"] or row["rho_measured"] or 0.0 for row in rows), default=0.0)
            found = f"the best has ρ = {quickest:.2f}"
            yield Check(
                f"no token is faster than its floor, {vision} vision tokens, batch {batch}", quickest <= 1, found
            )


def prefills(setting: Setting) -> Iterator[dict | Check]:
    """Prefills of one prompt, by methods that score, withdraw, or do neither."""
    setting.model  # noqa: B018  (first: it may not fit)
    depth = setting.sizes.depth
    params = {"plphp": {"r": 0.4, "delta_r": 0.3}, "fastv": {"K": depth["fastv"], "R": 0.5}, "vtw": {"K": depth["vtw"]}}
    known = [name for name in ("none", *params) if name in method_names()]
    for vision in setting.sizes.vision:
        cases = [
            BenchCase(setting.shape.name, "fast", name, tuple(sorted(params.get(name, {}).items())), 1, vision)
            for name in known
        ]
        columns = prefill_columns(setting.source, cases, setting.bench, lambda _: None)
        for case in cases:
            row = empty_row(case) | columns.get((case.method, case.params), {"status": "oom"})
            token = setting.token_ms.get(vision)
            if token and row["added_prefill_ms"] is not None:
                row["added_decode_tokens"] = row["added_prefill_ms"] / token
            yield row
