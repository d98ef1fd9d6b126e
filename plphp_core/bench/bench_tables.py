"""Rows to csv and markdown."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Sequence

from plphp_core.bench.bench_machine import Machine

MISSING = "n/a"
DISTURBED = 100  # preemptions per second; an idle machine shows some 30
READING = """\
The cases of a batch take turns: in every round each decodes a few tokens. Milliseconds: over all timed tokens, wall
time. Speed-up and share: against none of the same regime *in the same round*, median (quartiles) over the rounds;
without quartiles: not measured together. Floor: (decoder weights + head + keys and values actually held) / bandwidth;
ρ = floor / measured; ideal: of the floors; share: (t_none − t) / (floor_none − floor), where these differ by 5 % or
more. Preempted: times per second that the system gave a core of this process to another one; idle: some 30.
"""


def to_csv(rows: Sequence[dict], columns: Sequence[str]) -> str:
    """All columns, numbers with eight digits, n/a where there is none."""
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_plain(row[name]) for name in columns])
    return target.getvalue()


def speed_markdown(rows: Sequence[dict], machine: Machine, command: str, seconds: float) -> str:
    """Where it was measured; decoding, a table per model and length; prefill."""
    parts = [_head("Decoding beside its floor", machine, command, seconds)]
    warning = disturbance(rows)
    if warning:
        parts.append(f"**{warning}**\n")
    parts.append(READING)
    for model, vision in dict.fromkeys((row["model"], row["vision_tokens"]) for row in rows):
        of_length = [row for row in rows if (row["model"], row["vision_tokens"]) == (model, vision)]
        prompt = next((row["prompt_tokens"] for row in of_length if row["prompt_tokens"]), None)
        parts.append(f"## {model}, {vision} vision tokens of {prompt or 'n/a'}\n")
        parts.append(table(of_length, DECODE))
    prefills = _prefills(rows)
    if prefills:
        parts.append(
            "## Prefill\n\nMethods take turns; of none: in the same round, median. Added: the method's own work within "
            "the prefill (reading the prompt, scores, choice, gather). In tokens: of `none` in the fast regime at the "
            "same batch.\n"
        )
        parts.append(table(prefills, PREFILL))
    return "\n".join(parts)


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


def capacity_markdown(rows: Sequence[dict], note: str, command: str) -> str:
    """Largest batches."""
    return "\n".join([f"# The largest batch that fits\n\n{note}\n\nCommand: `{command}`\n", table(rows, CAPACITY)])


def _head(title: str, machine: Machine, command: str, seconds: float) -> str:
    nominal = f"{machine.nominal / 1e9:.0f} GB/s" if machine.nominal else MISSING
    notes = ", ".join(f"{name} {value}" for name, value in machine.notes.items())
    lines = [
        f"# {title}\n",
        f"Device: {machine.name}; memory: nominal {nominal}, measured {machine.measured / 1e9:.1f} GB/s; {notes}.\n",
        f"Command: `{command}`, {seconds:.0f} s.\n",
    ]
    return "\n".join(lines)


def _prefills(rows: Sequence[dict]) -> list[dict]:
    """One row per measured prefill, preferably of the fast regime, whose tokens it is told in."""
    found: dict[tuple, dict] = {}
    for row in rows:
        if row["prefill_ms"] is not None:
            key = (row["model"], row["vision_tokens"], row["method"], row["params"])
            if key not in found or (row["regime"] == "fast" and found[key]["regime"] != "fast"):
                found[key] = row
    return list(found.values())


def _number(digits: int):
    return lambda value: f"{value:.{digits}f}"


def _times(value: float) -> str:
    return f"{value:.2f}×"


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _mb(value: int) -> str:
    return f"{value / 1e6:.1f}"


# Heading → column(s) and how to write it.
DECODE = {
    "regime": ("regime", str),
    "method": ("method", str),
    "parameters": ("params", str),
    "batch": ("batch", str),
    "kept": ("retention", _percent),
    "": ("status", lambda value: "" if value == "ok" else value),
    "ms/token": ("ms_per_token", _number(2)),
    "25 %": ("ms_q1", _number(2)),
    "75 %": ("ms_q3", _number(2)),
    "best": ("ms_best", _number(2)),
    "rounds": ("rounds", str),
    "steps": ("steps", str),
    "preempted/s": ("preempted_per_s", _number(0)),
    "tokens/s": ("tokens_per_s", _number(1)),
    "GB/s": ("gb_per_s", _number(1)),
    "floor, measured": ("floor_ms_measured", _number(2)),
    "ρ nominal": ("rho_nominal", _number(2)),
    "ρ measured": ("rho_measured", _number(2)),
    "speed-up": ("speed_up", _times),
    "its 25 %": ("speed_up_q1", _times),
    "its 75 %": ("speed_up_q3", _times),
    "ideal": ("ideal_speed_up", _times),
    "share": ("share_of_ideal_measured", _percent),
    "share, nominal": ("share_of_ideal_nominal", _percent),
    "KV MB": ("kv_bytes", _mb),
    "held MB": ("kv_bytes_held", _mb),
    "peak MB": ("peak_bytes", _mb),
    "kernel": ("kernel", str),
}
PREFILL = {
    "model": ("model", str),
    "vision": ("vision_tokens", str),
    "method": ("method", str),
    "parameters": ("params", str),
    "prefill ms": ("prefill_ms", _number(1)),
    "25 %": ("prefill_q1", _number(1)),
    "75 %": ("prefill_q3", _number(1)),
    "of none": ("prefill_vs_none", _percent),
    "preempted/s": ("prefill_preempted_per_s", _number(0)),
    "FLOPs of none": ("flops_vs_none", _percent),
    "added ms": ("added_prefill_ms", _number(2)),
    "of prefill": ("added_share_of_prefill", _percent),
    "added tokens": ("added_decode_tokens", _number(3)),
}
CAPACITY = {
    "model": ("model", str),
    "vision": ("vision_tokens", str),
    "method": ("method", str),
    "parameters": ("params", str),
    "kept": ("retention", _percent),
    "weights GB": ("weights_gb", _number(1)),
    "KV MB per sample": ("kv_mb_per_sample", _number(1)),
    "largest batch": ("largest_batch", str),
    "of none": ("times_none", _times),
    "tried on the device": ("tried", str),
}


def table(rows: Sequence[dict], columns: dict) -> str:
    """Rows as Markdown; `columns`: heading → name in the row and how its value is written; None is n/a."""
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    for row in rows:
        cells = [MISSING if row[name] is None else write(row[name]) for name, write in columns.values()]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _plain(value) -> str:
    if value is None:
        return MISSING
    return f"{value:.8g}" if isinstance(value, float) else str(value)
