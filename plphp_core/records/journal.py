"""The journal: one append-only JSON line per answered sample, the only source of truth of an evaluation.

What holds, whatever kills the process: every line that was appended and synced stays; a line torn by the kill is cut
off when the journal is opened again and kept aside; no key is answered twice. Errors are lines too, and are superseded
by a later answer under the same key. A third kind of line says once what a cell's key stands for, so that answers that
are not reused can say why.
"""

from __future__ import annotations

import errno
import logging
import os
from collections import Counter
from collections.abc import Collection, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from plphp_core.records.atomic import sync_folder, write_atomically
from plphp_core.records.errors import NotWritten, RunError
from plphp_core.records.journal_lines import SCHEMA, CellKeyLine, OtherSchema, SampleLine, encoded, parsed

FLAGS = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
FULL_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

log = logging.getLogger("plphp.journal")


class JournalError(RunError):
    """The journal could not be read or written; everything reported as appended before is still there."""


class Journal:
    """Answers of one cell on disk. Opening it repairs a torn end; hold the cell's lock while it is open.

    Attributes:
        answers: key → line, the first answer (or reading) under each key.
        errors: key → line, the latest error of each key that has no answer yet.
        counts: cell key → number of its answers.
        identities: cell key → what it is the digest of (`CellSpec.identity`).
    """

    def __init__(self, path: Path):
        """Raises JournalError: it cannot be written, or is of another version."""
        self._begin(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        created = not path.exists()
        try:
            self._file = os.open(path, FLAGS, 0o644)
            if created:
                sync_folder(path.parent)
            self._size = self._recover()
        except NotWritten:  # says it better
            raise
        except OSError as failure:
            raise self._failed(failure) from failure

    @classmethod
    def peek(cls, *paths: Path) -> Journal:
        """What journals hold together, where another process may be writing: nothing is repaired, or can be appended.

        Args:
            paths: the journal, and its parts if there are any (`ranks.parts`); missing ones are empty.
        """
        found = cls.__new__(cls)
        found._begin(paths[0])
        for path in paths:
            with suppress(FileNotFoundError):
                content = path.read_bytes()
                for line in content[: content.rfind(b"\n") + 1].split(b"\n"):
                    if (known := found._line(line, path)) is not None:
                        found._remember(known)
        return found

    def of(self, cell_key: str) -> dict[int, SampleLine]:
        """doc_id → line, of the answers under a cell's key."""
        return {line.doc_id: line for line in self.answers.values() if line.cell == cell_key}

    def _begin(self, path: Path) -> None:
        self.path, self._file, self._size = path, -1, 0
        self.answers: dict[str, SampleLine] = {}
        self.errors: dict[str, SampleLine] = {}
        self.counts: Counter[str] = Counter()
        self.identities: dict[str, dict[str, Any]] = {}

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file; everything appended is already on disk."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def append(self, lines: Iterable[SampleLine]) -> None:
        """Write lines and return once they are on disk; those whose key is answered already are left out.

        Raises:
            JournalError: the disk is full or fails. The journal then ends where it ended before the call.
        """
        fresh: dict[str, SampleLine] = {}
        for line in lines:
            if line.key not in self.answers:
                fresh.setdefault(line.key, line)
        self._write(fresh.values())

    def identify(self, cell_key: str, identity: dict[str, Any]) -> None:
        """Write down, once, what a cell's key stands for; return when it is on disk.

        Raises:
            JournalError: as `append`.
        """
        if cell_key not in self.identities:
            self._write([CellKeyLine(cell=cell_key, identity=identity)])

    def _write(self, lines: Collection[SampleLine | CellKeyLine]) -> None:
        """All of the lines or none."""
        if not lines:
            return
        data = b"".join(map(encoded, lines))
        try:
            _write_all(self._file, data)
            os.fsync(self._file)
        except BaseException as failure:  # Ctrl-C between write and sync included: what is not known to be safe goes
            os.ftruncate(self._file, self._size)
            if isinstance(failure, OSError):
                raise self._failed(failure) from failure
            raise
        self._size += len(data)
        for line in lines:
            self._remember(line)

    def _remember(self, line: SampleLine | CellKeyLine) -> None:
        if isinstance(line, CellKeyLine):
            self.identities.setdefault(line.cell, line.identity)
        elif line.key in self.answers:
            return
        elif line.error is not None:
            self.errors[line.key] = line
        else:
            self.answers[line.key] = line
            self.counts[line.cell] += 1
            self.errors.pop(line.key, None)

    def _line(self, line: bytes, path: Path) -> SampleLine | CellKeyLine | None:
        try:
            return parsed(line)
        except OtherSchema as other:
            self.close()
            raise JournalError(
                f"{path}: has lines of schema {other}, this version reads schema {SCHEMA}; move the file away, or "
                "choose another folder with results=…, to answer its samples again"
            ) from None

    def _recover(self) -> int:
        """Read every whole line; cut off a torn end. Returns the size of the sound part in bytes."""
        content = self.path.read_bytes()
        end = content.rfind(b"\n") + 1
        lines = content[:end].split(b"\n")[:-1]
        while (
            lines and self._line(lines[-1], self.path) is None
        ):  # after a power cut the last line can be whole and still be noise
            end -= len(lines.pop()) + 1
        broken = {}
        for number, line in enumerate(lines, start=1):
            if (known := self._line(line, self.path)) is None:
                broken[number] = line
            else:
                self._remember(known)
        if end < len(content):
            log.warning(
                "%s ends in a torn line (%d bytes, a run was killed while writing); moved to %s",
                self.path,
                len(content) - end,
                self._set_aside(content[end:]),
            )
            os.ftruncate(self._file, end)
            os.fsync(self._file)
        return self._without(broken, lines) if broken else end

    def _without(self, broken: dict[int, bytes], lines: list[bytes]) -> int:
        """Take lines that say nothing out of the middle of the file, which is replaced as a whole. Returns its size."""
        log.warning(
            "%s: no journal line: %s; moved to %s, their samples will be answered again",
            self.path,
            ", ".join(f"line {number}" for number in broken),
            self._set_aside(b"\n".join(broken.values())),
        )
        sound = b"".join(line + b"\n" for number, line in enumerate(lines, start=1) if number not in broken)
        write_atomically(self.path, sound)
        os.close(self._file)
        self._file = os.open(self.path, FLAGS, 0o644)
        return len(sound)

    def _set_aside(self, torn: bytes) -> Path:
        """Keep what is no journal line in a file beside; returns that file."""
        aside = self.path.with_suffix(".torn")
        stamp = datetime.now(UTC).isoformat(timespec="seconds")
        with aside.open("ab") as file:
            file.write(f"# {stamp}, cut from {self.path.name}\n".encode() + torn.rstrip(b"\n") + b"\n")
            file.flush()
            os.fsync(file.fileno())
        return aside

    def _failed(self, failure: OSError) -> JournalError:
        reason = "the disk is full" if failure.errno in FULL_DISK else failure.strerror
        return JournalError(
            f"cannot write {self.path}: {reason}. {len(self.answers)} answers in it are safe; make room and run the "
            "same command again to go on"
        )


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
