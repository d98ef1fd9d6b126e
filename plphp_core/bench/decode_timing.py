"""Decoding of several cases in turn: which fit into memory together, their rounds, and speed-ups within the rounds."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from plphp_core.bench.bench_settings import BenchCase
from plphp_core.bench.decode_backends import DecodeBackend, decoding
from plphp_core.bench.interleaved_rounds import interleaved, spread
from plphp_core.bench.memory_estimate import SLACK, decode_bytes, is_out_of_memory
from plphp_core.bench.random_model import RandomModel
from plphp_core.bench.roofline import MeasuredMachine, roofline_ms
from plphp_core.decoding.device import PeakMemory, free_memory

LEAST_GAP = 0.05  # of the roofline of none: where less can be gained, a share is noise divided by next to nothing
SETTLE = 1  # untimed tokens of a case at the beginning of its turn
Rounds = list[list[float]]


@dataclass
class DecodedCase:
    """One case, measured.

    Attributes:
        row: without the columns of `relate`.
        rounds: milliseconds, `[round][step]`.
        none: those of `none` of the same backend, taken in the same rounds; None where there is no room for both.
    """

    row: dict
    rounds: Rounds
    none: Rounds | None = None


def decoding_rows(
    one: RandomModel, cases: Sequence[BenchCase], machine: MeasuredMachine, say: Callable[[str], None]
) -> list[dict]:
    """A row per case; cases of one length and batch are decoded in turn by the loaded model.

    A case that does not fit, by estimate or in fact, even alone, is a row whose `status` is `oom`.
    """
    say(f"{one.name}, {cases[0].vision_tokens} vision tokens, batch {cases[0].batch}: {len(cases)} cases in turn")
    decoded = _decode(one, list(cases), machine)
    relate(list(decoded.values()))
    rows = [decoded[case].row if case in decoded else one.row(case) | {"status": "oom"} for case in cases]
    for row in rows:
        say(_line(row))
    return rows


def parts(cases: Sequence[BenchCase]) -> list[list[BenchCase]]:
    """Smaller groups: the backends apart; of one backend, each case alone. [] for one case."""
    backends = {case.backend: [other for other in cases if other.backend == case.backend] for case in cases}
    if len(backends) > 1:
        return list(backends.values())
    return [[case] for case in cases] if len(cases) > 1 else []


def _decode(one: RandomModel, cases: list[BenchCase], machine: MeasuredMachine) -> dict[BenchCase, DecodedCase]:
    """All in turn if they fit together, else in the `parts` that do; what does not fit alone is left out."""
    if _fits(one, cases):
        try:
            return _measured(one, cases, machine)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
    free_memory()  # here, where the error no longer holds the frames of what failed
    found: dict[BenchCase, DecodedCase] = {}
    for part in parts(cases):
        found |= _decode(one, part, machine)
    return found


def _fits(one: RandomModel, cases: Sequence[BenchCase]) -> bool:
    """Whether all of them can be held at once, and one of them at a time work."""
    needs = [(one.lengths(case.method, case.batch, case.vision_tokens), case.backend) for case in cases]
    return decode_bytes(one.shape, needs, one.model.dtype.itemsize) + SLACK <= one.available


def _measured(one: RandomModel, cases: Sequence[BenchCase], machine: MeasuredMachine) -> dict[BenchCase, DecodedCase]:
    bench = one.bench
    prepared = [_prepared(one, case, machine) for case in cases]
    rounds = interleaved(
        [decoder for decoder, _ in prepared],
        bench.device,
        bench.rounds,
        bench.steps,
        warm_up=bench.warm_up,
        settle=SETTLE,
        at_least=bench.at_least,
        budget_s=bench.group_seconds,
    )
    plain = {case.backend: of_case for case, of_case in zip(cases, rounds, strict=True) if case.method is None}
    found = {}
    for case, (_, row), of_case in zip(cases, prepared, rounds, strict=True):
        taken = spread([milliseconds for each in of_case for milliseconds in each])
        row |= {
            "ms_per_token": taken.median,
            "ms_q1": taken.q1,
            "ms_q3": taken.q3,
            "rounds": len(of_case),
            "tokens_per_s": case.batch / taken.median * 1e3,
            "rho": row["roofline_ms"] / taken.median,
        }
        found[case] = DecodedCase(row, of_case, plain.get(case.backend))
    return found


def _prepared(one: RandomModel, case: BenchCase, machine: MeasuredMachine) -> tuple[DecodeBackend, dict]:
    """The case prefilled, with one token decoded and forgotten; and what of its row is known before the clock runs."""
    peak = PeakMemory(one.bench.device)
    state = one.state(case.method, case.batch, case.vision_tokens)
    decoder = decoding(case.backend, one.model, state, case.method)
    with decoder.on():
        decoder.step()
        decoder.rewind()
    itemsize = one.bench.torch_dtype.itemsize
    return decoder, one.row(case) | {
        "retention": state.retention,
        "roofline_ms": roofline_ms(one.shape.token_parameters * itemsize, state.kv_bytes, machine.bandwidth),
        "kv_bytes": state.kv_bytes,
        "kv_bytes_held": decoder.held,
        "peak_bytes": None if (beside := peak.bytes()) is None else beside + one.weight_bytes,
        "kernel": decoder.kernel,
    }


def relate(decoded: Sequence[DecodedCase]) -> None:
    """Fill in, in place, the columns that need the row of `none` of the same backend, at the same length and batch.

    Where `none` was measured apart, since the two did not fit into memory together, speed-up and share come from the
    medians, and the speed-up has no quartiles. Where the rooflines differ by less than LEAST_GAP there is no share.
    """
    plain = {one.row["backend"]: one.row for one in decoded if one.row["method"] == "none"}
    for one in decoded:
        row, none = one.row, plain.get(one.row["backend"])
        if none is None:
            continue
        pairs = [(none["ms_per_token"], row["ms_per_token"])]
        if one.none is not None:
            pairs = [
                (statistics.median(plain_round), statistics.median(own))
                for plain_round, own in zip(one.none, one.rounds, strict=True)
            ]
        gain = spread([other / own for other, own in pairs])
        row |= {"speed_up": gain.median, "ideal_speed_up": none["roofline_ms"] / row["roofline_ms"]}
        if one.none is not None:
            row |= {"speed_up_q1": gain.q1, "speed_up_q3": gain.q3}
        gap = none["roofline_ms"] - row["roofline_ms"]
        if gap >= LEAST_GAP * none["roofline_ms"]:
            row["share_of_ideal"] = statistics.median(other - own for other, own in pairs) / gap


def _line(row: dict) -> str:
    what = f"  {row['backend']:9s}{row['method']:7s}{row['params']:20s}"
    if row["status"] != "ok":
        return f"{what} {row['status']}"
    return f"{what} {row['ms_per_token']:8.2f} ms ({row['ms_q1']:.2f}–{row['ms_q3']:.2f})  ρ {row['rho']:.2f}"
