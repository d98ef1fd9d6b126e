"""The memory preset: how many samples decode together in a given memory, pruned and not."""

from __future__ import annotations

from collections.abc import Callable

import torch

from plphp_core.bench.bench_models import RandomSource
from plphp_core.bench.bench_settings import BenchSettings
from plphp_core.bench.decode_backends import decoding
from plphp_core.bench.memory_estimate import is_out_of_memory, largest_batch
from plphp_core.decoding.device import free_memory

COLUMNS = (
    "model", "method", "params", "prompt_tokens", "vision_tokens", "new_tokens", "retention", "budget_gb", "weights_gb",
    "kv_mb_per_sample", "largest_batch", "times_none", "tried",
)  # fmt: skip


def capacity(bench: BenchSettings, say: Callable[[str], None] = print) -> list[dict]:
    """One row (keys: COLUMNS) per model, length and method, computed from weights, KV bytes and room.

    On CUDA the batch is tried too: its cache is allocated and a token decoded, within `memory_gb`; column `tried` says
    `fits` or `oom`, `no` where nothing was tried.
    """
    budget = (bench.memory_gb or 80) * 1e9
    rows = []
    seen = dict.fromkeys((case.model, case.vision_tokens, case.method, case.params) for case in bench.cases)
    loaded: RandomSource | None = None
    for model, vision, name, params in seen:
        if loaded is None or loaded.name != model:
            loaded = None
            free_memory()
            loaded = RandomSource(model, bench)
            if _tries(bench, budget):
                torch.cuda.set_per_process_memory_fraction(min(1.0, budget / torch.cuda.mem_get_info()[1]))
                loaded.load()
        rows.append(_row(loaded, vision, name, dict(params), bench, budget))
        say(f"{model} {name} vision {rows[-1]['vision_tokens']}: {rows[-1]['largest_batch']} ({rows[-1]['tried']})")
    plain = {(row["model"], row["vision_tokens"]): row["largest_batch"] for row in rows if row["method"] == "none"}
    for row in rows:
        none = plain.get((row["model"], row["vision_tokens"]))
        row["times_none"] = row["largest_batch"] / none if none else None
    return rows


def _row(
    origin: RandomSource, vision_tokens: int, name: str, params: dict, bench: BenchSettings, budget: float
) -> dict:
    method, shape = origin.method(name, params), origin.shape
    itemsize = bench.torch_dtype.itemsize
    of_sample = [layer[0] for layer in origin.lengths(method, 1, vision_tokens)]
    batch = largest_batch(shape, of_sample, bench.new_tokens, itemsize, budget)
    vision = origin.images(vision_tokens) * shape.image_tokens
    kept = sum(of_sample) / shape.layers - bench.text_tokens
    return {
        "model": origin.name,
        "method": name,
        "params": ", ".join(f"{key}={value}" for key, value in params.items()),
        "prompt_tokens": vision + bench.text_tokens,
        "vision_tokens": vision,
        "new_tokens": bench.new_tokens,
        "retention": kept / vision,
        "budget_gb": budget / 1e9,
        "weights_gb": shape.parameters * itemsize / 1e9,
        "kv_mb_per_sample": sum(of_sample) * shape.slot_elements * itemsize / 1e6,
        "largest_batch": batch,
        "times_none": None,
        "tried": _try(origin, method, batch, vision_tokens, bench) if batch and origin.model is not None else "no",
    }


def _try(origin: RandomSource, method, batch: int, vision_tokens: int, bench: BenchSettings) -> str:
    try:
        state = origin.state(method, batch, vision_tokens)
        cache, state.cache = state.cache, None
        arguments = (state.lengths, state.seen, method, state.tokens, None, bench.new_tokens)
        decoder = decoding("fast", origin.model, cache, *arguments)
        del cache
        with decoder.on():
            decoder.step()
            torch.cuda.synchronize()
        return "fits"
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return "oom"
    finally:
        free_memory()


def _tries(bench: BenchSettings, budget: float) -> bool:
    return torch.cuda.is_available() and bench.device.startswith("cuda") and torch.cuda.mem_get_info()[1] >= budget
