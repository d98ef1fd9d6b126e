"""Readings of attention over benchmarks: sample by sample into a journal, and a result file per benchmark."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from plphp_core.config.run_settings import MethodSettings, Settings
from plphp_core.decoding.device import free_memory
from plphp_core.evaluation.attention.reading import read
from plphp_core.evaluation.cell_spec import CellSpec, shown
from plphp_core.evaluation.estimate import PlannedCell
from plphp_core.evaluation.generation import JointAnswerer
from plphp_core.evaluation.lmms_tasks import OpenTask, Suite
from plphp_core.evaluation.loading import LoadOnce, check_device
from plphp_core.evaluation.logs import logging_to
from plphp_core.evaluation.progress import Display
from plphp_core.evaluation.requests import Failure, Request
from plphp_core.evaluation.results_folder import run_lock
from plphp_core.evaluation.run_status import Stop, run_and_record
from plphp_core.records.attention_result import AttentionResult
from plphp_core.records.errors import ReportError, RunError
from plphp_core.records.host import device_name
from plphp_core.records.journal import Journal
from plphp_core.records.journal_lines import SampleLine
from plphp_core.records.manifest import ManifestFile, command_line
from plphp_core.records.record import digest
from plphp_core.records.revisions import Fingerprints, checkpoint_identity

READINGS = 1  # raise it when what is read changes: old readings then expire
FOLDER = "attention"  # below results/<profile>

log = logging.getLogger("plphp.attention")


def attend(settings: Settings, config: dict, loader: LoadOnce, display: Display | None = None) -> int:
    """Read the attention of one model on benchmarks, `settings.limit` samples of each (None: all).

    Returns:
        exit code: 0 all read; 1 samples failed, or the disk did; 130 Ctrl-C; 143 SIGTERM.
    Raises:
        UserError: it cannot start as it was asked for.
    """
    display, stop = display or Display(verbose=settings.verbose), Stop()
    with logging_to(settings, display), stop.listening():
        manifest = ManifestFile(settings, config, command_line())
        failed: dict[str, int] = {}

        def work() -> bool:
            manifest.write()
            failed.update(_AttentionRun(settings, loader, display, manifest.name, stop).run())
            return not failed

        _, code = run_and_record(work, partial(manifest.end, failed_samples=failed), display.say)
        return code


class _AttentionRun:
    """The work of a run, benchmark after benchmark: a cell of `none` each, whose samples are read, not answered."""

    def __init__(self, settings: Settings, loader: LoadOnce, display: Display, manifest: str, stop: Stop):
        self.settings, self.loader, self.display, self.manifest, self.stop = settings, loader, display, manifest, stop

    def run(self) -> dict[str, int]:
        """Returns how many samples of which benchmark could not be read."""
        settings = self.settings
        fingerprints = Fingerprints(settings.results / "fingerprints.json")
        suite = Suite(settings, fingerprints)
        facts = suite.all_facts(settings.benchmarks)
        weights = checkpoint_identity(settings.model.checkpoint, settings.model.revision, fingerprints)
        none, version = MethodSettings("none"), {"version": READINGS}
        cells = [CellSpec.of(settings, none, one, weights, readings=version) for one in facts]
        planned = [_planned(cell, suite) for cell in cells]
        title = f"{settings.model.name}, profile {settings.profile}: where the last prompt token looks"
        self.display.plan(planned, title)
        if any(one.missing for one in planned):
            check_device(settings.model)
            self._reader = JointAnswerer(self.loader(settings.model))
        failed = {}
        for cell in (cell for cell, one in zip(cells, planned, strict=True) if not one.finished):
            lock = settings.results / "locks" / f"{settings.model.name}.{cell.facts.task}.attention.lock"
            with run_lock(lock, settings.lock_timeout, self.display.say):
                if count := self._piece(cell, suite.open(cell.facts)):
                    failed[cell.facts.benchmark.label] = count
        return failed

    def _piece(self, cell: CellSpec, task: OpenTask) -> int:
        """Read what is missing of a benchmark and write its result. Returns how many samples failed."""
        keys = cell.keys(task)
        label = f"attention · {cell.facts.benchmark.label}"
        with Journal(journal_path(cell)) as journal:
            journal.identify(cell.key, cell.identity)
            todo = [doc for doc, key in keys.items() if key not in journal.answers]
            with self.display.cell(label, len(keys), len(keys) - len(todo)) as progress:
                for number, doc in enumerate(todo):
                    with self.stop.finishing():
                        line = self._line(cell, keys[doc], task.requests[doc])
                        journal.append([line])
                    progress(1, cell.row, cell.facts.benchmark.label)
                    if number + 1 >= self.settings.stop_after_errors and not journal.answers:
                        raise RunError(f"{number + 1} samples failed and none was read, the last with {line.error}")
            lines = {doc: journal.answers[key] for doc, key in keys.items() if key in journal.answers}
            errors = [journal.errors[key].error for doc, key in keys.items() if doc not in lines]
        write_readings(cell, task.population, lines, len(errors), self.manifest)
        said = f"; {len(errors)} failed, for example {errors[0]}" if errors else ""
        self.display.say(f"{label}: {len(lines)} samples read{said}")
        return len(errors)

    def _line(self, cell: CellSpec, key: str, request: Request) -> SampleLine:
        """What became of one sample."""
        what: dict[str, Any]
        try:
            what = {"reading": read(self._reader.loaded, *self._reader.inputs(request))}
        except Exception as error:
            failure = Failure.of(error)
            log.warning("%s: %s", request, failure)
            free_memory()
            what = {"error": failure}
        hardware = device_name(self.settings.model.device)
        return SampleLine(key=key, cell=cell.key, doc_id=request.tag, hardware=hardware, **what)


def journal_path(cell: CellSpec) -> Path:
    """All samples that were ever read of a model on a task, under their keys."""
    return cell.settings.results / FOLDER / f"{cell.settings.model.name}.{cell.facts.task}.jsonl"


def result_path(cell: CellSpec) -> Path:
    """Its name tells subsets, protocols, prompts and numerics apart, as those of cells do."""
    settings, model = cell.settings, cell.settings.model
    limit = "" if settings.limit is None else f".limit={settings.limit}-{settings.limit_seed}"
    kind = [settings.protocol, model.prompts, model.dtype, model.attn_implementation, *model.options]
    return settings.results / FOLDER / f"{model.name}.{cell.facts.task}{limit}.{digest(kind)[:6]}.json"


def conditions(cell: CellSpec) -> dict[str, Any]:
    """What attention was read of (`AttentionConditions`), but for the hardware."""
    settings, model = cell.settings, cell.settings.model
    return {
        "profile": settings.profile,
        "model": model.name,
        "family": model.family,
        "located": model.make_family().located,
        "checkpoint": shown(model.checkpoint, settings.root),
        "revision": cell.weights,
        "dtype": model.dtype,
        "task": cell.facts.task,
        "benchmark": cell.facts.benchmark.label,
        "data_revision": cell.facts.data,
    }


def write_readings(
    cell: CellSpec, population: int, lines: Mapping[int, SampleLine], errors: int, manifest: str
) -> None:
    """The result file, which replaces that of an earlier run on other samples."""
    settings, model = cell.settings, cell.settings.model
    readings = [line.reading for line in lines.values() if line.reading is not None]
    cuts = readings[0].groups if readings else ()
    AttentionResult(
        **conditions(cell),
        key=cell.key,
        attn_implementation=model.attn_implementation,
        prompts=model.prompts,
        protocol=settings.protocol,
        population=population,
        limit=settings.limit,
        limit_seed=settings.limit_seed,
        errors=errors,
        hardware="; ".join(sorted({line.hardware for line in lines.values()})),
        manifest=manifest,
        doc_ids=list(lines),
        prompt_tokens=[one.prompt_tokens for one in readings],
        image_sizes=[one.image_sizes for one in readings],
        vision_attention=[one.vision_attention for one in readings],
        groups={cut: [one.groups[cut] for one in readings] for cut in cuts},
        group_tokens={cut: [one.group_tokens[cut] for one in readings] for cut in cuts},
    ).write(result_path(cell))


def _planned(cell: CellSpec, suite: Suite) -> PlannedCell:
    """How much of a benchmark is read; its data are opened only if its result is not there."""
    own = cell.method, cell.facts.task, cell.facts.benchmark.label, cell
    if (result := _finished(cell)) is not None:
        return PlannedCell(*own, result.n, result.n, True)
    keys = cell.keys(suite.open(cell.facts))
    known = keys.values() & Journal.peek(journal_path(cell)).answers.keys()
    return PlannedCell(*own, len(keys), len(known))


def _finished(cell: CellSpec) -> AttentionResult | None:
    """The result file if it is of these very samples and none of them failed."""
    try:
        found = AttentionResult.load(result_path(cell))
    except ReportError:
        return None
    mine = found.key == cell.key and found.limit == cell.settings.limit and not found.errors
    return found if mine and (found.limit is None or found.limit_seed == cell.settings.limit_seed) else None
