"""How a run ends: exit codes, and what its manifest and the terminal say. Evaluations and attention readings alike."""

from __future__ import annotations

import logging
from collections.abc import Callable

from plphp_core.evaluation.signals import Terminated
from plphp_core.records.errors import RunError, UserError

OK, FAILED, USAGE, INTERRUPTED, TERMINATED = 0, 1, 2, 130, 143

log = logging.getLogger("plphp.runner")


def carry_out(work: Callable[[], bool], end: Callable[..., None], say: Callable[[str], None]) -> tuple[str, int]:
    """Do the work of a run and write down how it ended.

    Args:
        work: returns whether everything succeeded.
        end: takes status and exit code (`Manifest.end`).
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
