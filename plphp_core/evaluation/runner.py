"""The run: plan the cells, answer what is missing, score what is complete.

Task by task, so that a stopped run leaves whole columns of a table.
"""

from __future__ import annotations

import dataclasses
import logging
import random
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from plphp_core.evaluation.answering import Answerer, Failure, batches
from plphp_core.evaluation.benchmarks import Suite, metric_function
from plphp_core.evaluation.cells import Cell, journal_records, write_result
from plphp_core.evaluation.errors import RunError, UserError
from plphp_core.evaluation.identity import Fingerprints, checkpoint_identity
from plphp_core.evaluation.journal import Journal
from plphp_core.evaluation.loading import LoadOnce, check_device
from plphp_core.evaluation.lock import results_lock
from plphp_core.evaluation.manifest import Manifest, command_line, device_name
from plphp_core.evaluation.progress import Display, PlannedCell
from plphp_core.evaluation.settings import Settings, check_method

OK, FAILED, USAGE, INTERRUPTED, TERMINATED = 0, 1, 2, 130, 143

log = logging.getLogger("plphp.runner")


class Terminated(BaseException):
    """SIGTERM, raised where the main thread is, so that files are closed in order."""


@dataclass
class Outcome:
    """What became of a run."""

    scored: list[str] = field(default_factory=list)
    failed_samples: dict[str, tuple[int, list[str]]] = field(default_factory=dict)
    failed_cells: dict[str, str] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        return FAILED if self.failed_samples or self.failed_cells else OK


def run(settings: Settings, config: dict, loader: LoadOnce, display: Display | None = None) -> int:
    """Carry out a run and tell the user how it went.

    Args:
        settings: what to run.
        config: the resolved configuration, for the manifest.
        loader: gives the model; keep it between runs to keep the model.
    Returns:
        exit code: 0 all cells finished; 1 samples or cells failed, or the disk did; 130 Ctrl-C; 143 SIGTERM.
    Raises:
        UserError: the run cannot start as it was asked for.
    """
    display = display or Display()
    with results_lock(settings.results, settings.lock_timeout, display.say), _logging(settings, display), _sigterm():
        manifest = Manifest(settings, config, command_line())
        outcome = Outcome()
        try:
            manifest.write()
            _run(settings, loader, display, manifest, outcome)
            status, code = ("finished" if outcome.exit_code == OK else "finished with failures"), outcome.exit_code
            _summary(outcome, display)
        except KeyboardInterrupt:
            status, code = "interrupted", INTERRUPTED
        except Terminated:
            status, code = "terminated", TERMINATED
        except UserError as error:
            manifest.end("refused", USAGE, error=str(error))
            raise
        except RunError as error:
            log.info("stopped", exc_info=True)
            display.say(f"error: {error}")
            status, code = "stopped", FAILED
        except BaseException:
            _last_words(manifest, "crashed", FAILED, outcome, display)
            raise
        if code in (INTERRUPTED, TERMINATED):
            display.say(f"{status}; every answered sample is kept, run the same command again to go on")
        _last_words(manifest, status, code, outcome, display)
        return code


def _run(settings: Settings, loader: LoadOnce, display: Display, manifest: Manifest, outcome: Outcome) -> None:
    _seed(settings.seed)
    extra_metrics = {name: metric_function(path) for name, path in settings.extra_metrics.items()}
    fingerprints = Fingerprints(settings.results / "fingerprints.json")
    weights = checkpoint_identity(settings.model.checkpoint, settings.model.revision, fingerprints)
    template = settings.model.make_family().prompt("text", 0)
    suite = Suite(settings, fingerprints)
    facts = [suite.facts(benchmark) for benchmark in settings.benchmarks]
    manifest.write(revisions={"model": weights, "data": {fact.task: fact.data for fact in facts}})
    cells = [Cell.of(settings, row, fact, weights, template) for fact in facts for row in settings.methods]
    results = [None if settings.rescore else cell.finished() for cell in cells]
    unfinished = [cell for cell, result in zip(cells, results, strict=True) if result is None]
    if unfinished:
        check_device(settings.model)  # before data sets are downloaded for nothing
    for cell in unfinished:
        cell.remove_stale_result()  # all of them now: an interrupted run must not leave a table of old and new
    todo = _plan(cells, results, suite, display)
    runner = _Runner(settings, loader, suite, extra_metrics, manifest.name, display, outcome)
    runner.check({str(cell.method): cell for cell, missing in todo if missing}.values())
    for cell, _ in todo:
        runner.cell(cell)


def _plan(cells: list[Cell], results: list[dict | None], suite: Suite, display: Display) -> list[tuple[Cell, int]]:
    """Show what there is to do. Returns the cells without a result, and how many answers each lacks."""
    planned, todo = [], []
    for cell, result in zip(cells, results, strict=True):
        if result is not None:
            samples = answered = result["n"]
        else:
            if not suite.is_open(cell.facts):
                display.say(f"opening {cell.facts.task} …")
            keys = cell.keys(suite.open(cell.facts)).values()
            with Journal(cell.journal_path) as journal:
                samples, answered = len(keys), sum(key in journal.answers for key in keys)
            todo.append((cell, samples - answered))
        planned.append(PlannedCell(cell.row, cell.facts.benchmark.label, samples, answered, result is not None))
    s = suite.settings
    limit = "" if s.limit is None else f", a random {s.limit} samples of each (seed {s.limit_seed})"
    title = f"{s.table or 'run'}: {s.model.name}, profile {s.profile}, protocol {s.protocol}{limit}"
    display.plan(planned, title)
    return todo


class _Runner:
    """Answers and scores cells one after another."""

    def __init__(self, settings, loader, suite, extra_metrics, manifest: str, display: Display, outcome: Outcome):
        self.settings, self.loader, self.suite, self.extra_metrics = settings, loader, suite, extra_metrics
        self.manifest, self.display, self.outcome = manifest, display, outcome
        self._failures = 0  # of the cell at work

    def check(self, cells: Iterable[Cell]) -> None:
        """See that every method fits the model before the first sample, not in the middle of the night.

        Raises:
            UserError: one does not.
        """
        for cell in cells:
            self._answerer(cell)

    def _answerer(self, cell: Cell) -> Answerer:
        model = self.settings.model
        if not cell.weights.startswith("sha256:"):  # the very commit that the key names
            model = dataclasses.replace(model, revision=cell.weights)
        loaded = self.loader(model)
        try:
            return Answerer(loaded, check_method(cell.method.name, cell.method.params))
        except ValueError as error:
            raise UserError(f"{cell.row} does not fit {cell.settings.model.name}: {error}") from error

    def cell(self, cell: Cell) -> None:
        """Answer a cell's missing samples, then write its result file."""
        task = self.suite.open(cell.facts)
        keys = cell.keys(task)
        label = f"{cell.row} · {cell.facts.benchmark.label}"
        with Journal(cell.journal_path) as journal:
            if any(key not in journal.answers for key in keys.values()):
                self._answer(cell, keys, [task.requests[row] for row in keys], journal, label)
            try:
                result = write_result(cell, task, journal, self.extra_metrics, self.manifest)
            except RunError as error:
                log.info("%s was not scored", label, exc_info=True)
                cell.result_path.unlink(missing_ok=True)  # an older score would pass for this one
                self.outcome.failed_cells[label] = str(error)
                self.display.say(f"{label}: {error}")
                return
        self.outcome.scored.append(cell.name)
        scores = ", ".join(
            f"{name} {100 * metric['value']:.1f}"
            for name, metric in result["metrics"].items()
            if metric["value"] is not None
        )
        errors = f", errors={result['errors']}" if result["errors"] else ""
        self.display.say(f"{label}: {scores} (n={result['n']}{errors})")
        if result["errors"]:
            self.outcome.failed_samples[label] = result["errors"], result["error_examples"]

    def _answer(self, cell: Cell, keys: dict[int, str], requests: list, journal: Journal, label: str) -> None:
        answerer = self._answerer(cell)
        hardware = device_name(self.settings.model.device)
        answered = sum(key in journal.answers for key in keys.values())
        with self.display.cell(label, len(keys), answered) as progress:
            # Batches are cut from all requests, not from the missing ones: a resumed run repeats the same batches.
            for batch in batches(requests, self.settings.batch_size):
                batch = [request for request in batch if keys[request.tag] not in journal.answers]
                if not batch:
                    continue
                results = answerer.answer(batch)
                journal.append(journal_records(cell, keys, results, hardware))
                progress(len(batch))
                if not any(key in journal.answers for key in keys.values()):
                    self._watch([result for _, result in results])
            self._failures = 0

    def _watch(self, results: list) -> None:
        """Stop when nothing of a cell works, instead of recording the same error ten thousand times.

        The longest prompts come first, so running out of memory on them says nothing about the others.
        """
        for result in results:
            self._failures += isinstance(result, Failure) and result.kind != "OutOfMemoryError"
            if self._failures >= self.settings.stop_after_errors:
                raise RunError(
                    f"{self._failures} samples failed and none was answered, the last with {result}. The run stops; "
                    "its log has the details, and stop_after_errors=… moves this limit"
                )


def _summary(outcome: Outcome, display: Display) -> None:
    for label, (count, examples) in outcome.failed_samples.items():
        display.say(f"failed: {label}: {count} samples without an answer, for example {examples[0]}")
    for label, message in outcome.failed_cells.items():
        display.say(f"failed: {label}: {message}")
    if outcome.exit_code != OK:
        display.say("failed samples are left out of the scores and tried again by the next run")


def _last_words(manifest: Manifest, status: str, code: int, outcome: Outcome, display: Display) -> None:
    try:
        manifest.end(
            status,
            code,
            scored=outcome.scored,
            failed_cells=outcome.failed_cells,
            failed_samples={label: count for label, (count, _) in outcome.failed_samples.items()},
        )
    except RunError as error:  # the disk is full: the journal said so already
        display.say(f"error: {error}")


def _seed(seed: int) -> None:
    import numpy
    import torch

    random.seed(seed)
    numpy.random.seed(seed)
    torch.manual_seed(seed)


@contextmanager
def _sigterm() -> Iterator[None]:
    """SIGTERM ends the run as cleanly as Ctrl-C; only the main thread can handle signals, others go on without."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def terminate(number, frame):
        raise Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _LogFile(logging.FileHandler):
    def handleError(self, record):
        """A log line that cannot be written (full disk) is not worth a traceback; the journal complains in words."""


class _Terminal(logging.Handler):
    def __init__(self, display: Display):
        super().__init__(logging.WARNING)
        self.display = display

    def emit(self, record):
        self.display.say(f"{record.levelname.lower()}: {record.getMessage()}")


@contextmanager
def _logging(settings: Settings, display: Display) -> Iterator[None]:
    """Our log and lmms-eval's go to results/<profile>/logs/run.log, our warnings to the terminal too."""
    import lmms_eval.tasks  # noqa: F401  importing it sets up loguru's global logger, so before changing that
    from loguru import logger as lmms_log

    path = settings.results / "logs" / "run.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    file = _LogFile(path, encoding="utf-8")
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    handlers = [file, _Terminal(display)]
    ours = logging.getLogger("plphp")
    ours.setLevel(logging.INFO)
    for handler in handlers:
        ours.addHandler(handler)
    lmms_log.remove()
    sink = lmms_log.add(path, level="INFO", format="{time:YYYY-MM-DD HH:mm:ss} {level} lmms-eval: {message}")
    try:
        yield
    finally:
        lmms_log.remove(sink)
        for handler in handlers:
            ours.removeHandler(handler)
        file.close()
