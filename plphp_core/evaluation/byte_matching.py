"""Methods brought to the same bytes: parameters searched on prefills alone, before any cell is answered."""

from __future__ import annotations

import logging
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from plphp_core.config.equal_bytes import DIGITS, NONE, ByteSearch, Contender, EqualBytes
from plphp_core.config.run_settings import MethodSettings, Run, Settings, distinct
from plphp_core.decoding.fast_generate import prefill
from plphp_core.decoding.shared_prefill import SharedPrefill, can_share
from plphp_core.evaluation.cell_spec import CellSpec
from plphp_core.evaluation.distributed import Ranks
from plphp_core.evaluation.encoding import encode, prepare
from plphp_core.evaluation.lmms_tasks import Suite, TaskFacts
from plphp_core.evaluation.loading import LoadedModel, LoadOnce
from plphp_core.evaluation.logs import logging_to
from plphp_core.evaluation.progress import Display
from plphp_core.evaluation.requests import Failure, Request, batches
from plphp_core.pruning.hooks import prune
from plphp_core.pruning.prompt import sample_keys
from plphp_core.records.byte_matches import (
    TOLERANCE,
    ByteMatch,
    ByteMatches,
    MeasuredBytes,
    load_matches,
    matches_path,
)
from plphp_core.records.errors import ReportError, RunError
from plphp_core.records.record import digest
from plphp_core.records.revisions import Fingerprints, checkpoint_identity

log = logging.getLogger("plphp.byte_matching")

ROUNDS = 40

# Tries a value and is told the mean bytes, or why there are none; returns the value found, or why there is none.
Search = Generator[float, float | str, float | str]


def searched(search: ByteSearch, high: float, wanted: float, full: float) -> Search:
    """The value of a parameter under which `wanted` bytes are held, within TOLERANCE.

    What is held is taken to rise or to fall with the parameter. Between two values around it the next one lies on the
    line through them (regula falsi with Illinois' halving); whole numbers are bisected.

    Args:
        high: the largest value; full: bytes of the whole cache, which messages give shares of.
    """
    tried: dict[float, float] = {}
    for value in (search.low, high):
        held = yield value
        if isinstance(held, str):
            return f"{search.parameter} = {value:g}: {held}"
        tried[value] = held
    (low, below), (high, above) = ((value, held - wanted) for value, held in tried.items())
    least, most = min(tried, key=tried.__getitem__), max(tried, key=tried.__getitem__)
    for value, word, outside in ((least, "least", tried[least] > wanted), (most, "most", tried[most] < wanted)):
        if outside and abs(tried[value] - wanted) > TOLERANCE * wanted:
            return f"holds at {word} {tried[value] / full:.1%} of the KV bytes ({search.parameter} = {value:g})"
    for _ in range(ROUNDS):
        nearest = min(tried, key=lambda value: abs(tried[value] - wanted))
        if abs(tried[nearest] - wanted) <= TOLERANCE * wanted:
            return nearest
        between = (low + high) // 2 if search.whole else round(low - below * (high - low) / (above - below), DIGITS)
        if between in tried and not search.whole:
            between = round((low + high) / 2, DIGITS)
        if between in tried:
            break
        held = yield between
        if isinstance(held, str):
            return f"{search.parameter} = {between:g}: {held}"
        tried[between] = held
        if (held - wanted > 0) == (above > 0):
            high, above, below = between, held - wanted, below / 2
        else:
            low, below, above = between, held - wanted, above / 2
    sides = sorted(sorted(tried, key=lambda value: abs(tried[value] - wanted))[:2], key=tried.__getitem__)
    shown = " and ".join(f"{tried[value] / full:.1%} ({search.parameter} = {value:g})" for value in sides)
    return f"comes no nearer than {shown} of the KV bytes"


@dataclass(eq=False)
class ByteMatcher:
    """The bytes that methods hold of one benchmark's prompts, measured once for each.

    Attributes:
        loader: of the model; called only where something is to be measured, never under `dry`.
    """

    settings: Settings
    facts: TaskFacts
    weights: str
    suite: Suite
    loader: LoadOnce
    display: Display
    dry: bool = False
    record: ByteMatches | None = field(init=False)

    def __post_init__(self) -> None:
        self.reference = self._cell(MethodSettings(NONE))
        self.path = matches_path(self.reference.result_path)
        try:
            self.record = load_matches(self.path)
        except ReportError as error:
            log.warning("%s", error)
            self.record = None
        if self.record is not None and self.record.key != self.reference.result_key:
            self.record = None  # of other weights, data, code or samples

    def match(self, equal: EqualBytes) -> list[MethodSettings | None]:
        """The methods at every budget, budget by budget; None: not reached, the record says why, or not known yet."""
        places = [(budget, one) for budget in equal.budgets for one in equal.contenders]
        self._measure([MethodSettings(NONE)])
        if self.record is None:
            return [None] * len(places)
        tries = [self._tries(budget, one) for budget, one in places]
        waiting = {at: next(one) for at, one in enumerate(tries)}
        found: dict[int, ByteMatch] = {}
        while waiting:
            self._measure(list(waiting.values()))
            for at, method in list(waiting.items()):
                known = self.record.measured.get(self._key(method))
                if known is None:  # dry
                    del waiting[at]
                    continue
                try:
                    waiting[at] = tries[at].send(known)
                except StopIteration as end:
                    found[at] = end.value
                    del waiting[at]
        if not self.dry:
            looked = [(one.budget, one.method, one.asked) for one in found.values()]
            others = [one for one in self.record.found if (one.budget, one.method, one.asked) not in looked]
            self._keep(found=[*others, *found.values()])
        return [
            one.at(budget, found[at].params) if at in found and found[at].params is not None else None
            for at, (budget, one) in enumerate(places)
        ]

    def _tries(self, budget: float, one: Contender) -> Generator[MethodSettings, MeasuredBytes, ByteMatch]:
        """Asks for measurements until a method is at the budget, or cannot be."""
        assert self.record is not None
        slots = [int(budget * length + 1e-9) for length in self.record.lengths]
        wanted, full = (self.record.token_bytes * sum(some) / len(slots) for some in (slots, self.record.lengths))
        place: dict[str, Any] = {"budget": budget, "method": one.name, "asked": one.params, "wanted": wanted}
        if one.search is None:
            method = one.at(budget)
            held = yield method
            missing = held.refused
            if held.kv_bytes is not None and abs(held.kv_bytes - wanted) > TOLERANCE * wanted:
                missing = f"holds {held.kv_bytes / full:.1%} of the KV bytes"
            params = None if missing else method.params
            return ByteMatch(**place, params=params, kv_bytes=held.kv_bytes, missing=missing)
        high = self._layers if one.search.high is None else one.search.high
        search = searched(one.search, high, wanted, full)
        value = next(search)
        while True:
            method = one.at(budget, one.search.params(value))
            known = yield method
            try:
                value = search.send(known.refused if known.kv_bytes is None else known.kv_bytes)
            except StopIteration as end:
                if isinstance(end.value, str):
                    return ByteMatch(**place, params=None, kv_bytes=None, missing=end.value)
                method = one.at(budget, one.search.params(end.value))
                held = self.record.measured[self._key(method)]
                return ByteMatch(**place, params=method.params, kv_bytes=held.kv_bytes)

    @property
    def _layers(self) -> int:
        assert self.record is not None
        return self.record.layers

    def _cell(self, method: MethodSettings) -> CellSpec:
        return CellSpec.of(self.settings, method, self.facts, self.weights)

    def _key(self, method: MethodSettings) -> str:
        return digest([self._cell(method).key, self.settings.limit, self.settings.limit_seed])

    def _measure(self, methods: Sequence[MethodSettings]) -> None:
        """See that the record has all of these, and is on the disk; nothing under `dry`."""
        known = {} if self.record is None else self.record.measured
        missing = {key: method for method in methods if (key := self._key(method)) not in known}
        if not missing or self.dry:
            return
        task = self.suite.open(self.facts)
        settings = self.settings
        requests = [task.requests[row] for row in task.chosen(settings.limit, settings.limit_seed)]
        count = f"{len(missing)} setting{'s' * (len(missing) != 1)}"
        self.display.say(f"equal bytes: measuring {count} on {len(requests)} prompts of {self.facts.benchmark.label}")
        model = replace(settings.model, revision=None if self.weights.startswith("sha256:") else self.weights)
        pass_ = _Pass(self.loader(model), list(missing.values()))
        for batch in batches(requests, settings.batch_size):
            pass_.add(batch)
        if not pass_.lengths:
            raise RunError(f"equal bytes: no prompt of {self.facts.benchmark.label} can be measured; see the log")
        if self.record is None:
            self.record = ByteMatches(
                key=self.reference.result_key,
                model=settings.model.name,
                benchmark=self.facts.benchmark.label,
                lengths=pass_.lengths,
                token_bytes=pass_.token_bytes,
                layers=pass_.layers,
            )
        self._keep(measured=self.record.measured | dict(zip(missing, pass_.results(), strict=True)))

    def _keep(self, **changes: Any) -> None:
        assert self.record is not None
        self.record = self.record.model_copy(update=changes)
        self.record.write(self.path)


class _Pass:
    """Prefills of a benchmark's prompts, each once for all methods that leave it as it is."""

    def __init__(self, loaded: LoadedModel, methods: Sequence[MethodSettings]):
        self.loaded, self.methods = loaded, methods
        self.sums: list[float | str] = [0] * len(methods)
        self.lengths: list[int] = []
        self.token_bytes = self.layers = 0

    def results(self) -> list[MeasuredBytes]:
        """What each method holds, in their order."""
        return [
            MeasuredBytes(method=method.name, params=method.params, refused=found)
            if isinstance(found, str)
            else MeasuredBytes(method=method.name, params=method.params, kv_bytes=found / len(self.lengths))
            for method, found in zip(self.methods, self.sums, strict=True)
        ]

    def add(self, batch: list[Request]) -> None:
        """Measure a batch; where that fails sample by sample. A sample that fails has no answer either."""
        try:
            self._add(batch)
        except Exception as error:
            failure = Failure.of(error)
            if len(batch) == 1:
                log.info("%s is not measured: %s", batch[0], failure)
                return
            log.info("batch of %s with %s: %s; one by one", len(batch), batch[0], failure)
            for one in batch:
                self.add([one])

    @torch.inference_mode()
    def _add(self, batch: list[Request]) -> None:
        ready = [prepare(self.loaded.family, at, one) for at, one in enumerate(batch)]
        inputs = encode(self.loaded, ready)
        with sample_keys([one.key for one in ready]):
            self._measure(inputs)

    def _measure(self, inputs: dict[str, Any]) -> None:
        built = [method.built for method in self.methods]
        shared = SharedPrefill(self.loaded.model, inputs, [None, *(one for one in built if can_share(one))])
        whole = shared.prefilled(None).trace
        held: list[int | str] = []
        for method, so_far in zip(built, self.sums, strict=True):
            if isinstance(so_far, str):
                held.append(so_far)
                continue
            try:
                if can_share(method):
                    trace = shared.prefilled(method).trace
                else:
                    with prune(self.loaded.model, method, record_attention=False) as trace:
                        prefill(self.loaded.model, inputs)
                held.append(sum(trace.kv_bytes_alone))
            except torch.OutOfMemoryError:
                raise
            except Exception as error:  # the method's own word, or its fault: the others are measured all the same
                said = Failure.of(error)
                own = said.message.removeprefix(f"{method!r}: ").splitlines()[0]
                held.append(own if isinstance(error, ValueError) else str(said))
        assert whole.prompt is not None
        self.layers = len(whole.layers)
        self.token_bytes = whole.kv_bytes_full_alone[0] // whole.prompt.lengths[0]
        self.lengths += whole.prompt.lengths
        self.sums = [
            one if isinstance(one, str) or isinstance(so_far, str) else so_far + one
            for one, so_far in zip(held, self.sums, strict=True)
        ]


def matched_runs(run: Run, equal: EqualBytes, loader: LoadOnce, dry: bool = False) -> list[Run]:
    """A run of each benchmark with the methods of a comparison at every budget that they reach there.

    Args:
        run: `none` on the benchmarks.
        dry: only what has been measured before.
    """
    settings, config = run
    ranks = Ranks.join()
    display = Display(quiet=not ranks.first)
    found: dict[str, list[MethodSettings]] = {}
    if ranks.first:
        with logging_to(settings, display):
            fingerprints = Fingerprints(settings.results / "fingerprints.json")
            weights = checkpoint_identity(settings.model.checkpoint, settings.model.revision, fingerprints)
            suite = Suite(settings, fingerprints)
            for benchmark in settings.benchmarks:
                facts = suite.facts(benchmark)
                matcher = ByteMatcher(settings, facts, weights, suite, loader, display, dry)
                methods = matcher.match(equal)
                found[benchmark.task] = [one for one in methods if one is not None]
                reached = f"{len(found[benchmark.task])} of {len(methods)}"
                display.say(f"equal bytes: {reached} methods × budgets can be had on {benchmark.label}")
    found = ranks.tell(found)
    return [
        (replace(settings, methods=distinct([*settings.methods, *found[one.task]]), benchmarks=(one,)), config)
        for one in settings.benchmarks
    ]
