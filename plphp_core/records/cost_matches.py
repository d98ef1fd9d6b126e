"""With which parameters methods come to a budget: what was measured, and what was found."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from plphp_core.records.record import Part, Record


class MeasuredCost(Part):
    """What a method takes of the benchmark's prompts, means over the samples.

    Attributes:
        kv_bytes: held after the prefill; tokens: vision tokens that come into attention, mean over layers. None where
            the method refuses a prompt, for the reason `refused`.
    """

    method: str
    params: dict[str, Any]
    kv_bytes: float | None = None
    tokens: float | None = None
    refused: str = ""


class CostMatch(Part):
    """A method at a budget.

    Attributes:
        cost: `kv_bytes` or `tokens`.
        budget: a share in (0, 1], or tokens from 2 on: per layer and head, or per image.
        asked: its parameters before the budget.
        params: complete, at the budget; None where it cannot be reached, for the reason `missing`.
        held: mean over the samples, as measured; wanted: what the budget comes to.
    """

    cost: str
    budget: float
    method: str
    asked: dict[str, Any]
    params: dict[str, Any] | None
    held: float | None
    wanted: float
    missing: str = ""

    @property
    def place(self) -> tuple[str, float, str, dict[str, Any]]:
        """What it was looked for: cost, budget, method, parameters before."""
        return self.cost, self.budget, self.method, self.asked


class CostMatches(Record):
    """One benchmark of one model, next to the cells: a folder `matches` with the names that cells of `none` have.

    Attributes:
        key: of the result file of `none`: weights, data, prompts, code, samples.
        lengths: tokens of each prompt that was measured; vision: of each of its images.
        token_bytes: what one token takes, in all `layers`.
        measured: by the key of the cell that has these parameters; what stands here is not measured again.
    """

    SCHEMA: ClassVar[int] = 2
    WHAT: ClassVar[str] = "a file of matched costs"
    REMEDY: ClassVar[str] = "delete it: the run measures again"

    key: str
    model: str
    benchmark: str
    lengths: list[int]
    vision: list[list[int]]
    token_bytes: int
    layers: int
    measured: dict[str, MeasuredCost] = {}
    found: list[CostMatch] = []

    def wanted(self, cost: str, budget: float) -> float:
        """What a budget comes to, mean over the prompts; one that has fewer tokens than a count keeps them all.

        Of KV bytes whole tokens are held, ⌊share · n⌋ of n, or the count; of vision tokens the share, or the count of
        every image.
        """
        counted = budget > 1
        if cost == "kv_bytes":
            held = [min(budget, n) if counted else int(budget * n + 1e-9) for n in self.lengths]
            return self.token_bytes * sum(held) / len(held)
        if not counted:
            return budget * self.full(cost)
        return sum(min(budget, size) for sizes in self.vision for size in sizes) / len(self.vision)

    def full(self, cost: str) -> float:
        """What Uncompressed takes, mean over the prompts."""
        if cost == "kv_bytes":
            return self.token_bytes * sum(self.lengths) / len(self.lengths)
        return sum(map(sum, self.vision)) / len(self.vision)

    def match(self, cost: str, budget: float, method: str, asked: Mapping[str, Any]) -> CostMatch | None:
        """What was found for a method at a budget; None if it was not looked for."""
        place = (cost, budget, method, asked)
        return next((one for one in self.found if one.place == place), None)


def matches_path(cell: Path) -> Path:
    """Where the matches of a benchmark lie, by the result file of `none`."""
    return cell.parent.parent / "matches" / cell.name


def load_matches(path: Path) -> CostMatches | None:
    """The file's content; None if there is none. Raises ReportError for a damaged file."""
    return CostMatches.load(path) if path.exists() else None
