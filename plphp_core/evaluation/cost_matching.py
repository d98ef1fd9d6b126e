"""Methods brought to the same cost: parameters searched on prefills alone, before any cell is answered."""

from __future__ import annotations

import logging
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from plphp_core.config.equal_cost import COSTS, DIGITS, NONE, TOLERANCE, Contender, Cost, CostSearch, EqualCost
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
from plphp_core.pruning.method import Method
from plphp_core.pruning.prompt import questions, sample_keys
from plphp_core.records.cost_matches import (
    CostMatch,
    CostMatches,
    MeasuredCost,
    load_matches,
    matches_path,
)
from plphp_core.records.errors import ReportError, RunError
from plphp_core.records.record import digest
from plphp_core.records.revisions import Fingerprints, checkpoint_identity

log = logging.getLogger("plphp.cost_matching")

ROUNDS = 40

# Tries a value and is told the mean cost, or why there is none; returns the value found, or why there is none.
Search = Generator[float, float | str, float | str]


def searched(
    search: CostSearch,
    high: float,
    wanted: float,
    full: float,
    cost: Cost = COSTS["kv_bytes"],
    tolerance: float = TOLERANCE,
) -> Search:
    """The value of a parameter under which a method costs what is wanted, within `tolerance` of it.

    The cost is taken to rise or to fall with the parameter. Between two values around it the next one lies on the line
    through them (regula falsi with Illinois' halving); whole numbers are bisected.

    Args:
        high: the largest value; full: of Uncompressed, which messages compare with.
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
        if outside and abs(tried[value] - wanted) > tolerance * wanted:
            at = f"({search.parameter} = {value:g})"
            return f"{cost.verb} at {word} {cost.said(tried[value], full)} {at}"
    for _ in range(ROUNDS):
        nearest = min(tried, key=lambda value: abs(tried[value] - wanted))
        if abs(tried[nearest] - wanted) <= tolerance * wanted:
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
    under = max((value for value in tried if tried[value] <= wanted), key=tried.__getitem__)
    over = min((value for value in tried if tried[value] > wanted), key=tried.__getitem__)
    near = " and ".join(
        f"{cost.amount(tried[value], full)} ({search.parameter} = {value:g})" for value in (under, over)
    )
    return f"comes no nearer than {near} {cost.of(full)}"


@dataclass(eq=False)
class CostMatcher:
    """What methods cost on one benchmark's prompts, measured once for each.

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
    record: CostMatches | None = field(init=False)

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

    def match(self, equal: EqualCost) -> list[MethodSettings | None]:
        """The methods at every budget, budget by budget; None: not reached, the record says why, or not known yet."""
        places = [(budget, one) for budget in equal.budgets for one in equal.contenders]
        self._measure([MethodSettings(NONE)])
        if self.record is None:
            return [None] * len(places)
        tries = [self._tries(equal, budget, one) for budget, one in places]
        waiting: dict[int, MethodSettings] = {}
        found: dict[int, CostMatch] = {}

        def go_on(at: int, known: MeasuredCost | None) -> None:
            try:
                waiting[at] = next(tries[at]) if known is None else tries[at].send(known)
            except StopIteration as end:
                found[at] = end.value
                waiting.pop(at, None)

        for at in range(len(places)):
            go_on(at, None)
        while waiting:
            self._measure(list(waiting.values()))
            for at, method in list(waiting.items()):
                known = self.record.measured.get(self._key(method))
                if known is None:  # dry
                    del waiting[at]
                else:
                    go_on(at, known)
        if not self.dry:
            looked = [(one.cost, one.budget, one.method, one.asked) for one in found.values()]
            others = [one for one in self.record.found if (one.cost, one.budget, one.method, one.asked) not in looked]
            self._keep(found=[*others, *found.values()])
        return [
            one.at(budget, found[at].params) if at in found and found[at].params is not None else None
            for at, (budget, one) in enumerate(places)
        ]

    def _tries(
        self, equal: EqualCost, budget: float, one: Contender
    ) -> Generator[MethodSettings, MeasuredCost, CostMatch]:
        """Asks for measurements until a method is at the budget, or cannot be."""
        assert self.record is not None
        cost, tolerance, search = equal.cost, equal.nearness(budget, one), one.searched(budget)
        wanted, full = self.record.wanted(cost.name, budget), self.record.full(cost.name)
        place: dict[str, Any] = {"cost": cost.name, "budget": budget, "method": one.name, "asked": one.params}
        place["wanted"] = wanted
        if one.never:
            return CostMatch(**place, params=None, held=None, missing=one.never)
        if search is None:
            method = one.at(budget)
            known = yield method
            held, missing = getattr(known, cost.name), known.refused
            if held is not None and abs(held - wanted) > tolerance * wanted:
                missing = f"{cost.verb} {cost.said(held, full)}"
            return CostMatch(**place, params=None if missing else method.params, held=held, missing=missing)
        going = searched(search, self._layers if search.high is None else search.high, wanted, full, cost, tolerance)
        value = next(going)
        while True:
            known = yield one.at(budget, search.params(value))
            held = getattr(known, cost.name)
            try:
                value = going.send(known.refused if held is None else held)
            except StopIteration as end:
                if isinstance(end.value, str):
                    return CostMatch(**place, params=None, held=None, missing=end.value)
                method = one.at(budget, search.params(end.value))
                held = getattr(self.record.measured[self._key(method)], cost.name)
                return CostMatch(**place, params=method.params, held=held)

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
        self.display.say(f"equal cost: measuring {count} on {len(requests)} prompts of {self.facts.benchmark.label}")
        model = replace(settings.model, revision=None if self.weights.startswith("sha256:") else self.weights)
        pass_ = _Pass(self.loader(model), list(missing.values()))
        for batch in batches(requests, settings.batch_size):
            pass_.add(batch)
        if not pass_.lengths:
            raise RunError(f"equal cost: no prompt of {self.facts.benchmark.label} can be measured; see the log")
        if self.record is None:
            self.record = CostMatches(
                key=self.reference.result_key,
                model=settings.model.name,
                benchmark=self.facts.benchmark.label,
                lengths=pass_.lengths,
                vision=pass_.vision,
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
        self.sums: list[tuple[float, float] | str] = [(0, 0)] * len(methods)  # KV bytes, tokens in attention
        self.lengths: list[int] = []
        self.vision: list[list[int]] = []
        self.token_bytes = self.layers = 0

    def results(self) -> list[MeasuredCost]:
        """What each method costs, in their order."""
        found = []
        for method, sums in zip(self.methods, self.sums, strict=True):
            front: dict[str, Any] = {"method": method.name, "params": method.params}
            if isinstance(sums, str):
                found.append(MeasuredCost(**front, refused=sums))
            else:
                held, entered = (one / len(self.lengths) for one in sums)
                found.append(MeasuredCost(**front, kv_bytes=held, tokens=entered))
        return found

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
        with sample_keys([one.key for one in ready]), questions([one.request.context for one in ready]):
            self._measure(batch, inputs)

    def _own_inputs(self, batch: list[Request], method: Method | None, inputs: dict[str, Any]) -> dict[str, Any]:
        """The batch as the method has it, which may give the processor other images."""
        if method is None or not method.redraws:
            return inputs
        ready = [prepare(self.loaded.family, at, one, method) for at, one in enumerate(batch)]
        return encode(self.loaded, ready)

    def _measure(self, batch: list[Request], inputs: dict[str, Any]) -> None:
        built = [method.built for method in self.methods]
        shared = SharedPrefill(self.loaded.model, inputs, [None, *(one for one in built if _shares(one))])
        whole = shared.prefilled(None).trace
        costs: list[tuple[float, float] | str] = []
        for method, so_far in zip(built, self.sums, strict=True):
            if isinstance(so_far, str):
                costs.append(so_far)
                continue
            try:
                if _shares(method):
                    trace = shared.prefilled(method).trace
                else:
                    with prune(self.loaded.model, method, record_attention=False) as trace:
                        prefill(self.loaded.model, self._own_inputs(batch, method, inputs))
                costs.append((sum(trace.kv_bytes_alone), sum(trace.vision_entered)))
            except torch.OutOfMemoryError:
                raise
            except Exception as error:  # the method's own word, or its fault: the others are measured all the same
                said = Failure.of(error)
                own = said.message.removeprefix(f"{method!r}: ").splitlines()[0]
                costs.append(own if isinstance(error, ValueError) else str(said))
        assert whole.prompt is not None
        self.layers = len(whole.layers)
        self.token_bytes = whole.kv_bytes_full_alone[0] // whole.prompt.lengths[0]
        self.lengths += whole.prompt.lengths
        self.vision += [list(sizes) for sizes in whole.prompt.image_sizes]
        self.sums = [
            one if isinstance(one, str) or isinstance(so_far, str) else (so_far[0] + one[0], so_far[1] + one[1])
            for one, so_far in zip(costs, self.sums, strict=True)
        ]


def _shares(method: Method | None) -> bool:
    """Whether the common prefill serves a method: of the same images, with nothing taken out."""
    return can_share(method) and (method is None or not method.redraws)


def matched_runs(run: Run, equal: EqualCost, loader: LoadOnce, dry: bool = False) -> list[Run]:
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
                matcher = CostMatcher(settings, facts, weights, suite, loader, display, dry)
                methods = matcher.match(equal)
                found[benchmark.task] = [one for one in methods if one is not None]
                reached = f"{len(found[benchmark.task])} of {len(methods)}"
                display.say(f"equal cost: {reached} methods × budgets can be had on {benchmark.label}")
    found = ranks.tell(found)
    return [
        (replace(settings, methods=distinct([*settings.methods, *found[one.task]]), benchmarks=(one,)), config)
        for one in settings.benchmarks
    ]
