"""The rows of a benchmark: every case measured once, then set against `none` and the floor."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Callable

import torch

from plphp_core.bench.device import Machine
from plphp_core.bench.floor import floor_ms, kv_bytes
from plphp_core.bench.memory import Peak, available_bytes, decode_bytes, is_out_of_memory
from plphp_core.bench.prefill import PrefillCost, flops_ratio, time_prefill
from plphp_core.bench.regimes import decoding
from plphp_core.bench.settings import Bench, Case
from plphp_core.bench.sources import CheckpointSource, RandomSource, source
from plphp_core.bench.timing import time_steps
from plphp_core.evaluation.errors import UserError

COLUMNS = (
    "model", "regime", "method", "params", "batch", "prompt_tokens", "vision_tokens", "retention", "status",
    "ms_per_token", "ms_q1", "ms_q3", "ms_best", "steps", "warm_up", "tokens_per_s", "gb_per_s",
    "floor_ms_nominal", "floor_ms_measured", "rho_nominal", "rho_measured",
    "speed_up", "ideal_speed_up", "share_of_ideal_nominal", "share_of_ideal_measured",
    "kv_bytes", "kv_bytes_held", "peak_bytes", "prefill_ms", "prefill_q1", "prefill_q3", "prefill_vs_none",
    "flops_vs_none", "added_prefill_ms", "added_share_of_prefill", "added_decode_tokens", "kernel",
)  # fmt: skip

Say = Callable[[str], None]


def measure(bench: Bench, machine: Machine, say: Say = print) -> list[dict]:
    """One row (keys: COLUMNS) per case; values that do not exist are None.

    A case that does not fit, by estimate or in fact, is a row whose `status` is `oom`.
    """
    groups = [(source(name, bench), list(cases)) for name, cases in itertools.groupby(bench.cases, lambda c: c.model)]
    for origin, cases in groups:
        if isinstance(origin, RandomSource):  # before the first model is built
            _check(origin, cases)
    rows = []
    while groups:  # a model is let go before the next one is built
        origin, cases = groups.pop(0)
        rows += _measure_model(origin, cases, bench, machine, say)
        del origin
        _free()
    relate(rows, bench.prefill_batch)
    return rows


def _measure_model(
    origin: RandomSource | CheckpointSource, cases: list[Case], bench: Bench, machine: Machine, say: Say
) -> list[dict]:
    needed, free = origin.model_bytes, _available(bench)
    if needed > free:
        say(f"{origin.name}: oom: its weights need {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free")
        return [_row(case) | {"status": "oom"} for case in cases]
    say(f"{origin.name}: loading")
    origin.load()
    _check(origin, cases)
    prefills: dict[tuple, tuple[PrefillCost, float] | None] = {}
    rows = []
    for case in cases:
        row = _row(case)
        rows.append(row)
        try:
            method = origin.method(case.method, dict(case.params))
            cost = _prefill_cost(origin, method, case, bench, prefills)
            _decode(origin, method, case, bench, machine, row)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            row["status"], cost = "oom", None
        if cost is not None:
            row |= _prefill_columns(cost)
        _free()
        say(_line(row))
    return rows


def _check(origin: RandomSource | CheckpointSource, cases: list[Case]) -> None:
    """Raise UserError where a method does not fit the model's layers, or cannot be planned."""
    for name, params, vision in dict.fromkeys((case.method, case.params, case.vision_tokens) for case in cases):
        method = origin.method(name, dict(params))
        try:
            if method is not None:
                method.check(origin.shape.layers)
        except ValueError as error:
            raise UserError(f"{origin.name}: {error}") from None
        if isinstance(origin, RandomSource):
            origin.lengths(method, 1, vision)


def _row(case: Case) -> dict:
    params = ", ".join(f"{name}={value}" for name, value in case.params)
    return dict.fromkeys(COLUMNS) | {
        "model": case.model,
        "regime": case.regime,
        "method": case.method,
        "params": params,
        "batch": case.batch,
        "vision_tokens": case.vision_tokens,
        "status": "ok",
    }


def _decode(origin, method, case: Case, bench: Bench, machine: Machine, row: dict) -> None:
    lengths = origin.lengths(method, case.batch, case.vision_tokens)
    itemsize = origin.model.dtype.itemsize
    needed, free = decode_bytes(origin.shape, lengths, case.regime, itemsize), _available(bench)
    if needed > free:
        row["status"] = "oom"
        return
    peak = Peak(bench.device)
    peak.reset()
    state = origin.state(method, case.batch, case.vision_tokens)
    arguments = (state.lengths, state.seen, method, state.tokens, state.position)
    cache, state.cache = state.cache, None  # the regime owns it now, so that nothing is held twice
    with decoding(case.regime, origin.model, cache, *arguments) as decoder:
        del cache
        times = time_steps(
            decoder.step, decoder.rewind, bench.device, bench.warm_up, bench.steps, bench.at_least, bench.row_seconds
        )
        held, kernel = decoder.held, decoder.kernel
    weights = origin.weight_bytes
    cache_bytes = kv_bytes(state.lengths, origin.shape.slot_elements * itemsize)
    least = {
        "nominal": floor_ms(weights, cache_bytes, machine.nominal) if machine.nominal else None,
        "measured": floor_ms(weights, cache_bytes, machine.measured),
    }
    row |= {
        "prompt_tokens": state.seen,
        "vision_tokens": state.vision,
        "retention": state.retention,
        "ms_per_token": times.median,
        "ms_q1": times.q1,
        "ms_q3": times.q3,
        "ms_best": times.best,
        "steps": times.steps,
        "warm_up": times.warm_up,
        "tokens_per_s": case.batch / times.median * 1e3,
        "gb_per_s": (weights + cache_bytes) / times.median / 1e6,
        "kv_bytes": state.reported,
        "kv_bytes_held": held,
        "peak_bytes": peak.nbytes,
        "kernel": kernel,
    }
    for speed, floor in least.items():
        row[f"floor_ms_{speed}"] = floor
        row[f"rho_{speed}"] = floor / times.median if floor else None


def _prefill_cost(origin, method, case: Case, bench: Bench, known: dict) -> tuple[PrefillCost, float] | None:
    """Cost of this method's prefill of this length, measured once for all regimes and batches."""
    if bench.prefill_vision_tokens is not None and case.vision_tokens not in bench.prefill_vision_tokens:
        return None
    lengths = origin.lengths(method, bench.prefill_batch, case.vision_tokens)
    key = (case.method, case.params, case.vision_tokens)
    if key not in known:
        known[key] = None  # if memory does not suffice, it does not for the other rows either
        inputs = origin.inputs(bench.prefill_batch, case.vision_tokens)
        if isinstance(origin, CheckpointSource):
            lengths = origin.state(method, bench.prefill_batch, case.vision_tokens).lengths
        whole = inputs["input_ids"].shape[1]
        withdraws = method is not None and method.withdraws
        stream = [layer[0] for layer in lengths] if withdraws else [whole] * origin.shape.layers
        cost = time_prefill(origin.model, inputs, method, bench.prefill_warm_up, bench.prefill_repeats)
        known[key] = (cost, flops_ratio(origin.shape, stream))
    return known[key]


def _prefill_columns(known: tuple[PrefillCost, float]) -> dict:
    cost, ratio = known
    return {
        "prefill_ms": cost.times.median,
        "prefill_q1": cost.times.q1,
        "prefill_q3": cost.times.q3,
        "flops_vs_none": ratio,
        "added_prefill_ms": cost.added.median,
        "added_share_of_prefill": cost.added.median / cost.times.median,
    }


def relate(rows: list[dict], prefill_batch: int) -> None:
    """Fill in, in place, the columns that set a row against `none` in the same regime, model, batch and length.

    `added_decode_tokens` divides what a prefill of `prefill_batch` prompts costs more by the time of one token of
    `none` at that batch.
    """
    same = ("model", "regime", "batch", "vision_tokens")
    plain = {tuple(row[name] for name in same): row for row in rows if row["method"] == "none"}
    for row in rows:
        none = plain.get(tuple(row[name] for name in same))
        if none is not None and row["prefill_ms"] and none["prefill_ms"]:
            row["prefill_vs_none"] = row["prefill_ms"] / none["prefill_ms"]
        one = plain.get((row["model"], row["regime"], prefill_batch, row["vision_tokens"]))
        if one is not None and one["ms_per_token"] and row["added_prefill_ms"] is not None:
            row["added_decode_tokens"] = row["added_prefill_ms"] / one["ms_per_token"]
        if none is None or not none["ms_per_token"] or not row["ms_per_token"]:
            continue
        row["speed_up"] = none["ms_per_token"] / row["ms_per_token"]
        row["ideal_speed_up"] = none["floor_ms_measured"] / row["floor_ms_measured"]
        for speed in ("nominal", "measured"):
            whole, least = none[f"floor_ms_{speed}"], row[f"floor_ms_{speed}"]
            if whole and least and whole > least:
                row[f"share_of_ideal_{speed}"] = (none["ms_per_token"] - row["ms_per_token"]) / (whole - least)


def _available(bench: Bench) -> float:
    return available_bytes(bench.device, bench.memory_gb * 1e9 if bench.memory_gb else None)


def _line(row: dict) -> str:
    """One row while it is measured."""
    what = f"{row['regime']:9s}{row['method']:7s}{row['params']:20s} batch {row['batch']:<3d}"
    what += f" vision {row['vision_tokens']:<6d}"
    if row["ms_per_token"] is None:
        return f"{what} {row['status']}"
    spread = f"{row['ms_q1']:.2f}–{row['ms_q3']:.2f}"
    return f"{what} {row['ms_per_token']:8.2f} ms ({spread})  ρ {row['rho_measured']:.2f}"


def _free() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
