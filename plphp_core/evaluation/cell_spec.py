"""Cells: their names, their keys, and the result file that is written when one is finished."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path

from plphp_core.config.run_settings import MethodSettings, Settings
from plphp_core.evaluation.answering import Answer, Failure, Request, Result
from plphp_core.evaluation.lmms_tasks import OpenTask, TaskFacts
from plphp_core.records.cache_keys import CODE, cell_identity, digest, installed, library_versions, sample_keys
from plphp_core.records.errors import RunError
from plphp_core.records.journal import Journal, write_atomically

SCHEMA = 1
COUNTED = {"text", "hardware", *(part.name for part in fields(Answer))} - {"images_sha256", "image_notes"}  # of a line
SCORES = 3  # raise it when scoring or the result file changes: finished cells are then scored again, not answered again


@dataclass(frozen=True)
class Cell:
    """(model, method with parameters, task) under a run's settings.

    Attributes:
        key: what every answer in the cell shares; samples under another key never enter it.
        identity: what the key is the digest of.
        weights: identity of the checkpoint.
    """

    settings: Settings
    method: MethodSettings
    facts: TaskFacts
    weights: str
    key: str
    identity: dict = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, settings: Settings, method: MethodSettings, facts: TaskFacts, weights: str, template: str) -> Cell:
        generation = facts.generation | ({"seed": settings.seed} if facts.generation.get("do_sample") else {})
        identity = cell_identity(
            settings.model, weights, template, method, facts.task, facts.version, facts.data, generation, facts.code
        )
        return cls(settings, method, facts, weights, digest(identity), identity)

    @property
    def row(self) -> str:
        """Method and setting, as a row of a table shows them."""
        return f"{self.method.name} {self.method.setting}".strip()

    @property
    def label(self) -> str:
        """Row and benchmark, for people."""
        return f"{self.row} · {self.facts.benchmark.label}"

    @property
    def journal_name(self) -> str:
        """Model, method with parameters, task: the samples answered under any limit share a journal."""
        params = [f"{name}={value}" for name, value in self.method.params.items()]
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
    def result_key(self) -> str:
        """Key of the result file: the answers' key and everything that chooses or scores samples."""
        s, facts = self.settings, self.facts
        return result_key(SCORES, self.key, s.protocol, s.limit, s.limit_seed, s.extra_metrics, facts.benchmark.label,
                          facts.scoring, installed("lmms-eval"))  # fmt: skip

    def finished(self) -> dict | None:
        """The result file if it is there, belongs to this very cell and has no failed samples to try again."""
        found = self.result()
        mine = found.get("key") == self.result_key and found.get("errors") == 0
        return found if mine and whole(found) else None

    def remove_stale_result(self) -> None:
        """A result of the same name under another key (other weights, data or code) must not reach a table any more."""
        if self.result().get("key") != self.result_key:
            self.result_path.unlink(missing_ok=True)

    def result(self) -> dict:
        """What the result file of this name says, whichever cell's it is; empty if there is none to be read."""
        try:
            found = json.loads(self.result_path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def keys(self, task: OpenTask) -> dict[int, str]:
        """doc_id → sample key, for the samples this cell's limit chooses."""
        return sample_keys(self.key, task.requests, task.chosen(self.settings.limit, self.settings.limit_seed))


def result_key(scores: int, answers: str, protocol: str, limit: int | None, limit_seed: int, extra_metrics: Mapping,
               benchmark: str, scoring: Mapping, lmms_eval: str) -> str:  # fmt: skip
    """Key of a result file from what it says of itself and the key of the answers that it scores."""
    seed = limit_seed if limit else None
    return digest([scores, answers, protocol, limit, seed, extra_metrics, benchmark, scoring, lmms_eval])


def journal_record(cell: Cell, key: str, request: Request, result: Answer | Failure, hardware: str) -> dict:
    """One journal line."""
    common = {"key": key, "cell": cell.key, "doc_id": request.tag, "time": _now(), "hardware": hardware}
    if isinstance(result, Failure):
        return common | {"error": result.record}
    return common | vars(result)


def journal_records(cell: Cell, keys: dict[int, str], results: Iterable[Result], hardware: str) -> list[dict]:
    """Journal lines of one batch."""
    return [journal_record(cell, keys[request.tag], request, result, hardware) for request, result in results]


def write_result(
    cell: Cell, task: OpenTask, journal: Journal, extra_metrics: dict[str, Callable], manifest: str
) -> dict:
    """Score a cell from its journal and write its result file, which marks the cell as finished.

    Samples without an answer stay out of the scores and are counted.

    Raises:
        RunError: a sample cannot be scored, its line in the journal is not whole, or the file cannot be written.
    """
    keys = cell.keys(task)
    lines = {row: journal.answers[key] for row, key in keys.items() if key in journal.answers}
    for row, line in lines.items():
        if missing := sorted(COUNTED - line.keys()):
            raise RunError(
                f"{journal.path}: the line of document {row} lacks {', '.join(missing)}; delete that line, and the "
                "next run answers the sample again"
            )
    failed = {row: journal.errors[key] for row, key in keys.items() if row not in lines and key in journal.errors}
    metrics = task.score({row: line["text"] for row, line in lines.items()}, extra_metrics)
    settings, model = cell.settings, cell.settings.model
    result = {
        "schema": SCHEMA,
        "cell": cell.name,
        "profile": settings.profile,
        "protocol": settings.protocol,
        "model": model.name,
        "checkpoint": shown(model.checkpoint, settings.root),
        "revision": cell.weights,
        "dtype": model.dtype,
        "attn_implementation": model.attn_implementation,
        "prompts": model.prompts,
        "engine": model.engine,
        "versions": {**library_versions(), "lmms-eval": installed("lmms-eval")},
        "code": {part: cell.identity[part] for part in CODE} | {"scoring code": cell.facts.scoring},
        "scores": SCORES,
        "extra_metrics": settings.extra_metrics,
        "method": cell.method.name,
        "params": cell.method.params,
        "setting": cell.method.setting,
        "task": cell.facts.task,
        "benchmark": cell.facts.benchmark.label,
        "task_version": cell.facts.version,
        "data_revision": cell.facts.data,
        "limit": settings.limit,
        "limit_seed": settings.limit_seed,
        "population": task.population,
        "n": len(lines),
        "errors": len(keys) - len(lines),
        "error_examples": _examples(failed),
        "image_notes": _image_notes(lines.values()),
        "doc_ids": list(lines),
        "metrics": metrics,
        "efficiency": efficiency(list(lines.values())),
        "batch_size": max((line["batch_size"] for line in lines.values()), default=settings.batch_size),
        "hardware": "; ".join(sorted({line["hardware"] for line in lines.values()})),
        "kernels": sorted({line["kernel"] for line in lines.values()} - {None}),
        "key": cell.result_key,
        "journal": f"journal/{cell.journal_path.name}",
        "manifest": manifest,
        "finished": _now(),
    }
    result = _finite(result)
    result["content"] = content_hash(result)
    lines = [
        f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False, allow_nan=False)}" for key, value in result.items()
    ]
    write_atomically(cell.result_path, "{\n" + ",\n".join(lines) + "\n}\n")
    return result


def content_hash(result: Mapping) -> str:
    """Of all that a result file says, but for this hash itself."""
    return digest({name: value for name, value in result.items() if name != "content"})


def whole(result: Mapping) -> bool:
    """Whether a result file is as it was written: nothing lost, nothing changed by hand."""
    return result.get("content") == content_hash(result)


def _examples(failed: Mapping[int, dict]) -> list[str]:
    """Up to three different errors, each with the first document that met it."""
    found: dict[str, int] = {}
    for row, line in failed.items():
        error = line["error"]
        found.setdefault(f"{error['kind']}: {error['message'].splitlines()[0]}", row)
    return [f"document {row}: {said}" for said, row in list(found.items())[:3]]


def _image_notes(lines: Iterable[dict]) -> dict[str, int]:
    """How many images were not upright RGB, by what was done to them."""
    notes = [note.partition(": ")[2] for line in lines for note in line.get("image_notes", ())]
    return dict(Counter(notes).most_common())


def efficiency(lines: list[dict]) -> dict[str, list]:
    """Per-sample costs of answered samples, in the lines' order.

    A batch's wall time is shared equally: prefill per sample, decode per sample and step (None where nothing was
    decoded after the first token).
    """

    def per_token(line: dict) -> float | None:
        return line["decode_ms"] / (line["decode_steps"] * line["batch_size"]) if line["decode_steps"] else None

    return {
        "retention": [sum(line["retention"]) / len(line["retention"]) for line in lines],
        "kv_bytes": [line["kv_bytes"] for line in lines],
        "kv_bytes_full": [line["kv_bytes_full"] for line in lines],
        "prefill_ms": [line["prefill_ms"] / line["batch_size"] for line in lines],
        "decode_ms": [line["decode_ms"] / line["batch_size"] for line in lines],
        "decode_ms_per_token": [per_token(line) for line in lines],
        "new_tokens": [line["new_tokens"] for line in lines],
        "prompt_tokens": [line["prompt_tokens"] for line in lines],
    }


def shown(checkpoint: str, root: Path) -> str:
    """A checkpoint as results name it: relative to the repository where it lies in it."""
    path = Path(checkpoint)
    return str(path.relative_to(root)) if path.is_absolute() and path.is_relative_to(root) else checkpoint


def _finite(value):
    """JSON has no NaN: a score that does not exist is null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, (list, tuple)) else value


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
