"""What is asked: one request per sample, and batches of one kind of generation."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass


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
