"""What runs have to do: their cells, those that are finished, what the others lack, and why."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence

from plphp_core.config.run_settings import Benchmark, MethodSettings, Run, Settings, distinct, merged
from plphp_core.evaluation.cell_spec import CellSpec
from plphp_core.evaluation.distributed import parts
from plphp_core.evaluation.estimate import PlannedCell, duration, measured, with_seconds
from plphp_core.evaluation.lmms_tasks import Suite
from plphp_core.evaluation.progress import Display
from plphp_core.evaluation.task_index import TaskRefused
from plphp_core.records.cell_result import CellResult
from plphp_core.records.errors import ReportError, UserError
from plphp_core.records.journal import Journal
from plphp_core.records.revisions import Fingerprints, checkpoint_identity

LONGEST = 40  # characters of a value that is printed whole
UNRECORDED = "its journal does not hold what they rest on"


def plan(cells: Sequence[CellSpec], suite: Suite, display: Display) -> list[PlannedCell]:
    """How far each cell of a run is; data of unfinished ones are opened, nothing is changed on disk."""

    def keys(cell: CellSpec) -> dict[int, str]:
        if not suite.is_open(cell.facts):
            display.say(f"opening {cell.facts.task} …")
        return cell.keys(suite.open(cell.facts))

    return [_planned(cell, keys) for cell in cells]


def _planned(
    cell: CellSpec, keys_of: Callable[[CellSpec], Mapping[int, str]] | None, samples: int | None = None
) -> PlannedCell:
    """How far one cell is.

    Args:
        keys_of: gives doc_id → sample key of a cell that is not finished; None: `samples` is all that is known.
    """
    own = cell.method, cell.facts.task, cell.facts.benchmark.label, cell
    rescore = cell.settings.rescore
    if not rescore and (result := cell.finished()) is not None:
        return PlannedCell(*own, result.n, result.n, True, measured=measured(cell, result))
    journal = Journal.peek(cell.journal_path, *parts(cell.journal_path))
    keys = None if keys_of is None else keys_of(cell)
    answered = journal.counts[cell.key] if keys is None else sum(key in journal.answers for key in keys.values())
    samples = samples if keys is None else len(keys)
    reason = cache_miss(cell, journal, None if rescore else cell.result(), keys)
    return PlannedCell(*own, samples, answered, False, reason, measured(cell, journal))


def show(planned: Sequence[PlannedCell], settings: Settings, display: Display, profile: Mapping) -> None:
    """The plan as a table, how long it may take, and why anything on disk is not reused."""
    limit = f", a random {settings.limit} samples of each (seed {settings.limit_seed})" if settings.limit else ""
    title = f"{settings.table or 'run'}: {settings.model.name}, profile {settings.profile}"
    display.plan(with_seconds(planned, settings, profile), f"{title}, protocol {settings.protocol}{limit}")
    for message in settings.refused:
        display.say(message)
    reasons: dict[str, list[str]] = {}
    for one in planned:
        if one.reason and one.cell:
            reasons.setdefault(one.reason, []).append(one.cell.label)
    for reason, labels in reasons.items():
        shown = ", ".join(labels[:3]) + (f" and {len(labels) - 3} more" if len(labels) > 3 else "")
        display.say(f"{shown}: {reason}")


def show_plan(names: Sequence[str], groups: Sequence[Sequence[Run]], display: Display | None = None) -> None:
    """Print what each group of runs has still to do and how long that may take; nothing is downloaded or loaded."""
    display = display or Display()
    everything: list[PlannedCell] = []
    for number, (name, group) in enumerate(zip(names, groups, strict=True), start=1):
        planned, notes = plan_ahead(group)
        settings = merged([settings for settings, _ in group])
        title = f"group {number} of {len(groups)}: {name}" + (f" ({settings.table})" if settings.table else "")
        if all(one.finished for one in planned):
            display.say(f"{title}: all {len(planned)} cells are finished")
        else:
            display.plan(planned, title)
        for note in [*notes, *settings.refused]:
            display.say(f"  {note}")
        everything += planned
    unknown = ", without what is n/a" if any(one.time is None for one in everything) else ""
    display.say(f"estimated time: {duration(sum(one.time or 0 for one in everything))}{unknown}")
    display.say("in it: prefill and decoding; not in it: downloads, loading, image processing, scoring")
    if any(one.time and not one.measured for one in everything):
        display.say("assumed: profile.seconds_per_sample, where this results folder has no times of this device yet")


def plan_ahead(group: Sequence[Run]) -> tuple[list[PlannedCell], list[str]]:
    """How far the cells of a group are, as far as that is known without data or weights; and remarks on it."""
    settings, profile = group[0][0], group[0][1]["profile"]
    rows: dict[Benchmark, tuple[MethodSettings, ...]] = {}  # each cell once, however many tables ask for it
    for one, _ in group:
        for benchmark in one.benchmarks:
            rows[benchmark] = distinct([*rows.get(benchmark, ()), *one.methods])
    fingerprints, notes = Fingerprints(settings.results / "fingerprints.json"), []
    suite, weights, planned = Suite(settings, fingerprints), "", []
    try:
        weights = checkpoint_identity(settings.model.checkpoint, settings.model.revision, fingerprints)
    except UserError as error:
        notes.append(f"{error}; nothing is taken as finished")
    for benchmark, methods in rows.items():
        name = benchmark.task.removeprefix(profile["task_prefix"])
        samples = _samples(settings, benchmark.task, (profile.get("samples") or {}).get(name))
        try:
            if not weights:
                raise UserError
            for facts in suite.facts_of(benchmark):
                planned += [_planned(CellSpec.of(settings, row, facts, weights), None, samples) for row in methods]
        except TaskRefused:
            raise
        except UserError as error:
            notes += [f"{error}; nothing is taken as finished"] if weights else []
            planned += [PlannedCell(row, benchmark.task, benchmark.label, None, samples) for row in methods]
    return with_seconds(planned, settings, profile), notes


def _samples(settings: Settings, task: str, stated: int | None) -> int | None:
    """Of a task, under the limit: as a result file has them, else as `stated`, else None."""
    found = stated
    for path in (settings.results / "cells").glob(f"*.{task}.*.json"):
        try:
            found = CellResult.load(path).population
            break
        except ReportError:  # damaged: the run will write it anew
            continue
    return min(found, settings.limit) if found and settings.limit else found


# --- Why what is on disk is not reused --------------------------------------------------------------------------------


def cache_miss(
    cell: CellSpec, journal: Journal, result: CellResult | None, keys: Mapping[int, str] | None = None
) -> str:
    """One sentence on why the cell is not finished although its files are there; empty if nothing on disk is unused.

    Args:
        journal: the cell's own.
        result: of the cell's name; None if there is none or it cannot be read.
        keys: doc_id → sample key, to notice prompts that changed under the same cell.
    """
    for other, count in journal.counts.most_common():
        if other != cell.key:
            return f"{count} answers not reused: {_answers_differ(cell, journal, other)}"
    changed = sum(keys.get(doc, line.key) != line.key for doc, line in journal.of(cell.key).items()) if keys else 0
    if changed:
        return f"{changed} answers not reused: prompt text of the samples differs"
    if result is None:
        return ""
    if result.key != cell.result_key:
        why = difference(result.scoring, cell.scoring) or _answers_differ(cell, journal, result.answers_key)
    elif not result.intact():
        why = "its file was damaged or changed after it was written; written anew"
    else:
        why = f"{result.errors} samples without an answer are tried again" if result.errors else ""
    return why and f"result not reused: {why}"


def _answers_differ(cell: CellSpec, journal: Journal, key: str) -> str:
    recorded = journal.identities.get(key)
    return UNRECORDED if recorded is None else difference(recorded, cell.identity)


def difference(before: Mapping[str, object], now: Mapping[str, object]) -> str:
    """The first difference of two identities (`CellSpec.identity`): "numerics dtype was bfloat16, is float32"."""
    for name in {**now, **before}:
        was, is_now = before.get(name), now.get(name)
        if _json(was) == _json(is_now):
            continue
        if isinstance(was, Mapping) and isinstance(is_now, Mapping):
            field = next(one for one in {**is_now, **was} if _json(was.get(one)) != _json(is_now.get(one)))
            if name.endswith("_code"):
                return f"{name.replace('_', ' ')} ({field}) has changed"
            name, was, is_now = f"{name} {field}", was.get(field), is_now.get(field)
        was, is_now = _short(was), _short(is_now)
        return f"{name} was {was}, is {is_now}" if was != is_now else f"{name} differs"
    return ""


def _short(value: object) -> str:
    text = value if isinstance(value, str) and value.isprintable() else _json(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]}…"


def _json(value: object) -> str:
    """As keys see it: 1 and 1.0 differ."""
    return json.dumps(value, sort_keys=True, default=str)
