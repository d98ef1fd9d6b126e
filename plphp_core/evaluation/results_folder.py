"""The results folder: whether it takes what is going to be written, and one run at a time on a piece of it."""

from __future__ import annotations

import json
import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from plphp_core.records.errors import UserError

FIRST_TRY = 0.2  # seconds before the waiting is announced
OF_A_RUN = ("cells", "journal", "locks", "logs", "manifests", "matches")


class Busy(UserError):
    """Another run holds it."""


def check_folders(results: Path, inside: tuple[str, ...] = ()) -> None:
    """Make `results`, and try it and those of the folders `inside` that are there: before the first answer, not after
    the last.

    Raises:
        UserError: one cannot be made or written; the message names it.
    """
    for folder in (results, *(path for name in inside if (path := results / name).exists())):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as failure:
            raise UserError(not_written(folder, failure)) from failure


def not_written(folder: Path, failure: OSError) -> str:
    """What to say of a folder that cannot be written."""
    reason = "it is a file, not a folder" if folder.is_file() else failure.strerror or str(failure)
    return f"cannot write to {folder}: {reason}; see its permissions, or choose another folder with results=…"


@contextmanager
def run_lock(path: Path, timeout: float | None, announce: Callable[[str], None]) -> Iterator[None]:
    """Hold what `path` stands for, for one run.

    The operating system ties the lock to the process: it vanishes with a killed process, so no lock is ever stale.

    Args:
        path: lock file, created if missing with its folder.
        timeout: seconds to wait for another run; None waits for as long as it takes, 0 refuses at once.
        announce: called with a message when there is a wait.
    Raises:
        Busy: another run still holds it after `timeout` seconds.
        UserError: the folder cannot be written.
    """
    owner = path.with_suffix(".owner")
    lock = FileLock(path)
    if not _acquire(lock, path, FIRST_TRY if timeout is None else min(FIRST_TRY, timeout)):
        if timeout != 0:
            announce(f"waiting: {path.stem} is in use by {_owner(owner)}")
        if timeout == 0 or not _acquire(lock, path, -1 if timeout is None else max(0.0, timeout - FIRST_TRY)):
            raise Busy(
                f"{path.stem} in {path.parent.parent} is in use by {_owner(owner)}; wait for it, choose another folder "
                "with results=…, or let this run wait with lock_timeout=null"
            )
    try:
        with suppress(OSError):  # only for the message above; on a full disk the journal is what complains
            owner.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}), encoding="utf-8")
        yield
    finally:
        with suppress(OSError):
            owner.unlink()
        lock.release()


def _acquire(lock: FileLock, path: Path, timeout: float) -> bool:
    """Whether the lock was free within `timeout` seconds (-1: however long it takes)."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=timeout, poll_interval=0.2)
    except Timeout:
        return False
    except OSError as failure:
        raise UserError(not_written(path.parent, failure)) from failure
    return True


def _owner(path: Path) -> str:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return f"process {found['pid']} on {found['host']}"
    except (OSError, ValueError, KeyError):  # between taking the lock and writing its name, or a killed run's leftover
        return "another run"
