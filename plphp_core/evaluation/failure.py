"""A sample without an answer."""

from __future__ import annotations

import re
import traceback
from dataclasses import dataclass, field

from plphp_core.records.journal_lines import SampleError

ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")  # of an object in memory: another one every time, and nobody's business


@dataclass(frozen=True, eq=False)
class Failure:
    """Why a sample has no answer. Never an empty string instead.

    `trace` is for the reader of the terminal and of the log; journals keep `record`.
    """

    kind: str
    message: str
    trace: str = field(default="", repr=False)

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        message = ADDRESS.sub("", str(error)).strip() or "no message"
        return cls(type(error).__name__, message[:500], "".join(traceback.format_exception(error)))

    @property
    def record(self) -> SampleError:
        """As journals keep it."""
        return SampleError(kind=self.kind, message=self.message)

    def __str__(self) -> str:
        return f"{self.kind}: {self.message.splitlines()[0]}"
