"""What one shared prefill saves: a sweep of settings from it, against every setting on its own.

With random weights and real scores: the methods decide by themselves.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch

from plphp_core import prune
from plphp_core.bench.bench_models import BenchModel, bench_model
from plphp_core.bench.bench_settings import BenchSettings
from plphp_core.bench.bench_tables import BenchColumn, BenchResult, bench_table, megabytes, number
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
    BenchColumn("alone_ms", "alone, ms", number(0)),
    BenchColumn("shared_ms", "from the shared prefill, ms", number(0)),
    BenchColumn("retention"),
    BenchColumn("same_tokens", "same tokens", lambda same: "yes" if same else "no"),
    BenchColumn("extra_bytes", "beside the model, MB", megabytes),
)


def sharing_benchmark(bench: BenchSettings, say: Say = print) -> BenchResult:
    """One row per setting and two totals: `shared prefill` is what all settings share, `sweep` the sums.

    `alone_ms` is prefill and decode of the setting on its own; `shared_ms` what it takes from the shared prefill on;
    `same_tokens` whether both gave the same tokens; `extra_bytes` what the shared prefill holds beside the model.
    """
    machine = measure_machine(bench.device, bench.dtype, bench.bandwidth_mb)
    rows = [row for name in bench.models for row in _sweeps(bench_model(name, bench), bench, say)]
    notes = []
    for total in [row for row in rows if row["method"] == "sweep"]:
        same = "the same tokens in all" if total["same_tokens"] else "DIFFERENT TOKENS, see below"
        notes.append(
            f"`{total['backend']}`, {total['vision_tokens']} vision tokens, {total['new_tokens']} new ones: "
            f"{len(_settings(bench))} settings together take {total['shared_ms'] / total['alone_ms']:.3f} of the time "
            f"of separate runs; {same}; the shared prefill holds {total['extra_bytes'] / 1e6:.0f} MB beside the model."
        )
    notes.append(f"Device: {machine.name}; {machine.facts}.")
    table = bench_table("Each setting", SHARING_COLUMNS, rows)
    return BenchResult("One prefill for a whole sweep", machine.name, rows, SHARING_COLUMNS, notes, [table])


@torch.inference_mode()
def _sweeps(one: BenchModel, bench: BenchSettings, say: Say) -> list[dict]:
    one.load()
    rows = []
    for vision in bench.vision_tokens:
        for backend in [name for name in bench.backends if name != "legacy"]:
            same = {"model": one.name, "backend": backend, "vision_tokens": vision, "new_tokens": bench.new_tokens}
            inputs = one.inputs(bench.batch[0], vision)
            rows += [same | row for row in _sweep(one.model, inputs, backend, bench, say)]
            free_memory()
    return rows


def _settings(bench: BenchSettings) -> list[tuple[str, dict]]:
    """None, and PLPHP at every retention rate with every Δr."""
    rates = [{"r": rate, "delta_r": delta} for rate in bench.retention for delta in bench.delta_r]
    return [("none", {}), *(("plphp", params) for params in rates)]


def _sweep(model, inputs: dict, backend: str, bench: BenchSettings, say: Say) -> list[dict]:
    _answer(model, inputs, backend, None, 1)  # warm-up: one prefill, no decoding
    settings = _settings(bench)
    methods = [make_method(method, **params) for method, params in settings]
    prefill_ms, extra, shared = _from_shared_prefill(model, inputs, backend, methods, bench.new_tokens)
    say(f"{backend:9s}shared prefill {prefill_ms:8.0f} ms")
    free_memory()
    rows = []
    for (method, params), made, (tokens, retention, ms) in zip(settings, methods, shared, strict=True):
        (alone, _), alone_ms = _timed(model, _answer, model, inputs, backend, made, bench.new_tokens)
        shown = ", ".join(f"{key}={value}" for key, value in params.items())
        row = {"method": method, "params": shown, "alone_ms": alone_ms, "shared_ms": ms, "retention": retention}
        rows.append(row | {"same_tokens": torch.equal(tokens, alone)})
        say(f"{backend:9s}{method:6s} {shown:20s} alone {alone_ms:8.0f} ms, shared {ms:8.0f} ms more")
    total = {
        "method": "sweep",
        "alone_ms": sum(row["alone_ms"] for row in rows),
        "shared_ms": prefill_ms + sum(row["shared_ms"] for row in rows),
        "same_tokens": all(row["same_tokens"] for row in rows),
        "extra_bytes": extra,
    }
    return [{"method": "shared prefill", "shared_ms": prefill_ms, "extra_bytes": extra}, *rows, total]


def _from_shared_prefill(
    model, inputs: dict, backend: str, methods: Sequence[Method | None], new_tokens: int
) -> tuple[float, int, list[tuple[torch.Tensor, float, float]]]:
    """Time of the shared prefill, bytes it holds, and per method: tokens, mean retention, milliseconds."""
    with shared_features(model):
        shared, prefill_ms = _timed(model, SharedPrefill, model, inputs)
        found = []
        for method in methods:
            (tokens, trace), ms = _timed(model, _answer, model, inputs, backend, method, new_tokens, shared)
            found.append((tokens, float(trace.retention.mean()), ms))
    held = sum(t.untyped_storage().nbytes() for layer in shared.cache.layers for t in (layer.keys, layer.values))
    return prefill_ms, held + sum(view.last_row.nbytes for view in shared.views.values()), found


def _answer(
    model, inputs: dict, backend: str, method: Method | None, new_tokens: int, shared: SharedPrefill | None = None
) -> tuple:
    """Tokens of `new_tokens` steps without an end, and the trace."""
    if backend == "fast":
        prefilled = None if shared is None else shared.prefilled(method)
        options = {"max_new_tokens": new_tokens, "eos_token_id": [], "record_attention": False}
        found = fast_generate(model, inputs, method, prefilled=prefilled, **options)
        return found.sequences, found.trace
    options = {"max_new_tokens": new_tokens, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    if shared is None:
        with prune(model, method, record_attention=False) as trace:
            return model.generate(**inputs, **options), trace
    with shared.resumed(method) as resumed:
        return model.generate(**inputs, **options), resumed.trace


def _timed(model, call: Callable, *arguments) -> tuple:
    """What `call` returns, and its milliseconds."""
    synchronise(model.device)
    began = time.perf_counter()
    found = call(*arguments)
    synchronise(model.device)
    return found, (time.perf_counter() - began) * 1e3
