"""Cells: their names, their keys, and the result file that is written when one is finished."""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from plphp_core.config.locations import PACKAGED
from plphp_core.config.run_settings import MethodSettings, Settings, merged
from plphp_core.evaluation.generation import Result
from plphp_core.evaluation.lmms_tasks import OpenTask, Suite, TaskFacts
from plphp_core.evaluation.requests import Failure, Request
from plphp_core.records.cache_keys import (
    CODE,
    answering_code,
    installed,
    library_versions,
    method_code,
    numerics,
    sample_keys,
)
from plphp_core.records.cell_result import CellResult, costs_of
from plphp_core.records.errors import ReportError
from plphp_core.records.journal import Journal
from plphp_core.records.journal_lines import Answer, SampleLine
from plphp_core.records.record import digest, visible
from plphp_core.records.revisions import Fingerprints, checkpoint_identity

SCORES = 5  # raise it when scoring or the result file changes: finished cells are then scored again, not answered again


@dataclass(frozen=True)
class CellSpec:
    """(model, method with parameters, task) under a run's settings.

    Attributes:
        key: what every answer in the cell shares; samples under another key never enter it.
        identity: what the key is the digest of: two samples share it exactly when their answers must be the same.
        weights: identity of the checkpoint.
    """

    settings: Settings
    method: MethodSettings
    facts: TaskFacts
    weights: str
    key: str
    identity: dict = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, settings: Settings, method: MethodSettings, facts: TaskFacts, weights: str, **more: dict) -> CellSpec:
        """The cell of a row and a task.

        Args:
            weights: `checkpoint_identity`.
            more: parts of the identity beside the usual ones.
        """
        model, built = settings.model, method.built
        answering = answering_code(model.family)
        read = () if built is None else built.checkpoints
        of_method = {} if built is None else method_code(type(built))  # type: ignore[arg-type]  # a class can be hashed
        sampling = {"seed": settings.seed} if facts.generation.get("do_sample") else {}
        identity = {
            "weights": {"checkpoint": None if weights.startswith("sha256:") else model.checkpoint, "revision": weights},
            # the chat string of a fixed text shows the family's system prompt and roles
            "family": {
                "name": model.family,
                "template": model.make_family().prompt("text", 0),
                "prompts": model.prompts,
                **dict(model.options),
            },
            "numerics": numerics(model),
            "method": {"name": method.name, **method.params},
            "method_weights": {name: method_weights(name, settings.results) for name in read},
            "task": {"name": facts.task, "version": facts.version, "generation": facts.generation | sampling},
            "data": {"revision": facts.data},
            "libraries": library_versions(),
            "answering_code": answering,
            "method_code": {file: code for file, code in of_method.items() if file not in answering},
            "task_code": facts.code,
            **more,
        }
        plain = json.loads(json.dumps(identity, default=str))  # reads the same from a journal
        return cls(settings, method, facts, weights, digest(plain), plain)

    @property
    def row(self) -> str:
        return self.method.row

    @property
    def label(self) -> str:
        """Row and benchmark, for people."""
        return f"{self.row} · {self.facts.benchmark.label}"

    @property
    def journal_name(self) -> str:
        """Model, method with parameters, task: the samples answered under any limit share a journal."""
        params = [f"{name}={_in_a_file_name(value)}" for name, value in self.method.params.items()]
        return ".".join([self.settings.model.name, "-".join([self.method.name, *params]), self.facts.task])

    @property
    def name(self) -> str:
        """The journal's name, and what else tells result files apart: protocol, limit, numerics and prompts."""
        suffix = self.settings.protocol
        protocol = [] if suffix == "lmms_eval" or self.facts.task.endswith(f"_{suffix}") else [suffix]
        limit = [] if self.settings.limit is None else [f"limit={self.settings.limit}-{self.settings.limit_seed}"]
        model = self.settings.model
        device = model.device.split(":")[0]
        numerics = [model.dtype, model.attn_implementation, device, model.engine, model.prompts, *model.options]
        return ".".join([self.journal_name, *protocol, *limit, digest(numerics)[:6]])

    @property
    def journal_path(self) -> Path:
        return self.settings.results / "journal" / f"{self.journal_name}.jsonl"

    @property
    def result_path(self) -> Path:
        return self.settings.results / "cells" / f"{self.name}.json"

    @property
    def scoring(self) -> dict:
        """What chooses and scores this cell's samples, beside their answers; as `CellResult.scoring`."""
        s, facts = self.settings, self.facts
        return {
            "scores": SCORES,
            "protocol": s.protocol,
            "limit": s.limit,
            "limit_seed": s.limit_seed if s.limit else None,
            "extra_metrics": s.extra_metrics,
            "benchmark": facts.benchmark.label,
            "scoring_code": facts.scoring,
            "lmms-eval": installed("lmms-eval"),
        }

    @property
    def result_key(self) -> str:
        """Key of the result file: the answers' key and everything that chooses or scores samples."""
        return digest({"answers": self.key, **self.scoring})

    def finished(self) -> CellResult | None:
        """The result file if it is there, belongs to this very cell and has no failed samples to try again."""
        found = self.result()
        if found is None or found.key != self.result_key or found.errors:
            return None
        return found if found.intact() else None

    def remove_stale_result(self) -> None:
        """A result of the same name under another key (other weights, data or code) must not reach a table any more."""
        found = self.result()
        if found is None or found.key != self.result_key:
            self.result_path.unlink(missing_ok=True)

    def result(self) -> CellResult | None:
        """The result file of this name, whichever cell's it is; None if there is none to be read."""
        try:
            return CellResult.load(self.result_path)
        except ReportError:
            return None

    def keys(self, task: OpenTask) -> dict[int, str]:
        """doc_id → sample key, for the samples this cell's limit chooses."""
        return sample_keys(self.key, task.requests, task.chosen(self.settings.limit, self.settings.limit_seed))


@functools.cache
def method_weights(checkpoint: str, results: Path) -> str:
    """`checkpoint_identity` of what a method reads; once per process, which loads it once as well."""
    return checkpoint_identity(checkpoint, None, Fingerprints(results / "fingerprints.json"))


def cells_of(group: Sequence[Settings], suite: Suite, weights: str) -> list[CellSpec]:
    """The cells of a group of runs, each once, benchmark by benchmark."""
    found: dict[str, CellSpec] = {}
    for benchmark in merged(group).benchmarks:
        for facts in suite.facts_of(benchmark):
            for settings in group:
                if benchmark in settings.benchmarks:
                    for row in settings.methods:
                        cell = CellSpec.of(settings, row, facts, weights)
                        found.setdefault(cell.name, cell)
    return list(found.values())


def journal_lines(cell: CellSpec, keys: dict[int, str], results: Iterable[Result], hardware: str) -> list[SampleLine]:
    """What became of the samples of one batch."""

    def line(request: Request, result: Answer | Failure) -> SampleLine:
        what = {"error": result} if isinstance(result, Failure) else {"answer": result}
        return SampleLine(key=keys[request.tag], cell=cell.key, doc_id=request.tag, hardware=hardware, **what)

    return [line(request, result) for request, result in results]


def write_result(
    cell: CellSpec, task: OpenTask, journal: Journal, extra_metrics: dict[str, Callable], manifest: str
) -> CellResult:
    """Score a cell from its journal and write its result file, which marks the cell as finished.

    Samples without an answer stay out of the scores and are counted.

    Raises:
        RunError: a sample cannot be scored, or the file cannot be written.
    """
    keys = cell.keys(task)
    lines = {row: journal.answers[key] for row, key in keys.items() if key in journal.answers}
    failed = {row: journal.errors[key] for row, key in keys.items() if row not in lines and key in journal.errors}
    answers = {row: line.answer for row, line in lines.items() if line.answer is not None}
    metrics = task.score({row: answer.text for row, answer in answers.items()}, extra_metrics)
    settings, model = cell.settings, cell.settings.model
    result = CellResult(
        cell=cell.name,
        profile=settings.profile,
        protocol=settings.protocol,
        model=model.name,
        checkpoint=shown(model.checkpoint, settings.root),
        revision=cell.weights,
        dtype=model.dtype,
        attn_implementation=model.attn_implementation,
        prompts=model.prompts,
        engine=model.engine,
        versions={**library_versions(), "lmms-eval": installed("lmms-eval")},
        code={part: cell.identity[part] for part in CODE} | {"scoring_code": cell.facts.scoring},
        scores=SCORES,
        extra_metrics=settings.extra_metrics,
        method=cell.method.name,
        params=cell.method.params,
        setting=cell.method.setting,
        task=cell.facts.task,
        benchmark=cell.facts.benchmark.label,
        task_version=cell.facts.version,
        data_revision=cell.facts.data,
        limit=settings.limit,
        limit_seed=settings.limit_seed,
        population=task.population,
        n=len(answers),
        errors=len(keys) - len(answers),
        error_examples=_examples(failed),
        image_notes=_image_notes(answers.values()),
        doc_ids=list(answers),
        together=[task.together[row] for row in answers] if task.together else None,
        metrics=metrics,  # type: ignore[arg-type]  # pydantic makes each `Metric` of plain data
        efficiency=costs_of(list(answers.values())),
        batch_size=max((answer.batch_size for answer in answers.values()), default=settings.batch_size),
        hardware="; ".join(sorted({line.hardware for line in lines.values()})),
        kernels=sorted({answer.kernel for answer in answers.values() if answer.kernel is not None}),
        answers_key=cell.key,
        journal=f"journal/{cell.journal_path.name}",
        manifest=manifest,
        finished=_now(),
    ).sealed()
    result.write(cell.result_path)
    return result


def _examples(failed: Mapping[int, SampleLine]) -> list[str]:
    """Up to three different errors, each with the first document that met it."""
    found: dict[str, int] = {}
    for row, line in failed.items():
        found.setdefault(visible(str(line.error)), row)
    return [f"document {row}: {said}" for said, row in list(found.items())[:3]]


def _image_notes(answers: Iterable[Answer]) -> dict[str, int]:
    """How many images were not upright RGB, by what was done to them."""
    notes = [note.partition(": ")[2] for answer in answers for note in answer.image_notes]
    return dict(Counter(notes).most_common())


def shown(checkpoint: str, root: Path) -> str:
    """A checkpoint as results name it: relative to the repository where it lies in it."""
    path = Path(checkpoint)
    known = [one for one in (root, PACKAGED) if path.is_absolute() and path.is_relative_to(one)]
    return str(path.relative_to(known[0])) if known else checkpoint


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _in_a_file_name(value: object) -> str:
    """A folder or a hub name is told by its last part, and from others that end alike."""
    text = str(value)
    return f"{Path(text).name}-{digest(text)[:6]}" if "/" in text else text
