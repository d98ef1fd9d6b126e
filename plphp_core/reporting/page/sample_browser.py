"""The sample browser's data: who answered what to which question, with scores and costs, sample by sample."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from plphp_core.analysis.method_style import method_style
from plphp_core.analysis.results import SLOTS
from plphp_core.config.benchmark_catalogue import catalogue
from plphp_core.evaluation.lmms_tasks import OpenTask
from plphp_core.records.cell_result import CellResult
from plphp_core.reporting.cell_answers import CellAnswers, answers
from plphp_core.reporting.dataset_access import DatasetAccess, DatasetUnavailable, images, references
from plphp_core.reporting.page.pieces import Pieces
from plphp_core.reporting.page.thumbnails import Thumbnails
from plphp_core.reporting.request import Report, ReportRequest

SWEEP = "sweep"
GRIDS = ("table2", "figure6", SWEEP, "engines")  # reports with many settings of one method: thousands of rows
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
    cells: dict[str, CellResult] = field(default_factory=dict)  # label of the row → cell

    @property
    def first(self) -> CellResult:
        return next(iter(self.cells.values()))

    @property
    def documents(self) -> list[int]:
        """Answered by any of the rows, ascending."""
        return sorted({int(doc_id) for cell in self.cells.values() for doc_id in cell.doc_ids})


def _rows_shown(reports: Sequence[Report]) -> Iterator[tuple[str, str, CellResult]]:
    """Model as printed, label and cell of the rows of every report but GRIDS; of the sweep also the methods and the
    benchmarks that are in no other report."""
    known = set()
    for report in sorted(reports, key=lambda one: one.name == SWEEP):
        if report.name in GRIDS and report.name != SWEEP:
            continue
        for part in report.parts:
            for (index, _), cell in sorted(part.cells.items()):
                new = not {(cell.model, cell.method), (cell.model, cell.benchmark)} <= known
                if report.name != SWEEP or new:
                    yield part.title, part.label(index), cell
        if report.name != SWEEP:
            known |= {
                (cell.model, name)
                for part in report.parts
                for cell in part.cells.values()
                for name in (cell.method, cell.benchmark)
            }


def sample_sets(reports: Sequence[Report]) -> list[SampleSet]:
    """The sets of the rows shown, models in the reports' order, benchmarks in the paper's; no cell twice."""
    found: dict[tuple, SampleSet] = {}
    for title, label, cell in _rows_shown(reports):
        setup = tuple(getattr(cell, name) for name in SETUP)
        one = found.setdefault(setup, SampleSet(title, cell.benchmark))
        if all(cell.path != other.path for other in one.cells.values()):
            taken = sum(name == label or name.startswith(f"{label} (") for name in one.cells)
            one.cells[f"{label} ({taken + 1})" if taken else label] = cell
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
    clean: Callable[[str], str] = str,
    documents: DatasetAccess | None = None,
) -> dict:
    """Put every set into `pieces` and return what the browser has to know before it loads one, as plain data.

    Args:
        clean: takes the machine's paths out of messages.
        documents: opens the tasks; default: as a run of the profile does.
    """
    results = asked.options.results / asked.profile
    documents = documents or DatasetAccess(asked.profile, results / "fingerprints.json")
    sets, thumbnails, places, listed = sample_sets(reports), Thumbnails(pieces), {}, []
    for number, one in enumerate(sets):
        print(f"report: samples {number + 1}/{len(sets)}, {one.title} on {one.benchmark}", file=sys.stderr, flush=True)
        found = {label: answers(cell, results, clean) for label, cell in one.cells.items()}
        notes = [f"{label}: {answer.missing}" for label, answer in found.items() if answer.missing]
        place = None
        try:
            task = _same_questions(documents.open(one.first), found)
            key = (one.first.task, one.first.data_revision, tuple(one.documents))
            if key not in places:  # once, whichever models answer them
                places[key] = len(places)
                _add_task(places[key], task, one.documents, pieces, thumbnails)
            place = places[key]
        except DatasetUnavailable as reason:
            notes.insert(0, clean(f"Questions, references and images are not shown: {str(reason).rstrip('.')}."))
        listed.append(_add_answers(number, one, found, pieces) | {"task": place, "notes": notes})
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


def _add_task(number: int, task: OpenTask, documents: list[int], pieces: Pieces, thumbnails: Thumbnails) -> None:
    """Questions, references and places of the images."""
    for at, chunk in _chunks(documents):
        asked = [
            [task.requests[doc].context, references(task, doc), [thumbnails.add(image) for image in images(task, doc)]]
            for doc in chunk
        ]
        pieces.add(f"task-{number}-{at}", asked)


def _add_answers(number: int, one: SampleSet, found: dict[str, CellAnswers], pieces: Pieces) -> dict:
    """The answers and the index of a set as pieces, and what the browser lists of it."""
    documents, rows = one.documents, list(one.cells.items())
    places = {label: {int(doc): at for at, doc in enumerate(cell.doc_ids)} for label, cell in rows}
    first = list(catalogue()[one.benchmark].metrics)
    known = list(dict.fromkeys(name for _, cell in rows for name in cell.metrics))
    metrics = sorted(known, key=lambda name: first.index(name) if name in first else len(first))

    def by_document(label: str, values) -> list[float | None]:
        """`values` (n,) of a row's own documents for all of the set's; None where it has none."""
        at = places[label]
        return [_number(values[at[doc]], 5) if values is not None and doc in at else None for doc in documents]

    scores = [
        [by_document(label, cell.metrics[name].samples if name in cell.metrics else None) for label, cell in rows]
        for name in metrics
    ]
    kept = [by_document(label, cell.costs["retention"]) for label, cell in rows]
    pieces.add(f"index-{number}", {"documents": documents, "scores": scores, "kept": kept})
    for at, chunk in _chunks(documents):
        answered = [[_answer(cell, places[label].get(doc), found[label], doc) for doc in chunk] for label, cell in rows]
        pieces.add(f"answers-{number}-{at}", answered)
    return {
        "id": one.id,
        "model": one.title,
        "benchmark": one.benchmark,
        "rows": [
            {"label": label, "method": cell.method, "colour": method_style(cell.method).colour} for label, cell in rows
        ],
        "metrics": [METRICS.get(name, name) for name in metrics],
        "n": len(documents),
    }


def _answer(cell: CellResult, at: int | None, found: CellAnswers, doc_id: int) -> list | None:
    """[text, prompt tokens, new tokens, KV bytes, KV bytes of all, prefill ms, decode ms per token, retention by
    layer]; text None where only scores are known; [None, why] for a sample that failed; None for one not asked."""
    if at is None:
        return [None, found.errors[doc_id]] if doc_id in found.errors else None
    line = found.lines.get(doc_id, {})
    whole = ("prompt_tokens", "new_tokens", "kv_bytes", "kv_bytes_full")
    costs = [_number(cell.costs[name][at], 0) for name in whole]
    costs += [_number(cell.costs[name][at], 2) for name in ("prefill_ms", "decode_ms_per_token")]
    return [line.get("text"), *costs, [_number(share, 4) for share in line.get("retention", ())]]


def _chunks(documents: list[int]) -> list[tuple[int, list[int]]]:
    return [(at, documents[start : start + CHUNK]) for at, start in enumerate(range(0, len(documents), CHUNK))]


def _number(value: float, digits: int) -> float | int | None:
    if not math.isfinite(value):
        return None
    return round(float(value), digits) if digits else int(value)
