"""SIGTERM, as schedulers send it: the batch in flight is finished and kept, then the run ends in order."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Terminated(BaseException):
    """SIGTERM, raised where the main thread is, so that files are closed in order."""


class Stop:
    """Puts SIGTERM off while something is in hand; a second one does not wait."""

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
