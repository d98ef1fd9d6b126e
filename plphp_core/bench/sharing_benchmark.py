"""What one shared prefill saves: a sweep of settings from it, against every setting on its own.

With random weights and real scores: the methods decide by themselves.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch

from plphp_core import prune
from plphp_core.bench.bench_models import CheckpointSource, RandomSource
from plphp_core.bench.bench_settings import BenchSettings
from plphp_core.decoding.device import free_memory, synchronise
from plphp_core.decoding.fast_generate import fast_generate
from plphp_core.decoding.features import shared_features
from plphp_core.decoding.shared_prefill import SharedPrefill
from plphp_core.pruning.method import Method, make_method

COLUMNS = (
    "model", "engine", "method", "params", "vision_tokens", "new_tokens", "alone_ms", "shared_ms", "retention",
    "same_tokens", "extra_bytes",
)  # fmt: skip


@torch.inference_mode()
def measure_sharing(
    origin: RandomSource | CheckpointSource, bench: BenchSettings, say: Callable[[str], None]
) -> list[dict]:
    """One row per setting and two totals: `shared` holds what all settings share, `sweep` the sums.

    `alone_ms` is prefill and decode of the setting on its own; `shared_ms` what it takes from the shared prefill on;
    `same_tokens` whether both gave the same tokens; `extra_bytes` what the shared prefill holds beside the model.
    """
    origin.load()
    model = origin.model
    rows = []
    for vision in bench.vision_tokens:
        for engine in [regime for regime in bench.regimes if regime != "legacy"]:
            inputs = origin.inputs(bench.batch[0], vision)
            rows += _sweep(origin.name, model, inputs, engine, _settings(bench), bench.new_tokens, vision, say)
            free_memory()
    return rows


def _settings(bench: BenchSettings) -> list[tuple[str, dict]]:
    """None, and PLPHP at every retention rate with every Δr that the rate allows."""
    found: list[tuple[str, dict]] = [("none", {})]
    for rate in bench.retention:
        for delta in bench.delta_r:
            found.append(("plphp", {"r": rate, "delta_r": delta}))
    return found


def _sweep(name, model, inputs, engine, settings, new_tokens, vision, say) -> list[dict]:
    def row(method: str, params: dict, **values) -> dict:
        shown = ", ".join(f"{key}={value}" for key, value in params.items())
        common = {"model": name, "engine": engine, "vision_tokens": vision, "new_tokens": new_tokens}
        return dict.fromkeys(COLUMNS) | common | {"method": method, "params": shown} | values

    _answer(model, inputs, engine, None, 1)  # warm-up: one prefill, no decoding
    methods = [make_method(method, **params) for method, params in settings]
    prefill_ms, extra, together = _together(model, inputs, engine, methods, new_tokens)
    say(f"{engine:9s}shared prefill {prefill_ms:8.0f} ms")
    free_memory()
    rows = [row("shared prefill", {}, shared_ms=prefill_ms, extra_bytes=extra)]
    for (method, params), made, (tokens, retention, shared_ms) in zip(settings, methods, together, strict=True):
        (alone, _), alone_ms = _timed(model, _answer, model, inputs, engine, made, new_tokens)
        times = {"alone_ms": alone_ms, "shared_ms": shared_ms}
        rows.append(row(method, params, **times, retention=retention, same_tokens=torch.equal(tokens, alone)))
        say(
            f"{engine:9s}{method:6s} {rows[-1]['params']:20s} alone {alone_ms:8.0f} ms, shared {shared_ms:8.0f} ms more"
        )
    totals = {
        "alone_ms": sum(one["alone_ms"] for one in rows[1:]),
        "shared_ms": sum(one["shared_ms"] for one in rows),
        "same_tokens": all(one["same_tokens"] for one in rows[1:]),
        "extra_bytes": extra,
    }
    return [*rows, row("sweep", {}, **totals)]


def _together(model, inputs: dict, engine: str, methods: Sequence[Method | None], new_tokens: int):
    """Time of the shared prefill, bytes it holds, and per method: tokens, mean retention, milliseconds."""
    with shared_features(model):
        shared, prefill_ms = _timed(model, SharedPrefill, model, inputs)
        found = []
        for method in methods:
            (tokens, trace), ms = _timed(model, _answer, model, inputs, engine, method, new_tokens, shared)
            found.append((tokens, float(trace.retention.mean()), ms))
    held = sum(t.untyped_storage().nbytes() for layer in shared.cache.layers for t in (layer.keys, layer.values))
    return prefill_ms, held + sum(view.last_row.nbytes for view in shared.views.values()), found


def _answer(
    model, inputs: dict, engine: str, method: Method | None, new_tokens: int, shared: SharedPrefill | None = None
):
    """Tokens of `new_tokens` steps without an end, and the trace."""
    if engine == "fast":
        prefilled = None if shared is None else shared.prefilled(method)
        found = fast_generate(
            model,
            inputs,
            method,
            max_new_tokens=new_tokens,
            eos_token_id=[],
            record_attention=False,
            prefilled=prefilled,
        )
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


def sharing_markdown(rows: Sequence[dict], notes: str, command: str) -> str:
    """The sweep as a table, its ratio first."""
    lines = ["# One prefill for a whole sweep", ""]
    for total in [one for one in rows if one["method"] == "sweep"]:
        settings = [one for one in rows if one["engine"] == total["engine"] and one["alone_ms"] and one is not total]
        share = total["shared_ms"] / total["alone_ms"]
        same = "the same tokens in all" if total["same_tokens"] else "DIFFERENT TOKENS, see below"
        lines += [
            f"- `{total['engine']}`, {total['vision_tokens']} vision tokens, {total['new_tokens']} new ones: "
            f"{len(settings)} settings together take {share:.3f} of the time of separate runs; {same}; the shared "
            f"prefill holds {total['extra_bytes'] / 1e6:.0f} MB beside the model.",
        ]
    lines += ["", notes, "", f"`{command}`", ""]
    lines += ["| engine | setting | alone, ms | from the shared prefill, ms | same tokens |", "|---|---|--:|--:|---|"]
    for one in rows:
        alone = "" if one["alone_ms"] is None else f"{one['alone_ms']:.0f}"
        same = {None: "", True: "yes", False: "no"}[one["same_tokens"]]
        what = f"{one['method']} {one['params']}".strip()
        lines.append(f"| `{one['engine']}` | {what} | {alone} | {one['shared_ms']:.0f} | {same} |")
    return "\n".join(lines) + "\n"
