"""Will it fit? Computed from shapes, before anything is loaded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from plphp_core.preflight.case import Case
from plphp_core.preflight.check import Finding, check, failed, ok, warning
from plphp_core.preflight.device import device
from plphp_core.preflight.longest import longest_prompt
from plphp_core.preflight.model import weights
from plphp_core.preflight.units import GIB, gib

CUDA_ITSELF = 0.75 * GIB  # context, kernels, cuBLAS workspaces
SLACK = 1.1  # of what is allocated and freed again: allocators round up and leave gaps
METEOR_HEAP = 2 * GIB  # the most that its process may take, see tasks/captions/meteor_process.py
NEARLY = 0.9  # of the free memory: from here on, a warning


@check("Memory", needs=[weights, longest_prompt, device])
def memory(case: Case) -> Iterator[Finding]:
    parts = estimate(case)
    where = torch.device(case.settings.model.device)
    if where.type == "cuda":
        parts["CUDA itself"] = CUDA_ITSELF
        free, total = torch.cuda.mem_get_info(where)
        yield _verdict(parts, free, f"on the GPU of {gib(total)}", _smaller(case))
        parts = {"weights on their way to the GPU": parts["weights"]}
    if "meteor" in case.metrics:
        parts["METEOR"] = METEOR_HEAP
    free = free_ram()
    if free is None:
        yield ok(
            f"RAM: about {gib(sum(parts.values()))} needed ({_listed(parts)}); this system does not say what is free"
        )
        return
    yield _verdict(parts, free, "of RAM", _smaller(case) if where.type == "cpu" else "free some RAM")


def estimate(case: Case) -> dict[str, float]:
    """Bytes by part, for the longest prompt in a batch of the configured size. Upper bounds; nothing is pruned.

    cache: keys and values of all layers, prompt and answer.
    decoder: at the peak of one layer's prefill, in the feed-forward block: the residual stream, its copies and three
    tensors as wide as the block; and the fp32 copy of one layer's keys with the attention of the last row.
    vision: the same for the tower, which transformers lets keep every layer's output.
    """
    config, longest, batch = case.config, case.longest, case.settings.batch_size
    size = case.dtype.itemsize
    text = config.get_text_config(decoder=True)
    heads, kv_heads, layers = text.num_attention_heads, text.num_key_value_heads, text.num_hidden_layers
    head_dim = getattr(text, "head_dim", None) or text.hidden_size // heads
    tokens, answer = batch * longest.tokens, batch * longest.new_tokens
    scores = kv_heads * head_dim * 4 + 2 * heads * 4
    hidden, wide, depth = vision_sizes(config.vision_config)
    patches = batch * longest.patches
    return {
        "weights": sum(tensor.numel for tensor in case.checkpoint.tensors.values()) * size,
        "cache": 2 * layers * kv_heads * head_dim * (tokens + answer) * size,
        "decoder": SLACK * tokens * ((4 * text.hidden_size + 3 * text.intermediate_size) * size + scores),
        "vision": SLACK * patches * ((depth + 4) * hidden + 2 * wide) * size,
    }


def vision_sizes(vision) -> tuple[int, int, int]:
    """Width, width of the feed-forward block, and layers of a vision tower; families name them differently."""
    hidden = getattr(vision, "embed_dim", None) or vision.hidden_size
    wide = getattr(vision, "intermediate_size", None) or int(hidden * getattr(vision, "mlp_ratio", 4))
    depth = getattr(vision, "depth", None) or vision.num_hidden_layers
    return hidden, wide, depth


def free_ram() -> int | None:
    """Bytes that can still be allocated, within this process's control group; None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    free = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")), None)
    group = Path("/sys/fs/cgroup")
    try:  # a container's limit, version 2
        limit = (group / "memory.max").read_text().strip()
        used = int((group / "memory.current").read_text())
        return free if limit == "max" else min(free or int(limit), int(limit) - used)
    except (OSError, ValueError):
        return free


def _verdict(parts: dict[str, float], free: int, where: str, remedy: str) -> Finding:
    needed = sum(parts.values())
    said = f"about {gib(needed)} needed, {gib(free)} free {where}: {_listed(parts)}"
    if needed > free:
        return failed(said, remedy)
    if needed > NEARLY * free:
        return warning(said, f"this is close: {remedy}")
    return ok(said)


def _smaller(case: Case) -> str:
    batch = case.settings.batch_size
    ways = ["end other programs that hold memory (`nvidia-smi`)" if "cuda" in case.settings.model.device else ""]
    ways += [f"batch_size=1 instead of {batch}" if batch > 1 else ""]
    ways += ["dtype=bfloat16" if case.dtype.itemsize > 2 else "", "a larger device", "a smaller checkpoint"]
    return ", or ".join(way for way in ways if way)


def _listed(parts: dict[str, float]) -> str:
    return ", ".join(f"{name} {gib(size)}" for name, size in parts.items())
