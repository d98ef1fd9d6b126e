"""Files that are replaced as a whole."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from plphp_core.records.errors import NotWritten


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace `path` in one step: readers, and whoever comes after a kill, find the old content or the new.

    Raises:
        NotWritten: the disk is full or fails; the old content stays.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    # half of a surrogate pair, which UTF-8 does not have, is written as JSON and Python spell it
    data = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as failure:
        raise NotWritten(
            f"cannot write {path}: {failure.strerror}; nothing already written is lost; see its permissions, or choose "
            "another folder with results=…"
        ) from failure
    finally:
        with suppress(OSError):  # said above
            temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make a file's creation or renaming in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
