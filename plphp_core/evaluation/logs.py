"""Where a run's log goes: results/<profile>/logs/run.log, and warnings to the terminal too."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from plphp_core.config.run_settings import Settings
from plphp_core.evaluation.progress import Display
from plphp_core.evaluation.results_folder import OF_A_RUN, check_folders
from plphp_core.records.errors import UserError


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
def logging_to(settings: Settings, display: Display) -> Iterator[None]:
    """Our log and lmms-eval's to the results folder, our warnings to the terminal, within the block.

    Raises:
        UserError: the results folder cannot be written.
    """
    import lmms_eval.tasks  # noqa: F401  importing it sets up loguru's global logger, so before changing that
    from loguru import logger as lmms_log

    check_folders(settings.results, OF_A_RUN)
    path = settings.results / "logs" / "run.log"
    try:
        path.parent.mkdir(exist_ok=True)
        file = _LogFile(path, encoding="utf-8")
    except OSError as failure:
        raise UserError(
            f"cannot write {path}: {failure.strerror or failure}; delete it, or see its permissions"
        ) from failure
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    handlers = [file, _Terminal(display)]
    ours = logging.getLogger("plphp")
    ours.setLevel(logging.INFO)
    for handler in handlers:
        ours.addHandler(handler)
    lmms_log.remove()
    sink = lmms_log.add(file, level="INFO", format="{message}")  # not the path, in which it would replace {…}
    try:
        yield
    finally:
        lmms_log.remove(sink)
        for handler in handlers:
            ours.removeHandler(handler)
        file.close()
