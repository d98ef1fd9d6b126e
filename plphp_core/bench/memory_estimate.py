"""Memory: what is free, and what cases will need."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from plphp_core.bench.decoder_shapes import DecoderShape

SLACK = 256 * 2**20  # activations, workspaces, fragmentation


def available_bytes(device: str, limit: float | None = None) -> float:
    """Bytes that can still be allocated on `device`; at most `limit` of them altogether on it, if given."""
    if device.startswith("cuda"):
        free, total = torch.cuda.mem_get_info()
        allocated = torch.cuda.memory_allocated()
        free += torch.cuda.memory_reserved() - allocated
        return min(free, (limit or total) - allocated)
    # Not psutil: scripts/gpu_check.py runs without it.
    fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    free = int(fields["MemAvailable"].split()[0]) * 1024
    return free if limit is None else min(free, limit)


def decode_bytes(shape: DecoderShape, cases: Sequence[tuple[Sequence[Sequence[int]], str]], itemsize: int) -> int:
    """Bytes beside the weights that cases take at their peak, all caches held at once and one case at work.

    A cache as rectangles; at work, the largest layer once more while it is copied (into slots, or by `torch.cat`), in
    `legacy` also repeated for every query head, and the logits.

    Args:
        cases: of each the tokens kept, `[layer][sample]`, and its backend.
        itemsize: bytes of an element of the cache.
    """
    held, work = 0, []
    slot = shape.slot_elements * itemsize
    for lengths, backend in cases:
        batch = len(lengths[0])
        layers = [batch * max(of_layer) * slot for of_layer in lengths]
        copies = 1 + (shape.query_heads // shape.kv_heads if backend == "legacy" else 0)
        held += sum(layers)
        work.append(copies * max(layers) + batch * shape.vocabulary * (2 * itemsize + 8))
    return held + max(work)


def is_out_of_memory(error: Exception) -> bool:
    """Whether an allocation failed, on CUDA or on a CPU (which raises a plain RuntimeError)."""
    known = isinstance(error, (torch.OutOfMemoryError, MemoryError))
    return known or "can't allocate memory" in str(error) or "not enough memory" in str(error)
