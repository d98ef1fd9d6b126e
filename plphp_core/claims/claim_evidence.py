"""What a number rests on: samples, failures, gaps, hardware and the conditions of the run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce

import numpy as np

from plphp_core.analysis.bootstrap import MISSING, Estimate
from plphp_core.analysis.results import Results
from plphp_core.records.cell_result import CellResult, evaluated_alone

FEWEST = 30  # documents of a benchmark, below which a bootstrap interval is too narrow to decide anything
FAILED = 0.01  # share of the samples of a cell
FACTS = ("profile", "model", "checkpoint", "revision", "protocol", "prompts", "engine", "limit", "dtype", "batch_size")


@dataclass(frozen=True)
class ClaimEvidence:
    """n: benchmark (with its model, where there are several) → documents that every row needed answered.

    failed: cells with more than FAILED of their samples failed; missing: places without a finished cell; facts: FACTS →
    every value there is, in order; untrained: whether a model's weights are random; undefined: benchmarks without
    CIDEr, as a single document was scored.
    """

    n: Mapping[str, int] = field(default_factory=dict)
    failed: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    hardware: tuple[str, ...] = ()
    facts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    untrained: bool = False
    undefined: tuple[str, ...] = ()

    def __add__(self, other: ClaimEvidence) -> ClaimEvidence:
        return ClaimEvidence(
            {**self.n, **other.n},
            self.failed + other.failed,
            self.missing + other.missing,
            distinct((*self.hardware, *other.hardware)),
            {
                name: values
                for name in FACTS
                if (values := distinct((*self.facts.get(name, ()), *other.facts.get(name, ()))))
            },
            self.untrained or other.untrained,
            distinct((*self.undefined, *other.undefined)),
        )

    def shortfalls(self) -> list[str]:
        """Why nothing can be decided, whatever the interval; empty if there is enough."""
        few = [f"{name} {count}" for name, count in self.n.items() if count < FEWEST]
        found = [f"fewer than {FEWEST} samples: {listed(few)}"] if few else []
        found += (
            [f"no CIDEr, which a single document does not have: {listed(self.undefined)}"] if self.undefined else []
        )
        found += [f"not finished: {listed(self.missing)}"] if self.missing else []
        found += [f"more than {FAILED:.0%} of the samples failed: {listed(self.failed)}"] if self.failed else []
        return found


@dataclass(frozen=True, eq=False)
class Quantity:
    """One number that a claim is about, in `unit` (as in `finding`)."""

    name: str
    estimate: Estimate = MISSING
    unit: str = "percent"


@dataclass(frozen=True, eq=False)
class Measured:
    """The parts of a claim, what they rest on, and what a reader should know beside them (full sentences).

    gap: why parts have no number although their cells are finished.
    """

    parts: tuple[Quantity, ...]
    evidence: ClaimEvidence
    remarks: tuple[str, ...] = ()
    gap: str = "a reference score of 0, or cells without this measurement"


def negative(one: Estimate, factor: float = 1.0) -> Estimate:
    """−`factor` times the estimate, `factor` > 0: what is lost or saved, where a change is what is gained."""
    return Estimate(-factor * one.value, -factor * one.replicates, -factor * one.high, -factor * one.low)


def of_cells(results: Results, rows: Sequence[int], benchmarks: Iterable[str], several: bool = False) -> ClaimEvidence:
    """ClaimEvidence of these rows on these benchmarks; `several`: names carry the model."""
    front = f"{results.title} " if several else ""
    n: dict[str, int] = {}
    failed, missing, cells = [], [], []
    for name in benchmarks:
        column = [results.cells.get((index, name)) for index in rows]
        present = [cell for cell in column if cell is not None]
        missing += [f"{front}{results.label(at)} on {name}" for at, cell in zip(rows, column, strict=True) if not cell]
        for at, cell in zip(rows, column, strict=True):
            if cell is not None and cell.errors > FAILED * (cell.n + cell.errors):
                failed.append(f"{front}{results.label(at)} on {name}: {cell.errors} of {cell.n + cell.errors}")
        if present:
            n[f"{front}{name}"] = len(reduce(np.intersect1d, [cell.doc_ids for cell in present]))
            cells += present
    facts = {name: distinct(_fact(cell, name) for cell in cells) for name in FACTS}
    hardware = distinct(name for cell in cells for name in cell.hardware.split("; "))
    alone = tuple(f"{front}{name}" for name in evaluated_alone(cells))
    return ClaimEvidence(n, tuple(failed), tuple(missing), hardware, facts, results.untrained, alone)


def _fact(cell: CellResult, name: str) -> str:
    if name == "limit":
        return "full" if cell.limit is None else f"{cell.limit} (seed {cell.limit_seed})"
    if name == "batch_size" and cell.batch_size is None:
        return "unrecorded"
    return str(getattr(cell, name))


def distinct(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def listed(names: Sequence[str], most: int = 6) -> str:
    """Names with commas, the first `most` of them."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
