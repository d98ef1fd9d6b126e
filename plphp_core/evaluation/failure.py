"""A sample without an answer."""

from __future__ import annotations

import traceback
from dataclasses import dataclass, field


@dataclass(frozen=True, eq=False)
class Failure:
    """Why a sample has no answer. Never an empty string instead."""

    kind: str
    message: str
    trace: str = field(default="", repr=False)

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        message = str(error).strip() or "no message"
        return cls(type(error).__name__, message[:500], "".join(traceback.format_exception(error))[-4000:])

    def __str__(self) -> str:
        return f"{self.kind}: {self.message.splitlines()[0]}"
