"""Decoding of several cases in turn: who fits into memory beside whom, what each takes, and the rounds of all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from plphp_core.bench.bench_models import CheckpointSource, RandomSource
from plphp_core.bench.bench_settings import BenchCase, BenchSettings
from plphp_core.bench.decode_backends import DecodeBackend, decoding
from plphp_core.bench.interleaved_rounds import Round, in_turn
from plphp_core.bench.memory_estimate import SLACK, Peak, available_bytes, decode_bytes, is_out_of_memory
from plphp_core.bench.roofline import kv_bytes
from plphp_core.decoding.device import free_memory


@dataclass
class Decoded:
    """One case, measured.

    Attributes:
        rounds: of its steps.
        none: for each of these rounds, that of `none` beside it; empty where there is no `none`, or no room for both.
        seen, vision, retention, reported, cache_bytes: see `State`; bytes that a token reads of keys and values.
        held: bytes of the tensors behind keys and values.
        peak: most bytes in use while this case was built and warmed up, weights included, other cases not.
    """

    seen: int
    vision: int
    retention: float
    reported: int
    cache_bytes: int
    held: int
    peak: int | None
    kernel: str
    rounds: list[Round] = field(default_factory=list)
    none: list[Round] = field(default_factory=list)


def decode_in_turn(
    origin: RandomSource | CheckpointSource, cases: Sequence[BenchCase], bench: BenchSettings
) -> dict[BenchCase, Decoded | None]:
    """Decode cases of one batch and length, all in turn if they fit together, else in the `parts` that do.

    Returns:
        Per case what was measured, or None: out of memory, by estimate or in fact, even alone.
    """
    found: dict[BenchCase, Decoded | None] = {}
    _decode(origin, list(cases), bench, found)
    return found


def parts(cases: Sequence[BenchCase]) -> list[list[BenchCase]]:
    """Smaller groups: the regimes apart; then each method beside `none`; then each case alone. [] for one case."""
    regimes = {case.regime: [other for other in cases if other.regime == case.regime] for case in cases}
    if len(regimes) > 1:
        return list(regimes.values())
    plain = [case for case in cases if case.method == "none"]
    others = [case for case in cases if case.method != "none"]
    if plain and len(others) > 1:
        return [[*plain, other] for other in others]
    return [[case] for case in cases] if len(cases) > 1 else []


def _decode(origin, cases: list[BenchCase], bench: BenchSettings, found: dict[BenchCase, Decoded | None]) -> None:
    if len(cases) == 1 and cases[0] in found:  # `none`, measured beside another method
        return
    measured = None
    if _fits(origin, cases, bench):
        try:
            measured = _measured(origin, cases, bench)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
    free_memory()  # here, where the error no longer holds the frames of what failed
    if measured is None:
        smaller = parts(cases)
        if not smaller:
            found[cases[0]] = None
        for part in smaller:
            _decode(origin, part, bench, found)
        return
    plain = {case.regime: one.rounds for case, one in measured.items() if case.method == "none"}
    for case, one in measured.items():
        one.none = list(plain.get(case.regime, ()))
        if case in found and found[case] is not None:  # `none` again, beside another method
            found[case].rounds += one.rounds
            found[case].none += one.none
        else:
            found[case] = one


def _fits(origin, cases: Sequence[BenchCase], bench: BenchSettings) -> bool:
    """Whether all of them can be held at once, and one of them at a time work."""
    itemsize = origin.model.dtype.itemsize
    plans = []
    for case in cases:
        method = origin.method(case.method, dict(case.params))
        plans.append((origin.lengths(method, case.batch, case.vision_tokens), case.regime))
    return decode_bytes(origin.shape, plans, itemsize) + SLACK <= available(bench)


def available(bench: BenchSettings) -> float:
    """Bytes that a benchmark may still allocate."""
    return available_bytes(bench.device, bench.memory_gb * 1e9 if bench.memory_gb else None)


def _measured(origin, cases: Sequence[BenchCase], bench: BenchSettings) -> dict[BenchCase, Decoded]:
    peak = Peak(bench.device)
    empty = peak.in_use
    decoders: list[DecodeBackend] = []
    measured: dict[BenchCase, Decoded] = {}
    for case in cases:
        others = None if empty is None else peak.in_use - empty
        peak.reset()
        decoder, measured[case] = _prepared(origin, case, bench)
        decoders.append(decoder)
        most = peak.nbytes
        measured[case].peak = None if most is None or others is None else most - others
    rounds = in_turn(decoders, bench.device, bench.rounds, bench.steps, bench.at_least, bench.group_seconds)
    for one, of_case in zip(measured.values(), rounds, strict=True):
        one.rounds = of_case
    return measured


def _prepared(origin, case: BenchCase, bench: BenchSettings) -> tuple[DecodeBackend, Decoded]:
    """The case prefilled and warmed up."""
    method = origin.method(case.method, dict(case.params))
    state = origin.state(method, case.batch, case.vision_tokens)
    cache, state.cache = state.cache, None  # the regime owns it now, so that nothing is held twice
    arguments = (state.lengths, state.seen, method, state.tokens, state.position)
    decoder = decoding(case.regime, origin.model, cache, *arguments)
    del cache
    with decoder.on():
        for _ in range(bench.warm_up):
            decoder.step()
            decoder.rewind()
    slot_bytes = origin.shape.slot_elements * origin.model.dtype.itemsize
    return decoder, Decoded(
        seen=state.seen,
        vision=state.vision,
        retention=state.retention,
        reported=state.reported,
        cache_bytes=kv_bytes(state.lengths, slot_bytes),
        held=decoder.held,
        peak=None,
        kernel=decoder.kernel,
    )
