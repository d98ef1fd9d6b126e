"""What is asked, one request per sample, in batches of one kind of generation; and why a sample has no answer."""

from __future__ import annotations

import json
import re
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pydantic import Field

from plphp_core.records.journal_lines import SampleError

ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")  # of an object in memory: another one every time, and nobody's business


@dataclass(frozen=True, eq=False)
class Request:
    """One sample to answer.

    Attributes:
        context: the task's text, before the family's chat template.
        generation: the task's generation arguments; never changed here.
        visuals: returns the sample's images (PIL), decoding them only now.
        tag: the caller's number of the sample.
        name: of the sample, for people; by default its tag.
    """

    context: str
    generation: dict
    visuals: Callable[[], list]
    tag: int = 0
    name: str = ""

    def __str__(self) -> str:
        return self.name or f"sample {self.tag}"


def batches(requests: Iterable[Request], batch_size: int) -> list[list[Request]]:
    """Batches that never mix generation arguments, longest prompts first (memory trouble shows early, little padding).

    The result depends on nothing but `requests` and `batch_size`, so an interrupted run meets the same batches again.
    """
    groups: dict[str, list[Request]] = {}
    for request in requests:
        groups.setdefault(json.dumps(request.generation, sort_keys=True, default=str), []).append(request)
    found = []
    for group in groups.values():
        group.sort(key=lambda request: (-request.context.count("<image>"), -len(request.context)))
        found += [group[start : start + batch_size] for start in range(0, len(group), batch_size)]
    return found


class Failure(SampleError):
    """Why a sample has no answer. Never an empty string instead.

    `trace` is for the reader of the terminal and of the log; journals do not keep it.
    """

    trace: str = Field(default="", repr=False, exclude=True)

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        message = ADDRESS.sub("", str(error)).strip() or "no message"
        trace = "".join(traceback.format_exception(error))
        return cls(kind=type(error).__name__, message=message[:500], trace=trace)
