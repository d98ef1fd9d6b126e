"""What one shared prefill saves: a sweep of settings from it, against every setting on its own.

With random weights and real scores: the methods decide by themselves.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from plphp_core import prune
from plphp_core.bench.bench_settings import BenchSettings
from plphp_core.bench.bench_tables import BenchColumn, BenchResult, bench_table, decimals, megabytes
from plphp_core.bench.random_model import RandomModel
from plphp_core.bench.roofline import measure_machine
from plphp_core.decoding.device import free_memory, synchronise
from plphp_core.decoding.fast_generate import fast_generate
from plphp_core.decoding.features import shared_features
from plphp_core.decoding.shared_prefill import SharedPrefill
from plphp_core.pruning.method import Method, make_method

Say = Callable[[str], None]
SHARING_COLUMNS = (
    BenchColumn("model", "model"),
    BenchColumn("backend", "backend"),
    BenchColumn("method", "setting"),
    BenchColumn("params", "parameters"),
    BenchColumn("vision_tokens"),
    BenchColumn("new_tokens"),
    BenchColumn("alone_ms", "alone, ms", decimals(0)),
    BenchColumn("shared_ms", "from the shared prefill, ms", decimals(0)),
    BenchColumn("same_tokens", "same tokens", lambda same: "yes" if same else "no"),
    BenchColumn("extra_bytes", "beside the model, MB", megabytes),
)


def sharing_benchmark(bench: BenchSettings, say: Say = print) -> BenchResult:
    """One row per setting and two totals: `shared prefill` is what all settings share, `sweep` the sums.

    `alone_ms` is prefill and decode of the setting on its own; `shared_ms` what it takes from the shared prefill on;
    `same_tokens` whether both gave the same tokens; `extra_bytes` what the shared prefill holds beside the model.
    """
    machine = measure_machine(bench.device, bench.dtype, bench.bandwidth_mb)
    rows, notes = [], []
    for name in bench.models:
        one = RandomModel(name, bench)
        one.load()
        for vision in bench.vision_tokens:
            for backend in [name for name in bench.backends if name != "legacy"]:
                rows += (sweep := _sweep(one, vision, backend, say))
                notes.append(_summary(sweep))
    notes.append(f"Device: {machine.name}; {machine.facts}.")
    table = bench_table("Each setting", SHARING_COLUMNS, rows)
    return BenchResult("One prefill for a whole sweep", machine.name, rows, SHARING_COLUMNS, notes, [table])


def _summary(sweep: list[dict]) -> str:
    total = sweep[-1]
    same = "the same tokens in all" if total["same_tokens"] else "DIFFERENT TOKENS, see below"
    return (
        f"`{total['backend']}`, {total['vision_tokens']} vision tokens, {total['new_tokens']} new ones: "
        f"{len(sweep) - 2} settings together take {total['shared_ms'] / total['alone_ms']:.3f} of the time of separate "
        f"runs; {same}; the shared prefill holds {total['extra_bytes'] / 1e6:.0f} MB beside the model."
    )


@torch.inference_mode()
def _sweep(one: RandomModel, vision: int, backend: str, say: Say) -> list[dict]:
    """None, and PLPHP at every retention rate with every Δr: first all from one prefill, then each on its own."""
    bench, model = one.bench, one.model
    inputs = one.inputs(bench.batch[0], vision)
    rates = [{"r": rate, "delta_r": delta} for rate in bench.retention for delta in bench.delta_r]
    settings: list[tuple[str, dict]] = [("none", {}), *(("plphp", params) for params in rates)]
    methods = [make_method(name, **params) for name, params in settings]
    GENERATE[backend](model, inputs, None, 1)  # warm-up: one prefill, no decoding
    prefill_ms, held, from_shared = _from_shared(one, inputs, backend, methods)
    free_memory()
    say(f"{backend:9s}shared prefill {prefill_ms:8.0f} ms")
    rows = []
    for (name, params), method, (tokens, ms) in zip(settings, methods, from_shared, strict=True):
        alone, alone_ms = _timed(model, GENERATE[backend], model, inputs, method, bench.new_tokens)
        shown = ", ".join(f"{key}={value}" for key, value in params.items())
        rows.append({"method": name, "params": shown, "alone_ms": alone_ms, "shared_ms": ms})
        rows[-1]["same_tokens"] = torch.equal(tokens, alone)
        say(f"{backend:9s}{name:6s} {shown:20s} alone {alone_ms:8.0f} ms, shared {ms:8.0f} ms more")
    total = {
        "method": "sweep",
        "alone_ms": sum(row["alone_ms"] for row in rows),
        "shared_ms": prefill_ms + sum(row["shared_ms"] for row in rows),
        "same_tokens": all(row["same_tokens"] for row in rows),
        "extra_bytes": held,
    }
    first = {"method": "shared prefill", "shared_ms": prefill_ms, "extra_bytes": held}
    same = {"model": one.name, "backend": backend, "vision_tokens": vision, "new_tokens": bench.new_tokens}
    return [same | row for row in (first, *rows, total)]


def _from_shared(
    one: RandomModel, inputs: dict, backend: str, methods: list[Method | None]
) -> tuple[float, int, list[tuple[torch.Tensor, float]]]:
    """Milliseconds of the shared prefill, bytes that it holds, and of each method its tokens and milliseconds."""
    model, new_tokens = one.model, one.bench.new_tokens
    with shared_features(model):
        shared, prefill_ms = _timed(model, SharedPrefill, model, inputs)
        found = []
        for method in methods:
            found.append(_timed(model, GENERATE[backend], model, inputs, method, new_tokens, shared))
    held = sum(t.untyped_storage().nbytes() for layer in shared.cache.layers for t in (layer.keys, layer.values))
    return prefill_ms, held + sum(view.last_row.nbytes for view in shared.views.values()), found


def _fast(model, inputs: dict, method: Method | None, new_tokens: int, shared: SharedPrefill | None = None):
    """Tokens of `new_tokens` steps without an end."""
    prefilled = None if shared is None else shared.prefilled(method)
    options = {"max_new_tokens": new_tokens, "eos_token_id": [], "record_attention": False}
    return fast_generate(model, inputs, method, prefilled=prefilled, **options).sequences


def _generate(model, inputs: dict, method: Method | None, new_tokens: int, shared: SharedPrefill | None = None):
    """As `_fast`."""
    with prune(model, method, record_attention=False) if shared is None else shared.resumed(method):
        return model.generate(**inputs, max_new_tokens=new_tokens, do_sample=False, eos_token_id=None, pad_token_id=0)


GENERATE = {"fast": _fast, "generate": _generate}


def _timed(model, call: Callable, *arguments) -> tuple:
    """What `call` returns, and its milliseconds."""
    synchronise(model.device)
    began = time.perf_counter()
    found = call(*arguments)
    synchronise(model.device)
    return found, (time.perf_counter() - began) * 1e3
