"""One group of runs: cells planned, answered where samples are missing, scored, and a summary."""

from __future__ import annotations

import dataclasses
import logging
import math
import random
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from plphp_core.config.benchmark_catalogue import catalogue
from plphp_core.config.run_settings import Run, Settings, merged
from plphp_core.evaluation.cell_spec import CellSpec, cells_of, write_result
from plphp_core.evaluation.distributed import Ranks, fold
from plphp_core.evaluation.generation import JointAnswerer
from plphp_core.evaluation.lmms_tasks import OpenTask, Suite, metric_function
from plphp_core.evaluation.loading import LoadOnce, check_device
from plphp_core.evaluation.logs import logging_to
from plphp_core.evaluation.options import refuse, refused_of_task
from plphp_core.evaluation.plan import plan, show
from plphp_core.evaluation.progress import Display
from plphp_core.evaluation.results_folder import Busy, run_lock
from plphp_core.evaluation.run_status import FAILED, OK, USAGE, Stop, run_and_record
from plphp_core.evaluation.worker import Worker
from plphp_core.records.errors import RunError, UserError
from plphp_core.records.journal import Journal
from plphp_core.records.manifest import ManifestFile, command_line
from plphp_core.records.revisions import Fingerprints, checkpoint_identity

log = logging.getLogger("plphp.runner")


@dataclass
class Outcome:
    """What became of a run."""

    scored: list[str] = field(default_factory=list)
    failed_samples: dict[str, tuple[int, list[str]]] = field(default_factory=dict)
    failed_cells: dict[str, str] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        return FAILED if self.failed_samples or self.failed_cells else OK


def run_group(group: Sequence[Run], loader: LoadOnce, display: Display | None = None) -> int:
    """Carry out runs that differ in nothing but methods, benchmarks and tables, and tell the user how it went.

    Args:
        group: settings and resolved configuration of each.
        loader: gives the model; keep it between runs to keep the model.
    Returns:
        exit code: 0 all cells finished; 1 samples or cells failed, or the disk did; 130 Ctrl-C; 143 SIGTERM.
    Raises:
        UserError: the run cannot start as it was asked for.
    """
    configs = [config for _, config in group]
    ranks, stop = Ranks.join(), Stop()
    settings = merged([one for one, _ in group])
    display = display or Display(quiet=not ranks.first, verbose=settings.verbose)
    display.processes = ranks.size
    with logging_to(settings, display), stop.listening():
        config = configs[0] if len(configs) == 1 else {"runs": configs}
        manifest = ManifestFile(settings, config, command_line(), ranks.size, written=ranks.first)
        outcome = Outcome()

        def work() -> bool:
            manifest.write()
            _GroupRun(group, settings, loader, display, manifest, outcome, ranks, stop).run()
            _summary(outcome, display)
            return outcome.exit_code == OK

        def end(status: str, code: int, **changes) -> None:
            failed = {label: count for label, (count, _) in outcome.failed_samples.items()}
            said = {"scored": outcome.scored, "failed_cells": outcome.failed_cells, "failed_samples": failed}
            manifest.end(status, code, **said, **changes)

        say = display.say if ranks.first else ranks.complain
        try:
            status, code = run_and_record(work, end, say)
        except UserError as error:
            if ranks.size == 1:
                raise
            say(f"error: {error}")
            raise SystemExit(USAGE) from error
        if ranks.size > 1 and not status.startswith("finished"):
            raise SystemExit(code)  # not on to another group, out of step with the others: torchrun ends them too
        return code


@dataclass(eq=False)
class _GroupRun:
    """The work of a group of runs, benchmark after benchmark. `settings` are those of all of them together."""

    group: Sequence[Run]
    settings: Settings
    loader: LoadOnce
    display: Display
    manifest: ManifestFile
    outcome: Outcome
    ranks: Ranks
    stop: Stop
    traced: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.extra_metrics = {name: metric_function(path) for name, path in self.settings.extra_metrics.items()}

    def run(self) -> None:
        _seed(self.settings.seed)
        cells, unfinished, lacking = self._plan()
        todo = [cell for cell in cells if cell.name in unfinished]
        unfit = self._prepare([cell for cell in todo if cell.name in lacking])
        todo = [cell for cell in todo if cell.row not in unfit]
        self._lacking = {cell.name for cell in todo} & set(lacking)
        tasks = dict.fromkeys(cell.facts.task for cell in todo)
        pieces = [[cell for cell in todo if cell.facts.task == task] for task in tasks]
        wait = self.settings.lock_timeout == 0  # then another run is an error at once, not something to come back to
        busy = [piece for piece in pieces if not self._piece(piece, wait)]
        for piece in busy:
            self._piece(piece, wait=True)

    def _plan(self) -> tuple[list[CellSpec], list[str], list[str]]:
        """All cells, names of those without a result, names of those that lack answers; shows what there is to do."""
        settings, ranks = self.settings, self.ranks
        todo, lacking = [], []
        with ranks.first_alone():  # hashing weights, downloading data
            fingerprints = Fingerprints(settings.results / "fingerprints.json")
            self.suite = Suite(settings, fingerprints)
            self.suite.all_facts(settings.benchmarks)  # what cannot be run is refused before 15 GB are hashed
            for remark in self.suite.remarks if ranks.first else ():
                self.display.say(remark)
            weights = checkpoint_identity(settings.model.checkpoint, settings.model.revision, fingerprints)
            cells = cells_of([one for one, _ in self.group], self.suite, weights)
            for facts in {cell.facts.task: cell.facts for cell in cells}.values():
                refused = refused_of_task(facts.generation, settings.model.engine)
                refuse(f"task {facts.task}", refused, settings.model.engine)
            if ranks.first:
                data = {cell.facts.task: cell.facts.data for cell in cells}
                read = {name: one for cell in cells for name, one in cell.identity["method_weights"].items()}
                self.manifest.write(revisions={"model": weights, "data": data, "methods": read})
                if not all(cell.finished() for cell in cells):
                    check_device(settings.model)  # before data sets are downloaded for nothing
                planned = plan(cells, self.suite, self.display)
                show(planned, settings, self.display, self.group[0][1].get("profile") or {})
                todo = [cell.name for cell, one in zip(cells, planned, strict=True) if not one.finished]
                lacking = [cell.name for cell, one in zip(cells, planned, strict=True) if one.missing]
        for cell in cells if ranks.first else ():  # now: an interrupted run must not leave a table of old and new
            if cell.name in todo:
                cell.remove_stale_result()
        return cells, *ranks.tell((todo, lacking))

    def _prepare(self, cells: list[CellSpec]) -> set[str]:
        """Load the model and try every method of the cells on it, before the first of them answers.

        Returns:
            rows whose method does not fit the model.

        Raises:
            UserError: the method of a single run's cell does not fit the model. Among several runs only its cells fail.
        """
        if not cells:
            return set()
        model = self.settings.model.at(cells[0].weights)
        model = dataclasses.replace(model, device=self.ranks.device(model.device))
        self._answerer = JointAnswerer(self.loader(model))
        unfit = set()
        for row, method in {cell.row: cell.method.built for cell in cells}.items():
            try:
                self._answerer.check(method)
            except ValueError as error:
                reason = f"{row} does not fit {self.settings.model.name}: {error}"
                if len(self.group) == 1:
                    raise UserError(reason) from error
                self.outcome.failed_cells[row] = reason
                unfit.add(row)
        return unfit

    def _piece(self, cells: list[CellSpec], wait: bool) -> bool:
        """Answer and score the cells of one benchmark; False if another run is at it and `wait` is not set."""
        facts = cells[0].facts
        with ExitStack() as held:
            if not self.ranks.tell(self.ranks.first and self._hold(held, facts.task, wait)):
                return False
            self._fold(cells)
            asked = cells
            still_open = [cell.name for cell in cells if self.settings.rescore or cell.finished() is None]
            still_open = self.ranks.tell(still_open)  # another run may have finished some meanwhile
            cells = [cell for cell in cells if cell.name in still_open]
            self._leave([cell for cell in asked if cell not in cells])
            if not cells:
                return True
            task = self.suite.open(facts)
            lacking = [cell for cell in cells if cell.name in self._lacking]
            if lacking:
                worker = Worker(self.settings, task, lacking, self._answerer, self.ranks, self.traced)
                worker.answer_missing(self.display, self.stop)
            self._leave(cells)
            self._fold(cells)
            if self.ranks.first:
                for cell in cells:
                    self._score(cell, task)
        return True

    def _leave(self, cells: list[CellSpec]) -> None:
        """Nothing of these cells is left to be answered, whoever did it."""
        for cell in cells:
            self.display.finish(cell.row, cell.facts.benchmark.label)

    def _hold(self, held: ExitStack, task: str, wait: bool) -> bool:
        """Keep other runs away from a benchmark of this model, until `held` is closed."""
        path = self.settings.results / "locks" / f"{self.settings.model.name}.{task}.lock"
        try:
            held.enter_context(run_lock(path, self.settings.lock_timeout if wait else 0, self.display.say))
        except Busy:
            if wait:
                raise
            return False
        return True

    def _fold(self, cells: list[CellSpec]) -> None:
        """Everything that any process has answered, into the journals themselves."""
        self.ranks.wait()
        for cell in cells if self.ranks.first else ():
            with Journal(cell.journal_path) as journal:
                fold(journal)
        self.ranks.wait()

    def _score(self, cell: CellSpec, task: OpenTask) -> None:
        """Write a cell's result file, or say why there is none."""
        try:
            with Journal(cell.journal_path) as journal:
                result = write_result(cell, task, journal, self.extra_metrics, self.manifest.name)
        except RunError as error:
            log.info("%s was not scored", cell.label, exc_info=True)
            cell.result_path.unlink(missing_ok=True)  # an older score would pass for this one
            self.outcome.failed_cells[cell.label] = str(error)
            self.display.say(f"{cell.label}: {error}")
            return
        self.outcome.scored.append(cell.name)
        scale = catalogue()[cell.facts.benchmark.label].scale
        known = {name: metric.value for name, metric in result.metrics.items() if math.isfinite(metric.value)}
        scores = ", ".join(f"{name} {scale * value:.1f}" for name, value in known.items())
        errors = f", errors={result.errors}" if result.errors else ""
        self.display.say(f"{cell.label}: {scores} (n={result.n}{errors}){self.display.eta}")
        if result.errors:
            self.outcome.failed_samples[cell.label] = result.errors, result.error_examples


def _summary(outcome: Outcome, display: Display) -> None:
    for label, (count, examples) in outcome.failed_samples.items():
        display.say(f"failed: {label}: {count} samples without an answer, for example {examples[0]}")
    for label, message in outcome.failed_cells.items():
        display.say(f"failed: {label}: {message}")
    if outcome.exit_code != OK:
        display.say("failed samples are left out of the scores and tried again by the next run")


def _seed(seed: int) -> None:
    import numpy
    import torch

    random.seed(seed)
    numpy.random.seed(seed)
    torch.manual_seed(seed)
