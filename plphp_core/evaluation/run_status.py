"""How a run ends, of answers or of attention readings: exit codes, SIGTERM, what its manifest and the terminal say."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from plphp_core.records.errors import RunError, UserError

OK, FAILED, USAGE, INTERRUPTED, TERMINATED = 0, 1, 2, 130, 143

log = logging.getLogger("plphp.runner")


class Terminated(BaseException):
    """SIGTERM, raised where the main thread is, so that files are closed in order."""


class Stop:
    """SIGTERM, as schedulers send it: the batch in flight is finished and kept, then the run ends in order. A second
    one does not wait.
    """

    def __init__(self):
        self._asked = self._busy = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Within the block SIGTERM raises Terminated.

        Only the main thread can listen, others go on without. Where somebody else listens, as submitit does in its jobs
        to have them requeued, it stays theirs.
        """
        main = threading.current_thread() is threading.main_thread()
        if not main or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
            yield
            return

        def terminate(number, frame):
            if self._busy and not self._asked:
                self._asked = True
            else:
                raise Terminated

        before = signal.signal(signal.SIGTERM, terminate)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

    @contextmanager
    def finishing(self) -> Iterator[None]:
        """Within the block a first SIGTERM waits until its end, and is raised there."""
        self._busy = True
        try:
            yield
        finally:
            self._busy = False
        if self._asked:
            raise Terminated


def run_and_record(work: Callable[[], bool], end: Callable[..., None], say: Callable[[str], None]) -> tuple[str, int]:
    """Do the work of a run and write down how it ended.

    Args:
        work: returns whether everything succeeded.
        end: takes status and exit code (`ManifestFile.end`).
    Returns:
        status and exit code: 0 finished; 1 something failed, or the disk did; 130 Ctrl-C; 143 SIGTERM.
    Raises:
        UserError: the run cannot start as it was asked for.
    """

    def ended(status: str, code: int) -> None:
        try:
            end(status, code)
        except RunError as error:  # the disk is full: the journal said so already
            say(f"error: {error}")

    try:
        status, code = ("finished", OK) if work() else ("finished with failures", FAILED)
    except KeyboardInterrupt:
        status, code = "interrupted", INTERRUPTED
    except Terminated:
        status, code = "terminated", TERMINATED
    except UserError as error:
        end("refused", USAGE, error=str(error))
        raise
    except RunError as error:
        log.info("stopped", exc_info=True)
        say(f"error: {error}")
        status, code = "stopped", FAILED
    except SystemExit:  # of a scheduler's own handler, which has put the job back into its queue
        ended("terminated", TERMINATED)
        raise
    except BaseException:
        ended("crashed", FAILED)
        raise
    if code in (INTERRUPTED, TERMINATED):
        say(f"{status}; everything answered or read is kept, run the same command again to go on")
    ended(status, code)
    return status, code
