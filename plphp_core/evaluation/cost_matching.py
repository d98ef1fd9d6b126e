"""Methods brought to the same cost: parameters searched on prefills alone, before any cell is answered."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
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


class NotMeasured(Exception):
    """A search wants to know what a method costs, and nobody has measured it yet."""

    def __init__(self, method: MethodSettings):
        super().__init__(method)
        self.method = method


class NotReached(Exception):
    """Why a method cannot be brought to a budget."""


def searched(
    search: CostSearch,
    high: float,
    wanted: float,
    full: float,
    cost_at: Callable[[float], float],
    cost: Cost = COSTS["kv_bytes"],
    tolerance: float = TOLERANCE,
) -> float:
    """The value of a parameter under which a method costs what is wanted, within `tolerance` of it.

    The cost is taken to rise or to fall with the parameter. Between two values around it the next one lies on the line
    through them (regula falsi with Illinois' halving); whole numbers are bisected.

    Args:
        high: the largest value; full: of Uncompressed, which messages compare with.
        cost_at: value → mean cost.
    Raises:
        NotReached: how near it comes.
        Whatever `cost_at` raises: NotMeasured, or NotReached where the method refuses a value.
    """
    tried = {value: cost_at(value) for value in (search.low, high)}
    (low, below), (high, above) = ((value, held - wanted) for value, held in tried.items())
    least, most = min(tried, key=tried.__getitem__), max(tried, key=tried.__getitem__)
    for value, word, outside in ((least, "least", tried[least] > wanted), (most, "most", tried[most] < wanted)):
        if outside and abs(tried[value] - wanted) > tolerance * wanted:
            at = f"({search.parameter} = {value:g})"
            raise NotReached(f"{cost.verb} at {word} {cost.said(tried[value], full)} {at}")
    for _ in range(ROUNDS):
        nearest = min(tried, key=lambda value: abs(tried[value] - wanted))
        if abs(tried[nearest] - wanted) <= tolerance * wanted:
            return nearest
        between = (low + high) // 2 if search.whole else round(low - below * (high - low) / (above - below), DIGITS)
        if between in tried and not search.whole:
            between = round((low + high) / 2, DIGITS)
        if between in tried:
            break
        tried[between] = held = cost_at(between)
        if (held - wanted > 0) == (above > 0):
            high, above, below = between, held - wanted, below / 2
        else:
            low, below, above = between, held - wanted, above / 2
    under = max((value for value in tried if tried[value] <= wanted), key=tried.__getitem__)
    over = min((value for value in tried if tried[value] > wanted), key=tried.__getitem__)
    near = " and ".join(
        f"{cost.amount(tried[value], full)} ({search.parameter} = {value:g})" for value in (under, over)
    )
    raise NotReached(f"comes no nearer than {near} {cost.of(full)}")


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
    _keys: dict[str, str] = field(init=False, default_factory=dict)

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
        """The methods at every budget, budget by budget; None: not reached, the record says why, or not known yet.

        All searches want their next measurements together, since one prefill serves many methods.
        """
        places = [(budget, one) for budget in equal.budgets for one in equal.contenders]
        wanted = [MethodSettings(NONE)]
        found: dict[int, CostMatch] = {}
        while wanted:
            self._measure(wanted)
            if self.record is None:  # dry
                return [None] * len(places)
            wanted = []
            for at, (budget, one) in enumerate(places):
                try:
                    found[at] = self._matched(self.record, equal, budget, one)
                except NotMeasured as error:
                    wanted.append(error.method)
            if self.dry:
                break
        if self.record and not self.dry:
            fresh = [found[at] for at in range(len(places))]
            looked = [one.place for one in fresh]
            self._keep(found=[*(one for one in self.record.found if one.place not in looked), *fresh])
        return [
            one.at(budget, found[at].params) if at in found and found[at].params is not None else None
            for at, (budget, one) in enumerate(places)
        ]

    def _matched(self, record: CostMatches, equal: EqualCost, budget: float, one: Contender) -> CostMatch:
        """A method at a budget, or why it cannot be. Raises NotMeasured."""
        cost, tolerance, search = equal.cost, equal.nearness(budget, one), one.searched(budget)
        wanted, full = record.wanted(cost.name, budget), record.full(cost.name)

        def known(method: MethodSettings) -> MeasuredCost:
            if (found := record.measured.get(self._key(method))) is None:
                raise NotMeasured(method)
            return found

        missing, params, held = one.never, None, None
        if not missing and search is not None:

            def cost_at(value: float) -> float:
                found = known(one.at(budget, search.params(value)))
                if found.refused:
                    raise NotReached(f"{search.parameter} = {value:g}: {found.refused}")
                return float(getattr(found, cost.name))

            try:
                high = record.layers if search.high is None else search.high
                value = searched(search, high, wanted, full, cost_at, cost, tolerance)
                params, held = one.at(budget, search.params(value)).params, cost_at(value)
            except NotReached as error:
                missing = str(error)
        elif not missing:
            found = known(method := one.at(budget))
            held, missing = getattr(found, cost.name), found.refused
            if held is not None and abs(held - wanted) > tolerance * wanted:
                missing = f"{cost.verb} {cost.said(held, full)}"
            params = None if missing else method.params
        place: dict[str, Any] = {"cost": cost.name, "budget": budget, "method": one.name, "asked": one.params}
        return CostMatch(**place, wanted=wanted, params=params, held=held, missing=missing)

    def _cell(self, method: MethodSettings) -> CellSpec:
        return CellSpec.of(self.settings, method, self.facts, self.weights)

    def _key(self, method: MethodSettings) -> str:
        shown = repr(method)
        if shown not in self._keys:
            own = [self._cell(method).key, self.settings.limit, self.settings.limit_seed]
            self._keys[shown] = digest(own)
        return self._keys[shown]

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
        pass_ = _Pass(self.loader(settings.model.at(self.weights)), list(missing.values()))
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
        built = [method.built for method in self.methods]
        with sample_keys([one.key for one in ready]), questions([one.request.context for one in ready]):
            shared = SharedPrefill(self.loaded.model, inputs, [None, *(one for one in built if _shares(one))])
            whole = shared.prefilled(None).trace
            sums = [
                so_far if isinstance(so_far, str) else self._more(so_far, method, shared, batch, inputs)
                for so_far, method in zip(self.sums, built, strict=True)
            ]
        assert whole.prompt is not None
        self.sums, self.layers = sums, len(whole.layers)
        self.token_bytes = whole.kv_bytes_full_alone[0] // whole.prompt.lengths[0]
        self.lengths += whole.prompt.lengths
        self.vision += [list(sizes) for sizes in whole.prompt.image_sizes]

    def _more(
        self,
        so_far: tuple[float, float],
        method: Method | None,
        shared: SharedPrefill,
        batch: list[Request],
        inputs: dict[str, Any],
    ) -> tuple[float, float] | str:
        """The costs with those of a batch, of the images as the method has them; or why the method refuses it."""
        try:
            if _shares(method):
                trace = shared.prefilled(method).trace
            else:
                if method is not None and method.redraws:
                    ready = [prepare(self.loaded.family, at, one, method) for at, one in enumerate(batch)]
                    inputs = encode(self.loaded, ready)
                with prune(self.loaded.model, method, record_attention=False) as trace:
                    prefill(self.loaded.model, inputs)
            return so_far[0] + sum(trace.kv_bytes_alone), so_far[1] + sum(trace.vision_entered)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # the method's own word, or its fault: the others are measured all the same
            said = Failure.of(error)
            own = said.message.removeprefix(f"{method!r}: ").splitlines()[0]
            return own if isinstance(error, ValueError) else str(said)


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
