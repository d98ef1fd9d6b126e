"""The rows of a benchmark: a model, a length and a batch at a time, prefills first, then decoding."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from plphp_core.bench.bench_machine import Machine
from plphp_core.bench.bench_models import CheckpointSource, RandomSource, source
from plphp_core.bench.bench_settings import BenchCase, BenchSettings
from plphp_core.bench.interleaved_decoding import Decoded, available, decode_in_turn
from plphp_core.bench.interleaved_rounds import times_of
from plphp_core.bench.prefill_timing import PrefillTime, flops_ratio, interleaved_prefills
from plphp_core.bench.roofline import floor_ms
from plphp_core.bench.speed_ups import SPEEDS, relate
from plphp_core.decoding.device import free_memory
from plphp_core.records.errors import UserError

COLUMNS = (
    "model", "regime", "method", "params", "batch", "prompt_tokens", "vision_tokens", "retention", "status",
    "ms_per_token", "ms_q1", "ms_q3", "ms_best", "rounds", "steps", "warm_up", "preempted_per_s",
    "tokens_per_s", "gb_per_s", "floor_ms_nominal", "floor_ms_measured", "rho_nominal", "rho_measured",
    "speed_up", "speed_up_q1", "speed_up_q3", "ideal_speed_up", "share_of_ideal_nominal", "share_of_ideal_measured",
    "kv_bytes", "kv_bytes_held", "peak_bytes", "prefill_ms", "prefill_q1", "prefill_q3", "prefill_preempted_per_s",
    "prefill_vs_none", "flops_vs_none", "added_prefill_ms", "added_share_of_prefill", "added_decode_tokens", "kernel",
)  # fmt: skip

Say = Callable[[str], None]
Source = RandomSource | CheckpointSource


def measure(bench: BenchSettings, machine: Machine, say: Say = print) -> list[dict]:
    """One row (keys: COLUMNS) per case; values that do not exist are None.

    A case that does not fit, by estimate or in fact, is a row whose `status` is `oom`.
    """
    groups = [(source(name, bench), list(cases)) for name, cases in itertools.groupby(bench.cases, lambda c: c.model)]
    for origin, cases in groups:
        if isinstance(origin, RandomSource):  # before the first model is built
            _check(origin, cases)
    rows: list[dict] = []
    decoded: list[Decoded | None] = []
    while groups:  # a model is let go before the next one is built
        origin, cases = groups.pop(0)
        for row, one in _measure_model(origin, cases, bench, machine, say):
            rows.append(row)
            decoded.append(one)
        del origin
        free_memory()
    relate(rows, decoded, bench.prefill_batch)
    return rows


def _measure_model(
    origin: Source, cases: list[BenchCase], bench: BenchSettings, machine: Machine, say: Say
) -> list[tuple[dict, Decoded | None]]:
    needed, free = origin.model_bytes, available(bench)
    if needed > free:
        say(f"{origin.name}: oom: its weights need {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free")
        return [(empty_row(case) | {"status": "oom"}, None) for case in cases]
    say(f"{origin.name}: loading")
    origin.load()
    _check(origin, cases)
    found: dict[BenchCase, tuple[dict, Decoded | None]] = {}
    for vision in dict.fromkeys(case.vision_tokens for case in cases):
        of_length = [case for case in cases if case.vision_tokens == vision]
        columns = prefill_columns(origin, of_length, bench, say)
        for batch in dict.fromkeys(case.batch for case in of_length):
            group = [case for case in of_length if case.batch == batch]
            for case, (row, decoded) in zip(group, decoding_rows(origin, group, bench, machine, say), strict=True):
                row |= columns.get((case.method, case.params), {}) if decoded is not None else {}
                found[case] = row, decoded
    return [found[case] for case in cases]


def decoding_rows(
    origin: Source, cases: list[BenchCase], bench: BenchSettings, machine: Machine, say: Say
) -> list[tuple[dict, Decoded | None]]:
    """Rows of cases of one length and batch, decoded in turn by the loaded model, without the columns of `relate`."""
    say(f"{origin.name}, {cases[0].vision_tokens} vision tokens, batch {cases[0].batch}: {len(cases)} cases in turn")
    decoded = decode_in_turn(origin, cases, bench)
    found = []
    for case in cases:
        row = empty_row(case)
        _fill(row, decoded[case], origin, machine)
        say(_line(row))
        found.append((row, decoded[case]))
    return found


def _check(origin: Source, cases: list[BenchCase]) -> None:
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


def empty_row(case: BenchCase) -> dict:
    """A row (keys: COLUMNS) of which only the case is known."""
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


def _fill(row: dict, one: Decoded | None, origin: Source, machine: Machine) -> None:
    if one is None:
        row["status"] = "oom"
        return
    times = times_of([milliseconds for each in one.rounds for milliseconds in each.ms])
    moved = origin.weight_bytes + one.cache_bytes
    row |= {
        "prompt_tokens": one.seen,
        "vision_tokens": one.vision,
        "retention": one.retention,
        "ms_per_token": times.median,
        "ms_q1": times.q1,
        "ms_q3": times.q3,
        "ms_best": times.best,
        "rounds": len(one.rounds),
        "steps": times.count,
        "warm_up": origin.bench.warm_up,
        "preempted_per_s": times_of([each.preempted for each in one.rounds]).median,
        "tokens_per_s": row["batch"] / times.median * 1e3,
        "gb_per_s": moved / times.median / 1e6,
        "kv_bytes": one.reported,
        "kv_bytes_held": one.held,
        "peak_bytes": one.peak,
        "kernel": one.kernel,
    }
    for speed, bandwidth in zip(SPEEDS, (machine.nominal, machine.measured), strict=True):
        if bandwidth:
            row[f"floor_ms_{speed}"] = floor_ms(origin.weight_bytes, one.cache_bytes, bandwidth)
            row[f"rho_{speed}"] = row[f"floor_ms_{speed}"] / times.median


def prefill_columns(origin: Source, cases: list[BenchCase], bench: BenchSettings, say: Say) -> dict[tuple, dict]:
    """Columns of prefills of one length, by method and parameters: the same for all regimes and batches."""
    vision = cases[0].vision_tokens
    if bench.prefill_vision_tokens is not None and vision not in bench.prefill_vision_tokens:
        return {}
    names = list(dict.fromkeys((case.method, case.params) for case in cases))
    say(f"{origin.name}, {vision} vision tokens: {len(names)} prefills in turn, {bench.prefill_rounds} rounds")
    methods = [origin.method(name, dict(params)) for name, params in names]
    inputs = origin.inputs(bench.prefill_batch, vision)
    measured = interleaved_prefills(origin.model, inputs, methods, bench.prefill_warm_up, bench.prefill_rounds)
    plain = next((rounds for (name, _), rounds in zip(names, measured, strict=True) if name == "none"), None)
    found = {}
    for name, method, rounds in zip(names, methods, measured, strict=True):
        if rounds is not None:
            found[name] = _of_prefill(rounds, plain) | {"flops_vs_none": _flops(origin, method, inputs, vision, bench)}
    return found


def _of_prefill(rounds: list[PrefillTime], plain: list[PrefillTime] | None) -> dict:
    whole = times_of([each.whole for each in rounds])
    columns = {
        "prefill_ms": whole.median,
        "prefill_q1": whole.q1,
        "prefill_q3": whole.q3,
        "prefill_preempted_per_s": times_of([each.preempted for each in rounds]).median,
        "added_prefill_ms": times_of([each.added for each in rounds]).median,
        "added_share_of_prefill": times_of([each.added / each.whole for each in rounds]).median,
    }
    if plain is not None:
        same_round = [own.whole / none.whole for own, none in zip(rounds, plain, strict=True)]
        columns["prefill_vs_none"] = times_of(same_round).median
    return columns


def _flops(origin: Source, method, inputs: dict, vision: int, bench: BenchSettings) -> float:
    if method is None or not method.withdraws:
        return 1.0
    if isinstance(origin, CheckpointSource):
        lengths = origin.state(method, bench.prefill_batch, vision).lengths
    else:
        lengths = origin.lengths(method, bench.prefill_batch, vision)
    return flops_ratio(origin.shape, [layer[0] for layer in lengths])


def _line(row: dict) -> str:
    """One row as soon as it is measured."""
    what = f"  {row['regime']:9s}{row['method']:7s}{row['params']:20s}"
    if row["ms_per_token"] is None:
        return f"{what} {row['status']}"
    spread = f"{row['ms_q1']:.2f}–{row['ms_q3']:.2f}"
    return f"{what} {row['ms_per_token']:8.2f} ms ({spread})  ρ {row['rho_measured']:.2f}"
