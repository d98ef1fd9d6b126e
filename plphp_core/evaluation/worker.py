"""The cells of one benchmark, answered together: batch by batch, and within a batch method by method."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing

from plphp_core.config.run_settings import Settings
from plphp_core.evaluation.answering import JointAnswerer, Request, batches
from plphp_core.evaluation.cell_spec import CellSpec, journal_lines
from plphp_core.evaluation.distributed import Ranks, parts
from plphp_core.evaluation.failure import Failure
from plphp_core.evaluation.lmms_tasks import OpenTask
from plphp_core.evaluation.progress import Display
from plphp_core.evaluation.signals import Stop
from plphp_core.records.errors import RunError
from plphp_core.records.host import device_name
from plphp_core.records.journal import Journal
from plphp_core.records.journal_lines import Answer

log = logging.getLogger("plphp.worker")


class Worker:
    """Answers this process's share of what some cells of one task lack, into their journals.

    Args:
        settings: of the run; `share` decides whether methods share what does not depend on them.
        cells: of one task.
        numbers: of each cell's method in `answerer`.
        traced: errors whose traceback this run has shown.
    """

    def __init__(
        self,
        settings: Settings,
        task: OpenTask,
        cells: Sequence[CellSpec],
        answerer: JointAnswerer,
        numbers: Sequence[int],
        ranks: Ranks,
        traced: set[str],
    ):
        self.settings, self.task, self.cells, self.ranks = settings, task, cells, ranks
        self.answerer, self.numbers = answerer, numbers
        self.keys = [cell.keys(task) for cell in cells]
        self.hardware = device_name(ranks.device(settings.model.device))
        self._failures: Counter[int] = Counter()  # per cell, while it has no answer at all
        self._traced = traced

    def carry_out(self, display: Display, stop: Stop) -> None:
        """Returns when every sample of this share has an answer or an error in a journal.

        Raises:
            RunError: nothing of a cell works; the disk fails.
            Terminated: SIGTERM came; what was in hand is in the journals.
        """
        self.known = [Journal.peek(cell.journal_path, *parts(cell.journal_path)).answers.keys() for cell in self.cells]
        # Batches are cut from all requests, not from the missing ones, and dealt out by number: a resumed run, and one
        # on more processes, repeats the same batches.
        requests = [self.task.requests[row] for row in self.keys[0]]
        mine = self.ranks.share(batches(requests, self.settings.batch_size))
        total = sum(len(batch) for batch in mine) * len(self.cells)
        todo = [groups for batch in mine if (groups := self._missing(batch))]
        missing = sum(len(batch) * len(places) for groups in todo for places, batch in groups)
        if not missing:
            return
        with ExitStack() as files:
            journals = [files.enter_context(Journal(self.ranks.journal(cell.journal_path))) for cell in self.cells]
            for cell, journal in zip(self.cells, journals, strict=True):
                journal.identify(cell.key, cell.identity)
            with display.cell(self._label(), total, total - missing) as progress:
                for groups in todo:
                    for places, batch in groups:
                        with closing(self._answers(places, batch, journals, stop)) as answers:
                            for place, results in answers:
                                cell = self.cells[place]
                                progress(len(batch), cell.row, cell.facts.benchmark.label)
                                self._watch(place, results)

    def _missing(self, batch: list[Request]) -> list[tuple[list[int], list[Request]]]:
        """Places of cells that lack the same samples of a batch, and those samples."""
        found: dict[tuple, list[int]] = {}
        for place, (keys, known) in enumerate(zip(self.keys, self.known, strict=True)):
            lacking = tuple(request.tag for request in batch if keys[request.tag] not in known)
            if lacking:
                found.setdefault(lacking, []).append(place)
        groups = [(places, [one for one in batch if one.tag in lacking]) for lacking, places in found.items()]
        if self.settings.share:
            return groups
        return [([place], some) for places, some in groups for place in places]

    def _answers(
        self, places: list[int], batch: list[Request], journals: list[Journal], stop: Stop
    ) -> Generator[tuple[int, list[Answer | Failure]], None, None]:
        """Results of each cell, already in its journal."""
        place_of = {self.numbers[place]: place for place in places}
        with closing(self.answerer.answer(batch, list(place_of))) as answers:
            while True:
                with stop.finishing():
                    found = next(answers, None)
                    if found is None:
                        return
                    place, results = place_of[found[0]], found[1]
                    lines = journal_lines(self.cells[place], self.keys[place], results, self.hardware)
                    journals[place].append(lines)
                yield place, [result for _, result in results]

    def _watch(self, place: int, results: list) -> None:
        """Stop when nothing of a cell works, instead of recording the same error ten thousand times.

        The longest prompts come first, so running out of memory on them says nothing about the others.
        """
        failures = [result for result in results if isinstance(result, Failure)]
        if len(failures) == len(results) and self._failures[place] == 0 and not self.known[place]:
            self._show_trace(self.cells[place], failures[0])
        if len(failures) < len(results) or self.known[place]:
            self._failures[place] = -len(self.keys[place])
        self._failures[place] += sum(failure.kind != "OutOfMemoryError" for failure in failures)
        if self._failures[place] >= self.settings.stop_after_errors:
            raise RunError(
                f"{self._failures[place]} samples failed and none was answered, the last with {failures[-1]}. The run "
                "stops; its log has the details, and stop_after_errors=… moves this limit"
            )

    def _show_trace(self, cell: CellSpec, failure: Failure) -> None:
        """Nothing has worked from the first batch on: whoever wrote the method wants to see where, whole and once."""
        if str(failure) not in self._traced:
            self._traced.add(str(failure))
            log.warning("%s: every sample has failed so far, the first like this:\n%s", cell.label, failure.trace)

    def _label(self) -> str:
        one = self.cells[0]
        what = one.label if len(self.cells) == 1 else f"{len(self.cells)} settings · {one.facts.benchmark.label}"
        return what if self.ranks.size == 1 else f"{what} (process 1 of {self.ranks.size})"
