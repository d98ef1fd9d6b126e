"""Readings of attention over benchmarks: sample by sample into a journal, and a result file per benchmark."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from plphp_core.config.run_settings import Settings
from plphp_core.config.table_rows import MethodSettings
from plphp_core.decoding.device import free_memory
from plphp_core.evaluation.attention.reading import read
from plphp_core.evaluation.cell_spec import shown
from plphp_core.evaluation.generation import JointAnswerer
from plphp_core.evaluation.lmms_tasks import OpenTask, Suite, TaskFacts
from plphp_core.evaluation.loading import LoadOnce, check_device
from plphp_core.evaluation.logs import logging_to
from plphp_core.evaluation.progress import Display, PlannedCell
from plphp_core.evaluation.requests import Failure, Request
from plphp_core.evaluation.results_folder import run_lock
from plphp_core.evaluation.run_status import Stop, carry_out
from plphp_core.records.attention_result import AttentionResult, load_attention_result
from plphp_core.records.cache_keys import cell_identity, sample_keys
from plphp_core.records.errors import ReportError, RunError
from plphp_core.records.host import device_name
from plphp_core.records.journal import Journal
from plphp_core.records.journal_lines import SampleLine
from plphp_core.records.manifest import Manifest, command_line
from plphp_core.records.record import digest
from plphp_core.records.revisions import Fingerprints, checkpoint_identity

READINGS = 1  # raise it when what is read changes: old readings then expire
FOLDER = "attention"  # below results/<profile>

log = logging.getLogger("plphp.attention")


@dataclass(frozen=True, eq=False)
class _Part:
    """The readings of one benchmark: their key, and the samples that are chosen."""

    facts: TaskFacts
    key: str
    identity: dict

    def journal(self, settings: Settings) -> Path:
        """All samples that were ever read, under their keys."""
        return settings.results / FOLDER / f"{settings.model.name}.{self.facts.task}.jsonl"

    def result(self, settings: Settings) -> Path:
        """Its name tells subsets, protocols, prompts and numerics apart, as those of cells do."""
        model = settings.model
        limit = "" if settings.limit is None else f".limit={settings.limit}-{settings.limit_seed}"
        kind = [settings.protocol, model.prompts, model.dtype, model.attn_implementation, *model.options]
        name = f"{model.name}.{self.facts.task}{limit}.{digest(kind)[:6]}.json"
        return settings.results / FOLDER / name


def attend(settings: Settings, config: dict, loader: LoadOnce, display: Display | None = None) -> int:
    """Read the attention of one model on benchmarks, `settings.limit` samples of each (None: all).

    Returns:
        exit code: 0 all read; 1 samples failed, or the disk did; 130 Ctrl-C; 143 SIGTERM.
    Raises:
        UserError: it cannot start as it was asked for.
    """
    display, stop = display or Display(), Stop()
    with logging_to(settings, display), stop.listening():
        manifest = Manifest(settings, config, command_line())
        failed: dict[str, int] = {}

        def work() -> bool:
            manifest.write()
            failed.update(_Attending(settings, loader, display, manifest, stop).carry_out())
            return not failed

        _, code = carry_out(work, partial(manifest.end, failed_samples=failed), display.say)
        return code


class _Attending:
    """The work of a run, benchmark after benchmark."""

    def __init__(self, settings: Settings, loader: LoadOnce, display: Display, manifest: Manifest, stop: Stop):
        self.settings, self.loader, self.display, self.manifest, self.stop = settings, loader, display, manifest, stop

    def carry_out(self) -> dict[str, int]:
        """Returns how many samples of which benchmark could not be read."""
        settings = self.settings
        fingerprints = Fingerprints(settings.results / "fingerprints.json")
        self.weights = checkpoint_identity(settings.model.checkpoint, settings.model.revision, fingerprints)
        suite = Suite(settings, fingerprints)
        parts = [self._part(suite.facts(benchmark)) for benchmark in settings.benchmarks]
        planned = [self._planned(part, suite) for part in parts]
        title = f"{settings.model.name}, profile {settings.profile}: where the last prompt token looks"
        self.display.plan(planned, title)
        self._reader: JointAnswerer | None = None
        if any(one.missing for one in planned):
            check_device(settings.model)
            self._reader = JointAnswerer(self.loader(settings.model))
        failed = {}
        for part in (part for part, one in zip(parts, planned, strict=True) if not one.finished):
            lock = settings.results / "locks" / f"{settings.model.name}.{part.facts.task}.attention.lock"
            with run_lock(lock, settings.lock_timeout, self.display.say):
                if count := self._piece(part, suite.open(part.facts)):
                    failed[part.facts.benchmark.label] = count
        return failed

    def _planned(self, part: _Part, suite: Suite) -> PlannedCell:
        """How much of a benchmark is read; its data are opened only if its result is not there."""
        label = part.facts.benchmark.label
        if (result := self._finished(part)) is not None:
            return PlannedCell("attention", label, result.n, result.n, True)
        keys = self._keys(part, suite.open(part.facts))
        known = keys.values() & Journal.peek(part.journal(self.settings)).answers.keys()
        return PlannedCell("attention", label, len(keys), len(known), False)

    def _finished(self, part: _Part) -> AttentionResult | None:
        """The result file if it is of these very samples and none of them failed."""
        try:
            found = load_attention_result(part.result(self.settings))
        except ReportError:
            return None
        mine = found.key == part.key and found.limit == self.settings.limit and not found.errors
        return found if mine and (found.limit is None or found.limit_seed == self.settings.limit_seed) else None

    def _part(self, facts: TaskFacts) -> _Part:
        settings = self.settings
        template = settings.model.make_family().prompt("text", 0)
        none = MethodSettings("none")
        of_task = (facts.task, facts.version, facts.data, facts.generation, facts.code)
        identity = cell_identity(settings.model, self.weights, template, none, *of_task)
        identity |= {"readings": {"version": READINGS}}
        return _Part(facts, digest(identity), identity)

    def _keys(self, part: _Part, task: OpenTask) -> dict[int, str]:
        return sample_keys(part.key, task.requests, task.chosen(self.settings.limit, self.settings.limit_seed))

    def _piece(self, part: _Part, task: OpenTask) -> int:
        """Read what is missing of a benchmark and write its result. Returns how many samples failed."""
        keys = self._keys(part, task)
        label = f"attention · {part.facts.benchmark.label}"
        with Journal(part.journal(self.settings)) as journal:
            journal.identify(part.key, part.identity)
            todo = [doc for doc, key in keys.items() if key not in journal.answers]
            with self.display.cell(label, len(keys), len(keys) - len(todo)) as progress:
                for number, doc in enumerate(todo):
                    with self.stop.finishing():
                        line = self._line(part, keys[doc], task.requests[doc])
                        journal.append([line])
                    progress(1, "attention", part.facts.benchmark.label)
                    if number + 1 >= self.settings.stop_after_errors and not journal.answers:
                        raise RunError(f"{number + 1} samples failed and none was read, the last with {line.error}")
            lines = {doc: journal.answers[key] for doc, key in keys.items() if key in journal.answers}
            errors = [journal.errors[key].error for doc, key in keys.items() if doc not in lines]
        self._write(part, task, lines, len(errors))
        said = f"; {len(errors)} failed, for example {errors[0]}" if errors else ""
        self.display.say(f"{label}: {len(lines)} samples read{said}")
        return len(errors)

    def _line(self, part: _Part, key: str, request: Request) -> SampleLine:
        """What became of one sample."""
        reader = self._reader
        assert reader is not None, "loaded as soon as one sample is missing"
        try:
            what = {"reading": read(reader.loaded, reader.inputs(request))}
        except Exception as error:
            failure = Failure.of(error)
            log.warning("%s: %s", request, failure)
            free_memory()
            what = {"error": failure.record}
        hardware = device_name(self.settings.model.device)
        return SampleLine(key=key, cell=part.key, doc_id=request.tag, hardware=hardware, **what)

    def _write(self, part: _Part, task: OpenTask, lines: dict[int, SampleLine], errors: int) -> None:
        """The result file, which replaces that of an earlier run on other samples."""
        settings, model = self.settings, self.settings.model
        readings = [line.reading for line in lines.values() if line.reading is not None]
        cuts = readings[0].groups if readings else ()
        AttentionResult(
            key=part.key,
            profile=settings.profile,
            model=model.name,
            family=model.family,
            checkpoint=shown(model.checkpoint, settings.root),
            revision=self.weights,
            dtype=model.dtype,
            attn_implementation=model.attn_implementation,
            prompts=model.prompts,
            protocol=settings.protocol,
            located=model.make_family().located,
            task=part.facts.task,
            benchmark=part.facts.benchmark.label,
            data_revision=part.facts.data,
            population=task.population,
            limit=settings.limit,
            limit_seed=settings.limit_seed,
            errors=errors,
            hardware="; ".join(sorted({line.hardware for line in lines.values()})),
            manifest=self.manifest.name,
            doc_ids=list(lines),
            prompt_tokens=[one.prompt_tokens for one in readings],
            image_sizes=[one.image_sizes for one in readings],
            vision_attention=[one.vision_attention for one in readings],
            groups={cut: [one.groups[cut] for one in readings] for cut in cuts},
            group_tokens={cut: [one.group_tokens[cut] for one in readings] for cut in cuts},
        ).write(part.result(settings))
