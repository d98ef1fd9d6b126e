"""The speed presets: a model, a length and a batch at a time, prefills first, then decoding beside its roofline."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from plphp_core.bench.bench_settings import BenchSettings
from plphp_core.bench.bench_tables import BenchColumn, BenchResult, bench_table, decimals, megabytes, share, times
from plphp_core.bench.decode_timing import decoding_rows
from plphp_core.bench.interleaved_rounds import Preemptions
from plphp_core.bench.prefill_timing import add_decode_tokens, prefill_rows
from plphp_core.bench.random_model import RandomModel
from plphp_core.bench.roofline import MeasuredMachine, measure_machine
from plphp_core.decoding.device import free_memory
from plphp_core.reporting.table_model import Table

READING = """\
The cases of a batch take turns: in every round each decodes a few tokens. Milliseconds: over all timed tokens, wall
time. Speed-up and share: against none of the same backend *in the same round*, median (quartiles) over the rounds;
without quartiles: not measured together. Roofline: (decoder weights + head + keys and values actually held) /
bandwidth, nominal where it is known; ρ = roofline / measured; ideal: of the rooflines; share: (t_none − t) /
(roofline_none − roofline), where these differ by 5 % or more."""
OF_PREFILL = (
    "Methods take turns; of none: in the same round, median. Its operations: of none too, by the tokens that come into "
    "each layer; vision tower and head not counted. Peak: the most memory in use at once, beside "
    "model and prompt.",
    "Added: the method's own work within the prefill (reading the prompt, scores, choice, gather). In tokens: of none "
    "in the fast backend at batch 1.",
)
DECODE_COLUMNS = (
    BenchColumn("backend", "backend"),
    BenchColumn("method", "method"),
    BenchColumn("params", "parameters"),
    BenchColumn("batch", "batch", decimals(0)),
    BenchColumn("prompt_tokens"),
    BenchColumn("retention", "kept", share),
    BenchColumn("status", "status"),
    BenchColumn("ms_per_token", "ms/token", decimals(2)),
    BenchColumn("ms_q1", "25 %", decimals(2)),
    BenchColumn("ms_q3", "75 %", decimals(2)),
    BenchColumn("rounds", "rounds", decimals(0)),
    BenchColumn("tokens_per_s", "tokens/s", decimals(1)),
    BenchColumn("roofline_ms", "roofline", decimals(2)),
    BenchColumn("rho", "ρ", decimals(2)),
    BenchColumn("speed_up", "speed-up", times),
    BenchColumn("speed_up_q1", "its 25 %", times),
    BenchColumn("speed_up_q3", "its 75 %", times),
    BenchColumn("ideal_speed_up", "ideal", times),
    BenchColumn("share_of_ideal", "share", share),
    BenchColumn("kv_bytes", "KV MB", megabytes),
    BenchColumn("kv_bytes_held", "held MB", megabytes),
    BenchColumn("peak_bytes", "peak MB", megabytes),
    BenchColumn("kernel", "kernel"),
)
PREFILL_COLUMNS = (
    BenchColumn("model", "model"),
    BenchColumn("vision_tokens", "vision", decimals(0)),
    BenchColumn("method", "method"),
    BenchColumn("params", "parameters"),
    BenchColumn("status", "status"),
    BenchColumn("prefill_ms", "prefill ms", decimals(1)),
    BenchColumn("prefill_q1", "25 %", decimals(1)),
    BenchColumn("prefill_q3", "75 %", decimals(1)),
    BenchColumn("prefill_vs_none", "of none", share),
    BenchColumn("operations_vs_none", "its operations", share),
    BenchColumn("flops_vs_none", "by FastV's formula", share),
    BenchColumn("prefill_peak_bytes", "peak MB", megabytes),
    BenchColumn("added_prefill_ms", "added ms", decimals(2)),
    BenchColumn("added_share_of_prefill", "of prefill", share),
    BenchColumn("added_decode_tokens", "added tokens", decimals(3)),
)
SPEED_COLUMNS = (*PREFILL_COLUMNS[:2], *DECODE_COLUMNS, *PREFILL_COLUMNS[5:])

Say = Callable[[str], None]


def speed_benchmark(bench: BenchSettings, say: Say = print) -> BenchResult:
    """Measure the machine and every case, and say where the numbers are disturbed."""
    machine = measure_machine(bench.device, bench.dtype, bench.bandwidth_mb)
    notes = [f"Device: {machine.name}; memory: {machine.memory}; {machine.facts}."]
    preemptions = Preemptions()
    rows = measure(bench, machine, say)
    if warning := preemptions.warning:
        say(f"warning: {warning}")
        notes.append(f"**{warning}**")
    return BenchResult(
        "Decoding beside its roofline", machine.name, rows, SPEED_COLUMNS, [*notes, READING], speed_tables(rows)
    )


def measure(bench: BenchSettings, machine: MeasuredMachine, say: Say = print) -> list[dict]:
    """One row per case, and one per prefill (`backend` is "prefill"); a value that does not exist has no key, or None.

    A case that does not fit, by estimate or in fact, is a row whose `status` is `oom`.
    """
    decoded: list[dict] = []
    prefills: list[dict] = []
    for name, of_model in itertools.groupby(bench.cases, lambda case: case.model):
        one, cases = RandomModel(name, bench), list(of_model)
        if one.weight_bytes > one.available:
            say(f"{name}: oom: its weights need {one.weight_bytes / 1e9:.1f} GB, {one.available / 1e9:.1f} GB are free")
            decoded += [one.row(case) | {"status": "oom"} for case in cases]
            continue
        say(f"{name}: loading")
        one.load()
        for _, of_length in itertools.groupby(cases, lambda case: case.vision_tokens):
            same_length = list(of_length)
            prefills += prefill_rows(one, same_length, say)
            for _, of_batch in itertools.groupby(same_length, lambda case: case.batch):
                decoded += decoding_rows(one, list(of_batch), machine, say)
        del one  # a model is let go before the next one is built
        free_memory()
    add_decode_tokens(prefills, decoded)
    return decoded + prefills


def speed_tables(rows: Sequence[dict]) -> list[Table]:
    """Decoding, a table per model and length; prefills."""
    decoded = [row for row in rows if row["backend"] != "prefill"]
    tables = []
    for model, vision in dict.fromkeys((row["model"], row["vision_tokens"]) for row in decoded):
        of_length = [row for row in decoded if (row["model"], row["vision_tokens"]) == (model, vision)]
        title = f"{model}, {vision} vision tokens of {of_length[0]['prompt_tokens']}"
        tables.append(bench_table(title, DECODE_COLUMNS, of_length))
    if prefills := [row for row in rows if row["backend"] == "prefill"]:
        tables.append(bench_table("Prefill", PREFILL_COLUMNS, prefills, OF_PREFILL))
    return tables
