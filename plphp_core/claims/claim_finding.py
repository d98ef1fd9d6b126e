"""One claim judged: everything that a table, a page or another program needs to show of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass

from plphp_core.claims.verdict import Outcome, Verdict
from plphp_core.reporting.table_model import NA, number

PERCENT, SAVED, TOKENS, POINTS, ORDER = "percent", "percent_saved", "decoded_tokens", "points", "order"


@dataclass(frozen=True)
class Range:
    """A number with its 95 % interval; nan where unknown."""

    value: float = math.nan
    low: float = math.nan
    high: float = math.nan

    def minus(self, number: float) -> Range:
        return Range(self.value - number, self.low - number, self.high - number)


@dataclass(frozen=True)
class Part:
    """One of the numbers that a claim is about. `outcome`: what the rule says of it; None where it is not asked."""

    name: str
    unit: str
    ours: Range
    outcome: Outcome | None


@dataclass(frozen=True)
class ClaimFinding:
    """A claim of the paper and what was found.

    id, text, where, unit, published: as in claims.yaml; `published` None where the claim has no number.
    statement: what must hold for the claim, in words; statistic: what our numbers are.
    label: "" on the paper's profile with trained weights; otherwise what the numbers come from, such as "toy".
    outcome: what the rule says of the numbers, whatever they come from; None where they are not judged.
    ours, difference: of claims about one number; nan otherwise. difference: ours − published, in the unit.
    n: benchmark → documents that every needed row answered. conditions: of the runs, every value there is.
    sources: tables and figures it rests on. run: the command that brings what is missing.
    """

    id: str
    text: str
    where: str
    unit: str
    published: float | None
    statement: str
    statistic: str
    label: str
    verdict: Verdict
    outcome: Outcome | None
    ours: Range
    difference: Range
    parts: tuple[Part, ...]
    n: Mapping[str, int]
    hardware: tuple[str, ...]
    conditions: Mapping[str, tuple[str, ...]]
    sources: tuple[str, ...]
    why: str
    remarks: tuple[str, ...]
    run: str

    @property
    def total(self) -> int:
        """Documents over all benchmarks."""
        return sum(self.n.values())

    def as_dict(self) -> dict:
        """Plain data for JSON; unknown numbers are None."""
        return plain(self)


def plain(value: object) -> object:
    """Dataclasses as dictionaries, tuples as lists, numbers with eight digits, nan and infinities as None."""
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, float):
        return float(f"{value:.8g}") if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int) else str(value)


def written(value: float | None, unit: str, signed: bool = True) -> str:
    """A number in its unit, as text; n/a for None and nan."""
    if value is None or math.isnan(value):
        return NA
    decimals, behind = {TOKENS: (3, " tokens"), POINTS: (2, " points")}.get(unit, (2, "%"))
    return number(value, decimals, signed and unit != SAVED and unit != TOKENS) + behind


def span(ours: Range, unit: str, signed: bool = True) -> str:
    """An interval as "[low, high]"; n/a unless both ends are known."""
    if math.isnan(ours.low) or math.isnan(ours.high):
        return NA
    low, high = written(ours.low, unit, signed), written(ours.high, unit, signed)
    number, space, name = low.partition(" ")
    return f"[{number}, {high.removesuffix(space + name)}]{space}{name}"
