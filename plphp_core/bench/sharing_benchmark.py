"""What one shared prefill saves: a sweep of settings from it, against every setting on its own.

With random weights and real scores: the methods decide by themselves.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from plphp_core.bench.bench_settings import BenchSettings
from plphp_core.bench.bench_tables import BenchColumn, BenchResult, bench_table, decimals, megabytes
from plphp_core.bench.random_model import RandomModel
from plphp_core.bench.roofline import measure_machine
from plphp_core.decoding.device import synchronise
from plphp_core.decoding.fast_generate import fast_generate, prefill
from plphp_core.decoding.features import shared_features
from plphp_core.decoding.shared_prefill import SharedPrefill
from plphp_core.pruning.method import Method, make_method

SHARING_COLUMNS = (
    BenchColumn("model", "model"),
    BenchColumn("method", "setting"),
    BenchColumn("params", "parameters"),
    BenchColumn("vision_tokens"),
    BenchColumn("new_tokens"),
    BenchColumn("alone_ms", "alone, ms", decimals(0)),
    BenchColumn("shared_ms", "from the shared prefill, ms", decimals(0)),
    BenchColumn("same_tokens", "same tokens", lambda same: "yes" if same else "no"),
    BenchColumn("extra_bytes", "beside the model, MB", megabytes),
)


def sharing_benchmark(bench: BenchSettings, say: Callable[[str], None] = print) -> BenchResult:
    """In the fast path, one row per setting and two totals: `shared prefill` is what all settings share, `sweep` the
    sums.

    `alone_ms` is prefill and decode of the setting on its own; `shared_ms` what it takes from the shared prefill on;
    `same_tokens` whether both gave the same tokens; `extra_bytes` what the shared prefill holds beside the model.
    """
    machine = measure_machine(bench.device, bench.dtype, bench.bandwidth_mb)
    rows, notes = [], []
    for name in bench.models:
        one = RandomModel(name, bench)
        one.load()
        for vision in bench.vision_tokens:
            *found, total = _sweep(one, vision, say)
            rows += [*found, total]
            same = "the same tokens in all" if total["same_tokens"] else "DIFFERENT TOKENS, see below"
            notes.append(
                f"{name}, {vision} vision tokens, {bench.new_tokens} new ones: {len(found) - 1} settings together take "
                f"{total['shared_ms'] / total['alone_ms']:.3f} of the time of separate runs; {same}; the shared "
                f"prefill holds {total['extra_bytes'] / 1e6:.0f} MB beside the model."
            )
    notes.append(f"Device: {machine.name}; {machine.facts}.")
    table = bench_table("Each setting", SHARING_COLUMNS, rows)
    return BenchResult("One prefill for a whole sweep", machine.name, rows, SHARING_COLUMNS, notes, [table])


@torch.inference_mode()
def _sweep(one: RandomModel, vision: int, say: Callable[[str], None]) -> list[dict]:
    """None, and PLPHP at every retention rate with every Δr: first all from one prefill, then each on its own."""
    bench, model = one.bench, one.model
    inputs = one.inputs(bench.batch[0], vision)
    rates = [{"r": rate, "delta_r": delta} for rate in bench.retention for delta in bench.delta_r]
    settings: list[tuple[str, dict]] = [("none", {}), *(("plphp", params) for params in rates)]
    methods = [make_method(name, **params) for name, params in settings]
    prefill(model, inputs)  # warm-up
    with shared_features(model):
        shared, prefill_ms = _timed(model, SharedPrefill, model, inputs)
        from_shared = [_timed(model, _answer, model, inputs, method, bench.new_tokens, shared) for method in methods]
    held = sum(t.untyped_storage().nbytes() for layer in shared.cache.layers for t in (layer.keys, layer.values))
    held += sum(view.last_row.nbytes for view in shared.views.values())
    say(f"shared prefill {prefill_ms:8.0f} ms")
    rows = []
    for (name, params), method, (tokens, ms) in zip(settings, methods, from_shared, strict=True):
        alone, alone_ms = _timed(model, _answer, model, inputs, method, bench.new_tokens)
        shown = ", ".join(f"{key}={value}" for key, value in params.items())
        same = torch.equal(tokens, alone)
        rows.append({"method": name, "params": shown, "alone_ms": alone_ms, "shared_ms": ms, "same_tokens": same})
        say(f"{name:6s} {shown:20s} alone {alone_ms:8.0f} ms, shared {ms:8.0f} ms more")
    total = {
        "method": "sweep",
        "alone_ms": sum(row["alone_ms"] for row in rows),
        "shared_ms": prefill_ms + sum(row["shared_ms"] for row in rows),
        "same_tokens": all(row["same_tokens"] for row in rows),
        "extra_bytes": held,
    }
    first = {"method": "shared prefill", "shared_ms": prefill_ms, "extra_bytes": held}
    about = {"model": one.name, "vision_tokens": vision, "new_tokens": bench.new_tokens}
    return [about | row for row in (first, *rows, total)]


def _answer(model, inputs: dict, method: Method | None, new_tokens: int, shared: SharedPrefill | None = None):
    """Tokens of `new_tokens` steps without an end."""
    prefilled = None if shared is None else shared.prefilled(method)
    options = {"max_new_tokens": new_tokens, "eos_token_id": [], "record_attention": False}
    return fast_generate(model, inputs, method, prefilled=prefilled, **options).sequences


def _timed(model, call: Callable, *arguments) -> tuple:
    """What `call` returns, and its milliseconds."""
    synchronise(model.device)
    began = time.perf_counter()
    found = call(*arguments)
    synchronise(model.device)
    return found, (time.perf_counter() - began) * 1e3
