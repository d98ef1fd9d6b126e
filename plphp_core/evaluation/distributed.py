"""Several processes on one run, started by torchrun or accelerate: who answers what, and waiting for each other.

Batches are dealt out by their number, so that who answers a sample never changes its batch, and with it its answer.
Every process but the first appends to a part of its own beside each journal; the first one folds the parts in.
"""

from __future__ import annotations

import glob
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from plphp_core.records.atomic import sync_folder
from plphp_core.records.journal import Journal

LONGEST_WAIT = timedelta(days=30)  # one process may have hours of work more than another

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """This process among `size`; `local` is its number on its machine."""

    rank: int = 0
    size: int = 1
    local: int = 0

    @classmethod
    def join(cls) -> Ranks:
        """The processes that torchrun or `accelerate launch` started together with this one."""
        size = int(os.environ.get("WORLD_SIZE", 1))
        if size == 1:
            return cls()
        from torch import distributed

        if not distributed.is_initialized():
            distributed.init_process_group("gloo", timeout=LONGEST_WAIT)  # only ever to wait: no tensor is exchanged
        return cls(distributed.get_rank(), size, int(os.environ.get("LOCAL_RANK", 0)))

    @property
    def first(self) -> bool:
        """Whether this process plans, scores and talks."""
        return self.rank == 0

    def share(self, items: Sequence[T]) -> list[T]:
        """The items that this process has to do."""
        return list(items[self.rank :: self.size])

    def tell(self, value: T) -> T:
        """The first process's value, in all of them; waits for it."""
        if self.size == 1:
            return value
        from torch import distributed

        told = [value]
        distributed.broadcast_object_list(told, src=0)
        return told[0]

    def wait(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            from torch import distributed

            distributed.barrier()

    @contextmanager
    def first_alone(self) -> Iterator[None]:
        """The first process carries out the block, then all others do, which find its files and downloads there."""
        if not self.first:
            self.wait()
        yield
        if self.first:
            self.wait()

    def complain(self, message: str) -> None:
        """On standard error, of a process that is silent otherwise."""
        print(f"process {self.rank + 1} of {self.size}: {message}", file=sys.stderr, flush=True)

    def device(self, device: str) -> str:
        """This process's own GPU where `device` leaves it open which one."""
        return f"cuda:{self.local}" if device == "cuda" and self.size > 1 else device

    def journal(self, path: Path) -> Path:
        """The file to which this process appends the answers of the journal at `path`."""
        return path if self.first else path.with_name(f"{path.stem}.rank{self.rank}{path.suffix}")


def parts(path: Path) -> list[Path]:
    """What other processes have answered of the journal at `path` and is not folded in yet."""
    pattern = re.compile(re.escape(path.stem) + r"\.rank\d+" + re.escape(path.suffix))
    found = glob.glob(f"{glob.escape(str(path.with_suffix('')))}.rank*{path.suffix}")
    return sorted(part for part in map(Path, found) if pattern.fullmatch(part.name))


def fold(journal: Journal) -> None:
    """Move the answers and errors of all parts into the journal; nobody may be writing them.

    Raises:
        JournalError: the disk is full or fails; the parts stay.
    """
    for path in parts(journal.path):
        with Journal(path) as part:
            for cell, identity in part.identities.items():
                journal.identify(cell, identity)
            journal.append([*part.answers.values(), *part.errors.values()])
        path.unlink()
        sync_folder(path.parent)


def first_process() -> bool:
    """Whether this process speaks for those that were started together with it."""
    return os.environ.get("RANK", "0") == "0"


def say(message: str) -> None:
    """One line on standard error, of one process only."""
    if first_process():
        print(message, file=sys.stderr, flush=True)
