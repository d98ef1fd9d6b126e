"""Memory: what is free, what cases will need, and the most that was in use."""

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


class Peak:
    """Most memory in use since `reset()`: allocated by torch on CUDA, resident in the process on Linux."""

    def __init__(self, device: str):
        self.cuda = device.startswith("cuda")
        self.known = True

    def reset(self) -> None:
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
            return
        try:
            Path("/proc/self/clear_refs").write_text("5")
        except OSError:  # then the peak would be that of everything before
            self.known = False

    @property
    def nbytes(self) -> int | None:
        """Bytes; None where the system does not say."""
        if self.cuda:
            return torch.cuda.max_memory_allocated()
        return _resident("VmHWM") if self.known else None

    @property
    def in_use(self) -> int | None:
        """Bytes in use now; None where the system does not say."""
        return torch.cuda.memory_allocated() if self.cuda else _resident("VmRSS")


def _resident(name: str) -> int | None:
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None
