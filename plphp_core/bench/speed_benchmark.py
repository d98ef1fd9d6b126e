"""The speed presets: a model, a length and a batch at a time, prefills first, then decoding beside its roofline."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Sequence

from plphp_core.bench.bench_models import BenchModel, RandomModel, bench_model
from plphp_core.bench.bench_settings import BenchCase, BenchSettings
from plphp_core.bench.bench_tables import (
    BenchColumn,
    BenchResult,
    bench_table,
    megabytes,
    number,
    percent,
    times,
    whole,
)
from plphp_core.bench.decoder_shapes import token_weight_bytes
from plphp_core.bench.interleaved_decoding import SPEEDS, DecodedCase, available, decode_in_turn, relate
from plphp_core.bench.interleaved_rounds import times_of
from plphp_core.bench.prefill_timing import prefill_columns
from plphp_core.bench.roofline import MeasuredMachine, load_averages, measure_machine, roofline_ms
from plphp_core.decoding.device import free_memory
from plphp_core.records.errors import UserError
from plphp_core.reporting.table_model import Table

DISTURBED = 100  # preemptions per second; an idle machine shows some 30
READING = """\
The cases of a batch take turns: in every round each decodes a few tokens. Milliseconds: over all timed tokens, wall
time. Speed-up and share: against none of the same backend *in the same round*, median (quartiles) over the rounds;
without quartiles: not measured together. Roofline: (decoder weights + head + keys and values actually held) /
bandwidth; ρ = roofline / measured; ideal: of the rooflines; share: (t_none − t) / (roofline_none − roofline), where
these differ by 5 % or more. Preempted: times per second that the system gave a core of this process to another one;
idle: some 30."""
OF_PREFILL = (
    "Methods take turns; of none: in the same round, median.",
    "Added: the method's own work within the prefill (reading the prompt, scores, choice, gather). In tokens: of none "
    "in the fast backend at the same batch.",
)
DECODE_COLUMNS = (
    BenchColumn("backend", "backend"),
    BenchColumn("method", "method"),
    BenchColumn("params", "parameters"),
    BenchColumn("batch", "batch", whole),
    BenchColumn("prompt_tokens"),
    BenchColumn("retention", "kept", percent),
    BenchColumn("status", "status"),
    BenchColumn("ms_per_token", "ms/token", number(2)),
    BenchColumn("ms_q1", "25 %", number(2)),
    BenchColumn("ms_q3", "75 %", number(2)),
    BenchColumn("ms_best", "best", number(2)),
    BenchColumn("rounds", "rounds", whole),
    BenchColumn("steps", "steps", whole),
    BenchColumn("warm_up"),
    BenchColumn("preempted_per_s", "preempted/s", number(0)),
    BenchColumn("tokens_per_s", "tokens/s", number(1)),
    BenchColumn("gb_per_s", "GB/s", number(1)),
    BenchColumn("roofline_ms_nominal"),
    BenchColumn("roofline_ms_measured", "roofline, measured", number(2)),
    BenchColumn("rho_nominal", "ρ nominal", number(2)),
    BenchColumn("rho_measured", "ρ measured", number(2)),
    BenchColumn("speed_up", "speed-up", times),
    BenchColumn("speed_up_q1", "its 25 %", times),
    BenchColumn("speed_up_q3", "its 75 %", times),
    BenchColumn("ideal_speed_up", "ideal", times),
    BenchColumn("share_of_ideal_measured", "share", percent),
    BenchColumn("share_of_ideal_nominal", "share, nominal", percent),
    BenchColumn("kv_bytes", "KV MB", megabytes),
    BenchColumn("kv_bytes_held", "held MB", megabytes),
    BenchColumn("peak_bytes", "peak MB", megabytes),
    BenchColumn("kernel", "kernel"),
)
PREFILL_COLUMNS = (
    BenchColumn("model", "model"),
    BenchColumn("vision_tokens", "vision", whole),
    BenchColumn("method", "method"),
    BenchColumn("params", "parameters"),
    BenchColumn("prefill_ms", "prefill ms", number(1)),
    BenchColumn("prefill_q1", "25 %", number(1)),
    BenchColumn("prefill_q3", "75 %", number(1)),
    BenchColumn("prefill_vs_none", "of none", percent),
    BenchColumn("prefill_preempted_per_s", "preempted/s", number(0)),
    BenchColumn("flops_vs_none", "FLOPs of none", percent),
    BenchColumn("added_prefill_ms", "added ms", number(2)),
    BenchColumn("added_share_of_prefill", "of prefill", percent),
    BenchColumn("added_decode_tokens", "added tokens", number(3)),
)
SPEED_COLUMNS = (*PREFILL_COLUMNS[:2], *DECODE_COLUMNS, *PREFILL_COLUMNS)
COLUMNS = tuple(dict.fromkeys(column.name for column in SPEED_COLUMNS))

Say = Callable[[str], None]


def speed_benchmark(bench: BenchSettings, say: Say = print) -> BenchResult:
    """Measure the machine, every case, and say where the numbers are disturbed."""
    machine = measure_machine(bench.device, bench.dtype, bench.bandwidth_mb)
    rows = measure(bench, machine, say)
    if "load before" in machine.notes:
        machine.notes["load after"] = load_averages()
    notes = [f"Device: {machine.name}; memory: {machine.memory}; {machine.facts}."]
    warning = disturbance(rows)
    if warning:
        say(f"warning: {warning}")
        notes.append(f"**{warning}**")
    return BenchResult(
        "Decoding beside its roofline", machine.name, rows, SPEED_COLUMNS, [*notes, READING], speed_tables(rows)
    )


def measure(bench: BenchSettings, machine: MeasuredMachine, say: Say = print) -> list[dict]:
    """One row (keys: COLUMNS) per case; values that do not exist are None.

    A case that does not fit, by estimate or in fact, is a row whose `status` is `oom`.
    """
    groups = [
        (bench_model(name, bench), list(cases)) for name, cases in itertools.groupby(bench.cases, lambda c: c.model)
    ]
    for one, cases in groups:
        if isinstance(one, RandomModel):  # before the first model is built
            _check(one, cases)
    measured: list[tuple[dict, DecodedCase | None]] = []
    while groups:  # a model is let go before the next one is built
        one, cases = groups.pop(0)
        measured += _measure_model(one, cases, bench, machine, say)
        del one
        free_memory()
    rows = [row for row, _ in measured]
    relate(rows, [decoded for _, decoded in measured], bench.prefill_batch)
    return rows


def _measure_model(
    one: BenchModel, cases: list[BenchCase], bench: BenchSettings, machine: MeasuredMachine, say: Say
) -> list[tuple[dict, DecodedCase | None]]:
    needed, free = one.model_bytes, available(bench)
    if needed > free:
        say(f"{one.name}: oom: its weights need {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free")
        return [(empty_row(case) | {"status": "oom"}, None) for case in cases]
    say(f"{one.name}: loading")
    one.load()
    _check(one, cases)
    found: dict[BenchCase, tuple[dict, DecodedCase | None]] = {}
    for vision in dict.fromkeys(case.vision_tokens for case in cases):
        of_length = [case for case in cases if case.vision_tokens == vision]
        columns = prefill_columns(one, of_length, bench, say)
        for batch in dict.fromkeys(case.batch for case in of_length):
            group = [case for case in of_length if case.batch == batch]
            for case, (row, decoded) in zip(group, decoding_rows(one, group, bench, machine, say), strict=True):
                row |= columns.get((case.method, case.params), {}) if decoded is not None else {}
                found[case] = row, decoded
    return [found[case] for case in cases]


def _check(one: BenchModel, cases: list[BenchCase]) -> None:
    """Raise UserError where a method does not fit the model's layers, or random weights cannot tell what it keeps."""
    for name, params, vision in dict.fromkeys((case.method, case.params, case.vision_tokens) for case in cases):
        method = one.method(name, dict(params))
        try:
            if method is not None:
                method.check(one.shape.layers)
        except ValueError as error:
            raise UserError(f"{one.name}: {error}") from None
        if isinstance(one, RandomModel):
            one.lengths(method, 1, vision)


def decoding_rows(
    one: BenchModel, cases: list[BenchCase], bench: BenchSettings, machine: MeasuredMachine, say: Say
) -> list[tuple[dict, DecodedCase | None]]:
    """Rows of cases of one length and batch, decoded in turn by the loaded model, without the columns of `relate`."""
    say(f"{one.name}, {cases[0].vision_tokens} vision tokens, batch {cases[0].batch}: {len(cases)} cases in turn")
    measured = decode_in_turn(one, cases, bench)
    found = []
    for case in cases:
        row, decoded = empty_row(case), measured[case]
        row |= {"status": "oom"} if decoded is None else _decoded_columns(decoded, case.batch, one, machine)
        say(_line(row))
        found.append((row, decoded))
    return found


def empty_row(case: BenchCase) -> dict:
    """A row (keys: COLUMNS) of which only the case is known."""
    return dict.fromkeys(COLUMNS) | {
        "model": case.model,
        "backend": case.backend,
        "method": case.method,
        "params": case.shown_params,
        "batch": case.batch,
        "vision_tokens": case.vision_tokens,
        "status": "ok",
    }


def _decoded_columns(decoded: DecodedCase, batch: int, one: BenchModel, machine: MeasuredMachine) -> dict:
    taken = times_of([milliseconds for each in decoded.rounds for milliseconds in each.ms])
    weights = token_weight_bytes(one.model)
    columns = {
        "prompt_tokens": decoded.seen,
        "vision_tokens": decoded.vision,
        "retention": decoded.retention,
        "ms_per_token": taken.median,
        "ms_q1": taken.q1,
        "ms_q3": taken.q3,
        "ms_best": taken.best,
        "rounds": len(decoded.rounds),
        "steps": taken.count,
        "warm_up": one.bench.warm_up,
        "preempted_per_s": times_of([each.preempted for each in decoded.rounds]).median,
        "tokens_per_s": batch / taken.median * 1e3,
        "gb_per_s": (weights + decoded.cache_bytes) / taken.median / 1e6,
        "kv_bytes": decoded.reported,
        "kv_bytes_held": decoded.held,
        "peak_bytes": decoded.peak,
        "kernel": decoded.kernel,
    }
    for speed, bandwidth in zip(SPEEDS, (machine.nominal, machine.measured), strict=True):
        if bandwidth:
            roofline = roofline_ms(weights, decoded.cache_bytes, bandwidth)
            columns |= {f"roofline_ms_{speed}": roofline, f"rho_{speed}": roofline / taken.median}
    return columns


def _line(row: dict) -> str:
    """One row as soon as it is measured."""
    what = f"  {row['backend']:9s}{row['method']:7s}{row['params']:20s}"
    if row["ms_per_token"] is None:
        return f"{what} {row['status']}"
    spread = f"{row['ms_q1']:.2f}–{row['ms_q3']:.2f}"
    return f"{what} {row['ms_per_token']:8.2f} ms ({spread})  ρ {row['rho_measured']:.2f}"


def speed_tables(rows: Sequence[dict]) -> list[Table]:
    """Decoding, a table per model and length; prefills."""
    tables = []
    for model, vision in dict.fromkeys((row["model"], row["vision_tokens"]) for row in rows):
        of_length = [row for row in rows if (row["model"], row["vision_tokens"]) == (model, vision)]
        prompt = next((row["prompt_tokens"] for row in of_length if row["prompt_tokens"]), None)
        title = f"{model}, {vision} vision tokens of {prompt or 'n/a'}"
        tables.append(bench_table(title, DECODE_COLUMNS, of_length))
    prefills: dict[tuple, dict] = {}  # one row each, preferably of the fast backend, whose tokens it is told in
    for row in sorted(rows, key=lambda row: row["backend"] != "fast"):
        if row["prefill_ms"] is not None:
            prefills.setdefault((row["model"], row["vision_tokens"], row["method"], row["params"]), row)
    if prefills:
        tables.append(bench_table("Prefill", PREFILL_COLUMNS, list(prefills.values()), OF_PREFILL))
    return tables


def disturbance(rows: Sequence[dict]) -> str | None:
    """A warning if other programs computed on the same cores in the median row of decoding, or of prefills."""
    worst = 0.0
    for name in ("preempted_per_s", "prefill_preempted_per_s"):
        found = [row[name] for row in rows if row[name] is not None]
        worst = max(worst, statistics.median(found) if found else 0.0)
    if worst <= DISTURBED:
        return None
    return (
        f"Disturbed: the system gave this process's cores to other programs {worst:.0f} times per second (idle: under "
        f"{DISTURBED}). Times are longer than on an idle machine; measure again."
    )
