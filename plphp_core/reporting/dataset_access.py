"""Questions, references and images of evaluated samples, from the data that were evaluated and from no others."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from PIL.Image import Image

from plphp_core.config.hydra_app import composed
from plphp_core.config.run_settings import Benchmark, settings_from_config
from plphp_core.evaluation.encoding import whole_images_only
from plphp_core.evaluation.lmms_tasks import OpenTask, Suite
from plphp_core.records.cell_result import CellResult
from plphp_core.records.errors import UserError
from plphp_core.records.revisions import Fingerprints

log = logging.getLogger("plphp.page")


class DatasetUnavailable(Exception):
    """The data behind a cell cannot be shown; the message says why, in half a sentence."""


class DatasetAccess:
    """Opens the tasks of finished cells, each once. lmms-eval is imported when the first one is opened."""

    def __init__(self, profile: str, memory: Path):
        """`memory`: file in which content hashes of data are remembered."""
        self._profile, self._memory = profile, memory
        self._tasks: dict[tuple[str, str], OpenTask | DatasetUnavailable] = {}

    def open(self, cell: CellResult) -> OpenTask:
        """The cell's task with the very data that it was answered on. Raises DatasetUnavailable."""
        key = (cell.task, cell.data_revision)
        if key not in self._tasks:
            try:
                self._tasks[key] = self._open(cell)
            except DatasetUnavailable as reason:
                self._tasks[key] = reason
            except Exception as error:  # of a task's own code, or of the network: a report is made without, too
                said = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
                self._tasks[key] = DatasetUnavailable(f"the data cannot be opened: {said}")
        found = self._tasks[key]
        if isinstance(found, DatasetUnavailable):
            raise found
        return found

    def _open(self, cell: CellResult) -> OpenTask:
        facts = self.suite.facts(Benchmark(cell.benchmark, cell.task))
        if facts.data != cell.data_revision:
            raise DatasetUnavailable(
                f"the data at hand are revision {facts.data[:19]}, the answers belong to {cell.data_revision[:19]}"
            )
        return self.suite.open(facts)

    @cached_property
    def suite(self) -> Suite:
        """The profile's tasks. Raises DatasetUnavailable."""
        try:
            settings = settings_from_config(composed([f"profile={self._profile}"]))
            with contextlib.redirect_stderr(io.StringIO()):  # what lmms-eval says of optional packages
                return Suite(settings, Fingerprints(self._memory))
        except (UserError, ImportError) as error:
            raise DatasetUnavailable(f"the tasks cannot be read: {str(error).splitlines()[0]}") from error


def references(task: OpenTask, doc_id: int) -> list[str]:
    """What the task compares an answer with; nothing where the task cannot say, which is logged."""
    try:
        found = task.task.doc_to_target(task.task.eval_docs_no_media[doc_id])
    except Exception as error:
        log.warning("references of document %d of %s cannot be shown: %s", doc_id, task.facts.task, error)
        return []
    return [str(one) for one in (found if isinstance(found, (list, tuple)) else [found])]


def images(task: OpenTask, doc_id: int) -> Iterator[Image]:
    """The images of a document; none where they cannot be read, which is logged."""
    try:
        with whole_images_only():
            yield from task.requests[doc_id].visuals() or []
    except Exception as error:  # a data set's own code and decoders; one broken image costs its sample the picture
        log.warning("images of document %d of %s cannot be shown: %s", doc_id, task.facts.task, error)
