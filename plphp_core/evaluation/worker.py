"""The cells of one benchmark, answered together: batch by batch, and within a batch method by method."""

from __future__ import annotations

import logging
from collections.abc import Generator, Sequence, Set
from contextlib import ExitStack, closing
from dataclasses import dataclass, field

from plphp_core.config.run_settings import Settings
from plphp_core.evaluation.cell_spec import CellSpec, journal_lines
from plphp_core.evaluation.distributed import Ranks, parts
from plphp_core.evaluation.generation import JointAnswerer
from plphp_core.evaluation.lmms_tasks import OpenTask
from plphp_core.evaluation.progress import Display
from plphp_core.evaluation.requests import Failure, Request, batches
from plphp_core.evaluation.run_status import Stop
from plphp_core.records.errors import RunError
from plphp_core.records.host import device_name
from plphp_core.records.journal import Journal
from plphp_core.records.journal_lines import Answer

log = logging.getLogger("plphp.worker")


@dataclass(eq=False)
class CellTodo:
    """A cell with its samples' keys and what this process knows of them.

    Attributes:
        keys: doc_id → sample key, for all samples of the cell.
        known: sample keys that have an answer.
        journal: this process's own; open while the worker answers.
        failures: samples that failed while the cell had no answer at all.
    """

    cell: CellSpec
    keys: dict[int, str]
    known: Set[str]
    journal: Journal = field(init=False)
    failures: int = 0

    @classmethod
    def of(cls, cell: CellSpec, task: OpenTask) -> CellTodo:
        return cls(cell, cell.keys(task), Journal.peek(cell.journal_path, *parts(cell.journal_path)).answers.keys())


class Worker:
    """Answers this process's share of what some cells of one task lack, into their journals.

    Args:
        settings: of the run; `share` decides whether methods share what does not depend on them.
        cells: of one task, each of a method of its own.
        traced: errors whose traceback this run has shown.
    """

    def __init__(
        self,
        settings: Settings,
        task: OpenTask,
        cells: Sequence[CellSpec],
        answerer: JointAnswerer,
        ranks: Ranks,
        traced: set[str],
    ):
        self.settings, self.task, self.answerer, self.ranks = settings, task, answerer, ranks
        self.todos = [CellTodo.of(cell, task) for cell in cells]
        self.hardware = device_name(ranks.device(settings.model.device))
        self._traced = traced

    def answer_missing(self, display: Display, stop: Stop) -> None:
        """Returns when every sample of this share has an answer or an error in a journal.

        Raises:
            RunError: nothing of a cell works; the disk fails.
            Terminated: SIGTERM came; the batch that was being answered is in the journals.
        """
        # Batches are cut from all requests, not from the missing ones, and dealt out by number: a resumed run, and one
        # on more processes, repeats the same batches.
        requests = [self.task.requests[row] for row in self.todos[0].keys]
        mine = self.ranks.share(batches(requests, self.settings.batch_size))
        total = sum(len(batch) for batch in mine) * len(self.todos)
        groups = [group for batch in mine for group in self._missing(batch)]
        missing = sum(len(batch) * len(todos) for todos, batch in groups)
        if not missing:
            return
        with ExitStack() as files:
            for todo in self.todos:
                todo.journal = files.enter_context(Journal(self.ranks.journal(todo.cell.journal_path)))
            for todo in self.todos:
                todo.journal.identify(todo.cell.key, todo.cell.identity)
            with display.cell(self._label(), total, total - missing) as progress:
                for todos, batch in groups:
                    with closing(self._answers(todos, batch, stop)) as answers:
                        for todo, results in answers:
                            progress(len(batch), todo.cell.row, todo.cell.facts.benchmark.label)
                            self._watch(todo, results)

    def _missing(self, batch: list[Request]) -> list[tuple[list[CellTodo], list[Request]]]:
        """Cells that lack the same samples of a batch, and those samples."""
        found: dict[tuple, list[CellTodo]] = {}
        for todo in self.todos:
            lacking = tuple(request.tag for request in batch if todo.keys[request.tag] not in todo.known)
            if lacking:
                found.setdefault(lacking, []).append(todo)
        groups = [(todos, [one for one in batch if one.tag in lacking]) for lacking, todos in found.items()]
        if self.settings.share:
            return groups
        return [([todo], some) for todos, some in groups for todo in todos]

    def _answers(
        self, todos: list[CellTodo], batch: list[Request], stop: Stop
    ) -> Generator[tuple[CellTodo, list[Answer | Failure]], None, None]:
        """Results of each cell, already in its journal."""
        methods = [todo.cell.method.built for todo in todos]
        with closing(self.answerer.answer(batch, methods)) as answers:
            while True:
                with stop.finishing():
                    found = next(answers, None)
                    if found is None:
                        return
                    method, results = found
                    todo = next(todo for todo in todos if todo.cell.method.built is method)
                    todo.journal.append(journal_lines(todo.cell, todo.keys, results, self.hardware))
                yield todo, [result for _, result in results]

    def _watch(self, todo: CellTodo, results: list[Answer | Failure]) -> None:
        """Stop when nothing of a cell works, instead of recording the same error ten thousand times.

        The longest prompts come first, so running out of memory on them says nothing about the others.
        """
        failures = [result for result in results if isinstance(result, Failure)]
        if len(failures) == len(results) and todo.failures == 0 and not todo.known:
            self._show_trace(todo.cell, failures[0])
        if len(failures) < len(results) or todo.known:
            todo.failures = -len(todo.keys)
        todo.failures += sum(failure.kind != "OutOfMemoryError" for failure in failures)
        if todo.failures >= self.settings.stop_after_errors:
            raise RunError(
                f"{todo.failures} samples failed and none was answered, the last with {failures[-1]}. The run "
                "stops; its log has the details, and stop_after_errors=… moves this limit"
            )

    def _show_trace(self, cell: CellSpec, failure: Failure) -> None:
        """Nothing has worked from the first batch on: whoever wrote the method wants to see where, whole and once."""
        if str(failure) not in self._traced:
            self._traced.add(str(failure))
            log.warning("%s: every sample has failed so far, the first like this:\n%s", cell.label, failure.trace)

    def _label(self) -> str:
        one, count = self.todos[0].cell, len(self.todos)
        what = one.label if count == 1 else f"{count} settings · {one.facts.benchmark.label}"
        return what if self.ranks.size == 1 else f"{what} (process 1 of {self.ranks.size})"
