"""With which parameters methods hold the bytes of a budget: what was measured, and what was found."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from plphp_core.records.record import Part, Record

TOLERANCE = 0.005  # of the wanted bytes: nearer is equal


class MeasuredBytes(Part):
    """What a method holds of the benchmark's prompts.

    Attributes:
        kv_bytes: mean over the samples; None where the method refuses a prompt, for the reason `refused`.
    """

    method: str
    params: dict[str, Any]
    kv_bytes: float | None = None
    refused: str = ""


class ByteMatch(Part):
    """A method at a budget.

    Attributes:
        asked: its parameters before the budget.
        params: complete, at the budget; None where it cannot be reached, for the reason `missing`.
        kv_bytes: mean over the samples, as measured; wanted: what the budget comes to.
    """

    budget: float
    method: str
    asked: dict[str, Any]
    params: dict[str, Any] | None
    kv_bytes: float | None
    wanted: float
    missing: str = ""


class ByteMatches(Record):
    """One benchmark of one model, next to the cells: a folder `matches` with the names that cells of `none` have.

    Attributes:
        key: of the result file of `none`: weights, data, prompts, code, samples.
        lengths: tokens of each prompt that was measured; token_bytes: what one takes, in all `layers`.
        measured: by the key of the cell that has these parameters; what stands here is not measured again.
    """

    SCHEMA: ClassVar[int] = 1
    WHAT: ClassVar[str] = "a file of matched bytes"

    key: str
    model: str
    benchmark: str
    lengths: list[int]
    token_bytes: int
    layers: int
    measured: dict[str, MeasuredBytes] = {}
    found: list[ByteMatch] = []

    def match(self, budget: float, method: str, asked: Mapping[str, Any]) -> ByteMatch | None:
        """What was found for a method at a budget; None if it was not looked for."""
        return next((one for one in self.found if (one.budget, one.method, one.asked) == (budget, method, asked)), None)


def matches_path(cell: Path) -> Path:
    """Where the matches of a benchmark lie, by the result file of `none`."""
    return cell.parent.parent / "matches" / cell.name


def load_matches(path: Path) -> ByteMatches | None:
    """The file's content; None if there is none. Raises ReportError for a damaged file."""
    return ByteMatches.load(path, lambda _: "delete it: the run measures again") if path.exists() else None
