"""Decoding of several cases in turn: who fits into memory beside whom, the rounds of all, and speed-ups within them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from plphp_core.bench.bench_models import BenchModel
from plphp_core.bench.bench_settings import BenchCase, BenchSettings
from plphp_core.bench.decode_backends import DecodeBackend, decoding
from plphp_core.bench.interleaved_rounds import Round, Times, in_turn, times_of
from plphp_core.bench.memory_estimate import SLACK, Peak, available_bytes, decode_bytes, is_out_of_memory
from plphp_core.bench.roofline import kv_bytes
from plphp_core.decoding.device import free_memory

SPEEDS = ("nominal", "measured")
LEAST_GAP = 0.05  # of the roofline of none: where less can be gained, a share is noise divided by next to nothing


@dataclass
class DecodedCase:
    """One case, measured.

    Attributes:
        rounds: of its steps.
        none: for each of these rounds, that of `none` beside it; empty where there is no `none`, or no room for both.
        seen, vision, retention, reported: see `PrefilledState`.
        cache_bytes: bytes that a token reads of keys and values.
        held: bytes of the tensors behind keys and values.
        peak: most bytes in use while this case was built and warmed up, weights included, other cases not.
    """

    seen: int
    vision: int
    retention: float
    reported: int
    cache_bytes: int
    held: int
    kernel: str
    peak: int | None = None
    rounds: list[Round] = field(default_factory=list)
    none: list[Round] = field(default_factory=list)


def decode_in_turn(
    one: BenchModel, cases: Sequence[BenchCase], bench: BenchSettings
) -> dict[BenchCase, DecodedCase | None]:
    """Decode cases of one batch and length, all in turn if they fit together, else in the `parts` that do.

    Returns:
        Per case what was measured, or None: out of memory, by estimate or in fact, even alone.
    """
    found: dict[BenchCase, DecodedCase | None] = {}
    _decode(one, list(cases), bench, found)
    return found


def parts(cases: Sequence[BenchCase]) -> list[list[BenchCase]]:
    """Smaller groups: the backends apart; then each method beside `none`; then each case alone. [] for one case."""
    backends = {case.backend: [other for other in cases if other.backend == case.backend] for case in cases}
    if len(backends) > 1:
        return list(backends.values())
    plain = [case for case in cases if case.method == "none"]
    others = [case for case in cases if case.method != "none"]
    if plain and len(others) > 1:
        return [[*plain, other] for other in others]
    return [[case] for case in cases] if len(cases) > 1 else []


def _decode(
    one: BenchModel, cases: list[BenchCase], bench: BenchSettings, found: dict[BenchCase, DecodedCase | None]
) -> None:
    if len(cases) == 1 and cases[0] in found:  # `none`, measured beside another method
        return
    measured = None
    if _fits(one, cases, bench):
        try:
            measured = _measured(one, cases, bench)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
    free_memory()  # here, where the error no longer holds the frames of what failed
    if measured is None:
        smaller = parts(cases)
        if not smaller:
            found[cases[0]] = None
        for part in smaller:
            _decode(one, part, bench, found)
        return
    plain = {case.backend: decoded.rounds for case, decoded in measured.items() if case.method == "none"}
    for case, decoded in measured.items():
        decoded.none = list(plain.get(case.backend, ()))
        if (earlier := found.get(case)) is not None:  # `none` again, beside another method
            earlier.rounds += decoded.rounds
            earlier.none += decoded.none
        else:
            found[case] = decoded


def available(bench: BenchSettings) -> float:
    """Bytes that a benchmark may still allocate."""
    return available_bytes(bench.device, bench.memory_gb * 1e9 if bench.memory_gb else None)


def _fits(one: BenchModel, cases: Sequence[BenchCase], bench: BenchSettings) -> bool:
    """Whether all of them can be held at once, and one of them at a time work."""
    needs = []
    for case in cases:
        method = one.method(case.method, dict(case.params))
        needs.append((one.lengths(method, case.batch, case.vision_tokens), case.backend))
    return decode_bytes(one.shape, needs, one.model.dtype.itemsize) + SLACK <= available(bench)


def _measured(one: BenchModel, cases: Sequence[BenchCase], bench: BenchSettings) -> dict[BenchCase, DecodedCase]:
    peak = Peak(bench.device)
    empty = peak.in_use
    decoders: list[DecodeBackend] = []
    measured: dict[BenchCase, DecodedCase] = {}
    for case in cases:
        in_use = peak.in_use
        others = None if empty is None or in_use is None else in_use - empty
        peak.reset()
        decoder, measured[case] = _prepared(one, case, bench)
        decoders.append(decoder)
        most = peak.nbytes
        measured[case].peak = None if most is None or others is None else most - others
    rounds = in_turn(decoders, bench.device, bench.rounds, bench.steps, bench.at_least, bench.group_seconds)
    for decoded, of_case in zip(measured.values(), rounds, strict=True):
        decoded.rounds = of_case
    return measured


def _prepared(one: BenchModel, case: BenchCase, bench: BenchSettings) -> tuple[DecodeBackend, DecodedCase]:
    """The case prefilled and warmed up."""
    method = one.method(case.method, dict(case.params))
    state = one.state(method, case.batch, case.vision_tokens)
    decoder = decoding(case.backend, one.model, state, method)
    with decoder.on():
        for _ in range(bench.warm_up):
            decoder.step()
            decoder.rewind()
    slot_bytes = one.shape.slot_elements * one.model.dtype.itemsize
    return decoder, DecodedCase(
        seen=state.seen,
        vision=state.vision,
        retention=state.retention,
        reported=state.reported,
        cache_bytes=kv_bytes(state.lengths, slot_bytes),
        held=decoder.held,
        kernel=decoder.kernel,
    )


def relate(rows: Sequence[dict], measured: Sequence[DecodedCase | None], prefill_batch: int) -> None:
    """Fill in, in place, the columns that need the row of `none` of the same backend, model, batch and length.

    Where `none` was measured apart, since the two did not fit into memory together, speed-up and share come from the
    medians, and the speed-up has no quartiles. `added_decode_tokens` divides what a prefill of `prefill_batch` prompts
    costs more by the time of one token of `none` at that batch. Where the rooflines differ by less than LEAST_GAP there
    is no share.

    Args:
        measured: what each row came from; None: nothing was measured.
    """
    same = ("model", "backend", "batch", "vision_tokens")
    plain = {tuple(row[name] for name in same): row for row in rows if row["method"] == "none"}
    for row, decoded in zip(rows, measured, strict=True):
        none = plain.get(tuple(row[name] for name in same))
        alone = plain.get((row["model"], row["backend"], prefill_batch, row["vision_tokens"]))
        if alone is not None and alone["ms_per_token"] and row["added_prefill_ms"] is not None:
            row["added_decode_tokens"] = row["added_prefill_ms"] / alone["ms_per_token"]
        if decoded is None or none is None or not none["ms_per_token"]:
            continue
        row["ideal_speed_up"] = none["roofline_ms_measured"] / row["roofline_ms_measured"]
        if decoded.none:
            pairs = list(zip(decoded.rounds, decoded.none, strict=True))
            gain: Times = times_of([other.median / own.median for own, other in pairs])
            row |= {"speed_up": gain.median, "speed_up_q1": gain.q1, "speed_up_q3": gain.q3}
            saved = times_of([other.median - own.median for own, other in pairs]).median
        else:
            row["speed_up"] = none["ms_per_token"] / row["ms_per_token"]
            saved = none["ms_per_token"] - row["ms_per_token"]
        for speed in SPEEDS:
            whole, least = none[f"roofline_ms_{speed}"], row[f"roofline_ms_{speed}"]
            if whole and least and whole - least >= LEAST_GAP * whole:
                row[f"share_of_ideal_{speed}"] = saved / (whole - least)
