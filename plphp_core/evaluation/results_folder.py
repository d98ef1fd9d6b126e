"""Whether a results folder takes what is going to be written: known before the first answer, not after the last."""

from __future__ import annotations

import tempfile
from pathlib import Path

from plphp_core.records.errors import UserError

OF_A_RUN = ("cells", "journal", "locks", "logs", "manifests")


def check_folders(results: Path, inside: tuple[str, ...] = ()) -> None:
    """Make `results`, and try it and those of the folders `inside` that are there.

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
