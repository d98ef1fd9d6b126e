"""The sample browser's data: who answered what to which question, with scores and costs, sample by sample."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from plphp_core.analysis.results import SLOTS
from plphp_core.config.benchmark_catalogue import catalogue
from plphp_core.evaluation.lmms_tasks import OpenTask
from plphp_core.records.cell_result import Cell
from plphp_core.reporting.cell_answers import CellAnswers, answers
from plphp_core.reporting.configured import extra_metrics_configured
from plphp_core.reporting.dataset_access import DatasetAccess, DatasetUnavailable, images, references
from plphp_core.reporting.page.pieces import Pieces
from plphp_core.reporting.page.thumbnails import Thumbnails
from plphp_core.reporting.request import Report, ReportRequest

SHOWN = ("table1", "table3", "figure8")  # the reports whose cells are shown; sweeps would be thousands of rows
CHUNK = 100  # documents per piece
METRICS = {"rouge_l": "ROUGE-L", "cider": "CIDEr", "meteor": "METEOR", "overall": "Overall", SLOTS: "Slot accuracy"}
SETUP = ("model", "checkpoint", "revision", "dtype", "attn_implementation", "engine", "prompts", "protocol", "limit",
         "limit_seed", "task", "task_version", "data_revision")  # fmt: skip


@dataclass(eq=False)
class SampleSet:
    """One model on one benchmark: rows of answers to the same documents, under one set-up."""

    title: str
    benchmark: str
    id: str = ""  # in addresses
    cells: dict[str, Cell] = field(default_factory=dict)  # label of the row → cell

    @property
    def first(self) -> Cell:
        return next(iter(self.cells.values()))

    @property
    def documents(self) -> list[int]:
        """Answered by any of the rows, ascending."""
        return sorted({int(doc_id) for cell in self.cells.values() for doc_id in cell.doc_ids})


def sample_sets(reports: Sequence[Report]) -> list[SampleSet]:
    """The sets of the reports in SHOWN, models in the reports' order, benchmarks in the paper's; no cell twice."""
    found: dict[tuple, SampleSet] = {}
    for part in (part for report in reports if report.name in SHOWN for part in report.parts):
        for (index, benchmark), cell in sorted(part.cells.items()):
            setup = tuple(getattr(cell, name) for name in SETUP)
            one = found.setdefault(setup, SampleSet(part.title, benchmark))
            if all(cell.path != other.path for other in one.cells.values()):
                label = part.label(index)
                taken = sum(name == label or name.startswith(f"{label} (") for name in one.cells)
                one.cells[label if not taken else f"{label} ({taken + 1})"] = cell
    models = list(dict.fromkeys(one.first.model for one in found.values()))
    order = catalogue().ordered(one.benchmark for one in found.values())
    sets = sorted(found.values(), key=lambda one: (models.index(one.first.model), order.index(one.benchmark)))
    for number, one in enumerate(sets):  # the same model twice, for example on a subset too: say what differs
        alike = [other for other in sets if (other.first.model, other.benchmark) == (one.first.model, one.benchmark)]
        named = [name for name in SETUP if len({getattr(other.first, name) for other in alike}) > 1]
        said = ", ".join(f"{name} {getattr(one.first, name)}" for name in named)
        one.title += f" ({said})" if said else ""
        before = sum(other in alike for other in sets[:number])
        one.id = f"{one.first.model}.{one.benchmark}" + (f".{before + 1}" if before else "")
    return sets


def collect(
    reports: Sequence[Report],
    asked: ReportRequest,
    pieces: Pieces,
    clean: Callable = str,
    documents: DatasetAccess | None = None,
) -> dict:
    """Put every set into `pieces` and return what the browser has to know before it loads one, as plain data.

    Args:
        clean: takes the machine's paths out of messages.
        documents: opens the tasks; default: as a run of the profile does.
    """
    results = asked.options.results / asked.profile
    sets, thumbnails, tasks = sample_sets(reports), Thumbnails(pieces), _Tasks()
    documents = documents or DatasetAccess(asked.root, asked.profile, results / "fingerprints.json")
    extra = extra_metrics_configured(asked.configs, asked.profile)
    listed = []
    for number, one in enumerate(sets):
        print(f"report: samples {number + 1}/{len(sets)}, {one.title} on {one.benchmark}", file=sys.stderr, flush=True)
        found = {label: answers(cell, results, extra, clean) for label, cell in one.cells.items()}
        notes = [f"{label}: {answer.missing}" for label, answer in found.items() if answer.missing]
        try:
            task = _same_questions(documents.open(one.first), found)
            place = tasks.place(task, one, pieces, thumbnails)
        except DatasetUnavailable as reason:
            place = None
            notes.insert(0, clean(f"Questions, references and images are not shown: {str(reason).rstrip('.')}."))
        listed.append(_set(number, one, found, pieces) | {"task": place, "notes": notes})
    thumbnails.close()
    return {"sets": listed, "chunk": CHUNK}


def _same_questions(task: OpenTask, found: dict[str, CellAnswers]) -> OpenTask:
    """The task, if it asks today what was answered. Raises DatasetUnavailable."""
    for label, answer in found.items():
        for doc_id in answer.lines:
            request = task.requests.get(doc_id)
            if request is None or not answer.asked(doc_id, request.context, request.generation):
                raise DatasetUnavailable(f"the task does not ask what {label} answered as document {doc_id} any more")
    return task


class _Tasks:
    """Questions, references and places of images, once per task and selection of documents, whoever answers them."""

    def __init__(self) -> None:
        self._places: dict[tuple, int] = {}

    def place(self, task: OpenTask, one: SampleSet, pieces: Pieces, thumbnails: Thumbnails) -> int:
        key = (one.first.task, one.first.data_revision, tuple(one.documents))
        if key not in self._places:
            number = self._places[key] = len(self._places)
            for at, chunk in _chunks(one.documents):
                pieces.add(f"task-{number}-{at}", [self._document(task, doc_id, thumbnails) for doc_id in chunk])
        return self._places[key]

    @staticmethod
    def _document(task: OpenTask, doc_id: int, thumbnails: Thumbnails) -> list:
        pictures = [thumbnails.add(image) for image in images(task, doc_id)]
        return [task.requests[doc_id].context, references(task, doc_id), pictures]


def _set(number: int, one: SampleSet, found: dict[str, CellAnswers], pieces: Pieces) -> dict:
    """The answers and the index of a set as pieces, and what the browser lists of it."""
    documents = one.documents
    places = {label: {int(doc): at for at, doc in enumerate(cell.doc_ids)} for label, cell in one.cells.items()}
    metrics = _metrics(one)
    scores = [
        [
            [_number(cell.metrics[name].samples[at], 5) if at is not None and name in cell.metrics else None
             for at in map(places[label].get, documents)]
            for label, cell in one.cells.items()
        ]
        for name in metrics
    ]  # fmt: skip
    kept = [
        [None if at is None else _number(cell.costs["retention"][at], 5) for at in map(places[label].get, documents)]
        for label, cell in one.cells.items()
    ]
    pieces.add(f"index-{number}", {"documents": documents, "scores": scores, "kept": kept})
    for at, chunk in _chunks(documents):
        rows = [
            [_answer(cell, places[label].get(doc_id), found[label], doc_id) for doc_id in chunk]
            for label, cell in one.cells.items()
        ]
        pieces.add(f"answers-{number}-{at}", rows)
    return {
        "id": one.id,
        "model": one.title,
        "benchmark": one.benchmark,
        "rows": [{"label": label, "method": cell.method} for label, cell in one.cells.items()],
        "metrics": [METRICS.get(name, name) for name in metrics],
        "n": len(documents),
    }


def _answer(cell: Cell, at: int | None, found: CellAnswers, doc_id: int) -> list | None:
    """[text, prompt tokens, new tokens, KV bytes, KV bytes of all, prefill ms, decode ms per token, retention by
    layer]; text None where only scores are known; [None, why] for a sample that failed; None for one not asked."""
    if at is None:
        return [None, found.errors[doc_id]] if doc_id in found.errors else None
    line = found.lines.get(doc_id, {})
    costs = [
        _number(cell.costs[name][at], digits)
        for name, digits in (("prompt_tokens", 0), ("new_tokens", 0), ("kv_bytes", 0), ("kv_bytes_full", 0),
                             ("prefill_ms", 2), ("decode_ms_per_token", 2))
    ]  # fmt: skip
    return [line.get("text"), *costs, [_number(share, 4) for share in line.get("retention", ())]]


def _metrics(one: SampleSet) -> list[str]:
    """Names of the metrics of any row, the tables' own first."""
    first = catalogue()[one.benchmark].metrics
    others = [name for cell in one.cells.values() for name in cell.metrics]
    known = {name for cell in one.cells.values() for name in cell.metrics}
    return [name for name in dict.fromkeys([*first, *others]) if name in known]


def _chunks(documents: list[int]) -> list[tuple[int, list[int]]]:
    return [(at, documents[start : start + CHUNK]) for at, start in enumerate(range(0, len(documents), CHUNK))]


def _number(value: float, digits: int) -> float | int | None:
    if not math.isfinite(value):
        return None
    return round(float(value), digits) if digits else int(value)
