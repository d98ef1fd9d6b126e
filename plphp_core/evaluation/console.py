"""Messages of the command line: on standard error, and from one process only where torchrun started several."""

from __future__ import annotations

import os
import sys


def first_process() -> bool:
    """Whether this process speaks for those that were started together with it."""
    return os.environ.get("RANK", "0") == "0"


def say(message: str) -> None:
    """One line, now."""
    if first_process():
        print(message, file=sys.stderr, flush=True)
