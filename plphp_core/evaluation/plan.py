"""What a run has to do: its cells, those that are finished, what the others lack, and why."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from plphp_core.config.run_settings import Settings
from plphp_core.evaluation.cache_miss import cache_misses
from plphp_core.evaluation.cell_spec import CellSpec
from plphp_core.evaluation.distributed import parts
from plphp_core.evaluation.lmms_tasks import Suite
from plphp_core.evaluation.progress import Display, PlannedCell
from plphp_core.evaluation.scheduler import distinct
from plphp_core.evaluation.throughput import ThroughputEstimator
from plphp_core.records.journal import Journal


@dataclass(frozen=True)
class Planned:
    """A cell and how far it is.

    Attributes:
        samples: how many it has.
        answered: how many of them the journal holds.
        finished: its result file is there.
        reasons: why answers or results that are on disk are not its own.
    """

    cell: CellSpec
    samples: int
    answered: int
    finished: bool
    reasons: tuple[str, ...] = ()

    @property
    def missing(self) -> int:
        """Samples to answer."""
        return 0 if self.finished else self.samples - self.answered


def merged(group: Sequence[Settings]) -> Settings:
    """The settings of a group of runs (`together`) as those of one, with all their methods and benchmarks."""
    tables = [settings.table for settings in group if settings.table]
    return dataclasses.replace(
        group[0],
        methods=distinct(method for settings in group for method in settings.methods),
        benchmarks=distinct(benchmark for settings in group for benchmark in settings.benchmarks),
        table=", ".join(distinct(tables)) or None,
        skipped=(),
        refused=distinct(message for settings in group for message in settings.refused),
    )


def cells_of(group: Sequence[Settings], suite: Suite, weights: str, template: str) -> list[CellSpec]:
    """The cells of a group of runs, each once, benchmark by benchmark."""
    found: dict[str, CellSpec] = {}
    for benchmark in merged(group).benchmarks:
        facts = suite.facts(benchmark)
        for settings in group:
            if benchmark in settings.benchmarks:
                for row in settings.methods:
                    cell = CellSpec.of(settings, row, facts, weights, template)
                    found.setdefault(cell.name, cell)
    return list(found.values())


def plan(cells: Sequence[CellSpec], suite: Suite, display: Display, rescore: bool) -> list[Planned]:
    """How far each cell is; nothing is changed on disk.

    Args:
        rescore: finished cells count as unfinished.
    """
    return [_planned(cell, suite, display, rescore) for cell in cells]


def _planned(cell: CellSpec, suite: Suite, display: Display, rescore: bool) -> Planned:
    result = None if rescore else cell.finished()
    if result is not None:
        return Planned(cell, result.n, result.n, True)
    journal = Journal.peek(cell.journal_path, *parts(cell.journal_path))
    if not suite.is_open(cell.facts):
        display.say(f"opening {cell.facts.task} …")
    keys = cell.keys(suite.open(cell.facts))
    answered = sum(key in journal.answers for key in keys.values())
    reasons = cache_misses(cell, journal, None if rescore else cell.result(), keys)
    return Planned(cell, len(keys), answered, False, tuple(reasons))


def show(planned: Sequence[Planned], settings: Settings, display: Display, profile: Mapping | None = None) -> None:
    """The plan as a table, and why anything on disk is not reused.

    Args:
        profile: of the resolved configuration, for what it assumes of the time that samples take.
    """
    expected = _expected(settings, profile or {}) if any(one.missing for one in planned) else lambda _: None
    limit = (
        "" if settings.limit is None else f", a random {settings.limit} samples of each (seed {settings.limit_seed})"
    )
    title = f"{settings.table or 'run'}: {settings.model.name}, profile {settings.profile}"
    display.plan(
        [
            PlannedCell(
                one.cell.row,
                one.cell.facts.benchmark.label,
                one.samples,
                one.answered,
                one.finished,
                expected(one.cell),
            )
            for one in planned
        ],
        f"{title}, protocol {settings.protocol}{limit}",
    )
    for message in settings.refused:
        display.say(message)
    for reason, labels in _by_reason(planned).items():
        shown = ", ".join(labels[:3]) + (f" and {len(labels) - 3} more" if len(labels) > 3 else "")
        display.say(f"{shown}: {reason}")


def _expected(settings: Settings, profile: Mapping) -> Callable[[CellSpec], float | None]:
    """Seconds that a sample of a cell took so far in this results folder, or may take as the profile assumes."""
    pace = ThroughputEstimator(settings.results / "journal", settings.model, profile.get("seconds_per_sample") or {})

    def seconds(cell: CellSpec) -> float | None:
        name = cell.facts.benchmark.task.removeprefix(profile.get("task_prefix") or "")
        cost = pace(cell.method.name, cell.facts.task, name)
        return None if cost is None else cost.prefill + cost.decode

    return seconds


def _by_reason(planned: Sequence[Planned]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for one in planned:
        for reason in one.reasons:
            found.setdefault(reason, []).append(one.cell.label)
    return found
