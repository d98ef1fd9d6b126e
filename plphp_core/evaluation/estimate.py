"""What groups of runs have still to do and how long that may take. Nothing is downloaded or loaded for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.table import Table

from plphp_core.config.run_settings import Benchmark, Settings
from plphp_core.config.table_rows import MethodSettings
from plphp_core.decoding.shared_prefill import can_share
from plphp_core.evaluation.cell_spec import CellSpec
from plphp_core.evaluation.distributed import parts as written_by_ranks
from plphp_core.evaluation.lmms_tasks import Suite
from plphp_core.evaluation.progress import Display, duration
from plphp_core.evaluation.scheduler import Run, labels
from plphp_core.evaluation.throughput import Cost, ThroughputEstimator
from plphp_core.records.cell_result import load_cell
from plphp_core.records.errors import ReportError, UserError
from plphp_core.records.journal import Journal
from plphp_core.records.revisions import Fingerprints, checkpoint_identity

UNKNOWN = "n/a"


@dataclass(frozen=True)
class BenchmarkEstimate:
    """A benchmark's cells of one group.

    Attributes:
        missing: answers still to be given, in all cells; None where the number of samples is unknown.
        seconds: they may take; None if unknown.
        measured: samples that rests on; 0: assumed.
    """

    benchmark: str
    cells: int
    finished: int
    missing: int | None
    seconds: float | None
    measured: int


def show_plan(groups: Sequence[Sequence[Run]], display: Display | None = None) -> None:
    """Print what each group has still to do, and an estimate of the time it takes."""
    display = display or Display()
    total, unknown, assumed = 0.0, [], []
    for number, (name, group) in enumerate(zip(labels(groups), groups, strict=True), start=1):
        parts, notes = plan(group)
        tables = ", ".join(dict.fromkeys(settings.table for settings, _ in group if settings.table))
        title = f"group {number} of {len(groups)}: {name}" + (f" ({tables})" if tables else "")
        if all(part.finished == part.cells for part in parts):
            display.say(f"{title}: all {sum(part.cells for part in parts)} cells are finished")
        else:
            display.console.print(_sheet(title, parts))
        for note in [*notes, *(message for settings, _ in group for message in settings.refused)]:
            display.say(f"  {note}")
        total += sum(part.seconds or 0 for part in parts)
        unknown += [f"{name} {part.benchmark}" for part in parts if part.seconds is None]
        assumed += [part for part in parts if part.seconds and not part.measured]
    display.say(f"estimated time: {duration(total)}" + (", without what is n/a" if unknown else ""))
    display.say("in it: prefill and decoding; not in it: downloads, loading, image processing, scoring")
    if assumed:
        display.say("assumed: profile.seconds_per_sample, where this results folder has no times of this device yet")


def plan(group: Sequence[Run]) -> tuple[list[BenchmarkEstimate], list[str]]:
    """What a group has to do, benchmark by benchmark, and remarks on how that is known."""
    settings, config = group[0]
    profile = config["profile"]
    pace = ThroughputEstimator(settings.results / "journal", settings.model, profile.get("seconds_per_sample") or {})
    known, notes = _Known(settings), []
    parts = []
    for benchmark, methods in _cells(group).items():
        cells = known.cells(benchmark, methods)
        task = cells[0].facts.task if cells else benchmark.task  # a protocol may have a task of its own
        name = benchmark.task.removeprefix(profile["task_prefix"])
        costs = [pace(method.name, task, name) for method in methods]
        samples = known.samples(task, (profile.get("samples") or {}).get(name))
        parts.append(_part(benchmark, methods, cells, samples, costs, settings.share))
    if known.reason:
        notes.append(f"{known.reason}; nothing is taken as finished")
    return parts, notes


def _cells(group: Sequence[Run]) -> dict[Benchmark, list[MethodSettings]]:
    """Every cell once, however many tables ask for it."""
    found: dict[Benchmark, list[MethodSettings]] = {}
    for settings, _ in group:
        for benchmark in settings.benchmarks:
            some = found.setdefault(benchmark, [])
            some += [method for method in settings.methods if method not in some]
    return found


class _Known:
    """What result files and journals tell of a group's cells.

    Attributes:
        reason: why the cells' keys are unknown, if they are: the hub cannot be reached, data are not there.
    """

    def __init__(self, settings: Settings):
        self.settings, self.reason = settings, ""
        self.weights: str | None = None
        fingerprints = Fingerprints(settings.results / "fingerprints.json")
        self.suite = Suite(settings, fingerprints)
        try:
            self.weights = checkpoint_identity(settings.model.checkpoint, settings.model.revision, fingerprints)
        except UserError as error:
            self.reason = str(error)

    def cells(self, benchmark: Benchmark, methods: Sequence[MethodSettings]) -> list[CellSpec] | None:
        if self.weights is None:
            return None
        try:
            facts = self.suite.facts(benchmark)
        except UserError as error:
            self.reason = str(error)
            return None
        template = self.settings.model.make_family().prompt("text", 0)
        return [CellSpec.of(self.settings, method, facts, self.weights, template) for method in methods]

    def samples(self, task: str, stated: int | None) -> int | None:
        """Of a task, under the limit: as a result file has them, else as `stated`, else None."""
        files = (self.settings.results / "cells").glob("*.json")
        counted = filter(None, (_population(path) for path in files if f".{task}." in path.name))
        found, limit = next(counted, stated), self.settings.limit
        return min(found, limit) if found and limit else found


def _population(path: Path) -> int | None:
    try:
        return load_cell(path).population
    except ReportError:  # damaged: the run will write it anew
        return None


def _part(
    benchmark: Benchmark,
    methods: Sequence[MethodSettings],
    cells: Sequence[CellSpec] | None,
    samples: int | None,
    costs: Sequence[Cost | None],
    share: bool,
) -> BenchmarkEstimate:
    """Settings that leave the prefill as it is share it if they may; the others have each their own."""
    finished = [cell.finished() is not None for cell in cells] if cells else [False] * len(methods)
    done = BenchmarkEstimate(benchmark.label, len(methods), sum(finished), 0, 0.0, 0)
    open_cells = [number for number, is_finished in enumerate(finished) if not is_finished]
    if not open_cells:
        return done
    if samples is None:
        return replace(done, missing=None, seconds=None)
    todo = {number: max(0, samples - (_answered(cells[number]) if cells else 0)) for number in open_cells}
    known = {number: cost for number in open_cells if (cost := costs[number]) is not None}
    if len(known) < len(open_cells):
        return replace(done, missing=sum(todo.values()), seconds=None)
    shared = seconds = 0.0
    for number, count in todo.items():
        prefill, decode = count * known[number].prefill, count * known[number].decode
        if share and can_share(methods[number].built):
            shared = max(shared, prefill)
        else:
            seconds += prefill
        seconds += decode
    measured = min(cost.samples for cost in known.values())
    return replace(done, missing=sum(todo.values()), seconds=shared + seconds, measured=measured)


def _answered(cell: CellSpec) -> int:
    return Journal.peek(cell.journal_path, *written_by_ranks(cell.journal_path)).counts[cell.key]


def _sheet(title: str, parts: Sequence[BenchmarkEstimate]) -> Table:
    sheet = Table(title=title, title_justify="left")
    sheet.add_column("benchmark")
    for name in ("cells done", "answers to give", "time", "from"):
        sheet.add_column(name, justify="right", no_wrap=True)
    for part in parts:
        sheet.add_row(
            part.benchmark,
            f"{part.finished}/{part.cells}",
            UNKNOWN if part.missing is None else f"{part.missing:,}",
            UNKNOWN if part.seconds is None else duration(part.seconds),
            _basis(part),
        )
    return sheet


def _basis(part: BenchmarkEstimate) -> str:
    if not part.missing or part.seconds is None:
        return ""
    return f"{part.measured:,} measured" if part.measured else "assumption"
