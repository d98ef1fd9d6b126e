"""The sample browser's data: who answered what to which question, with scores and costs, sample by sample."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from plphp_core.analysis.method_style import method_style
from plphp_core.analysis.results import SLOTS
from plphp_core.config.benchmark_catalogue import catalogue
from plphp_core.evaluation.lmms_tasks import OpenTask
from plphp_core.records.cell_result import CellResult
from plphp_core.reporting.cell_answers import CellAnswers, answers
from plphp_core.reporting.dataset_access import DatasetAccess, DatasetUnavailable, images, references
from plphp_core.reporting.page.pieces import Pieces
from plphp_core.reporting.request import Report, ReportRequest

SWEEP = "sweep"
GRIDS = ("table2", "figure6", "engines")  # reports with many settings of one method; the sweep has them too
CHUNK = 100  # documents per piece
METRICS = {"rouge_l": "ROUGE-L", "cider": "CIDEr", "meteor": "METEOR", "overall": "Overall", SLOTS: "Slot accuracy"}
SETUP = ("model", "checkpoint", "revision", "dtype", "attn_implementation", "engine", "prompts", "protocol", "limit",
         "limit_seed", "task", "task_version", "data_revision")  # fmt: skip


@dataclass(eq=False)
class SampleSet:
    """One model on one benchmark: rows of answers to the same documents, under one set-up."""

    title: str
    id: str = ""  # in addresses
    cells: dict[str, CellResult] = field(default_factory=dict)  # label of the row → cell
    swept: set[str] = field(default_factory=set)  # labels of settings that only the sweep has: hidden at first

    @property
    def first(self) -> CellResult:
        return next(iter(self.cells.values()))

    @property
    def documents(self) -> list[int]:
        """Answered by any of the rows, ascending."""
        return sorted({int(doc_id) for cell in self.cells.values() for doc_id in cell.doc_ids})


def _rows_shown(reports: Sequence[Report]) -> Iterator[tuple[str, str, CellResult, bool]]:
    """Model as printed, label and cell of the rows of every report but GRIDS, the sweep last; and whether only the
    sweep has this setting, of a method and a benchmark that are in other reports.
    """
    known: set[tuple[str, str]] = set()
    for report in sorted(reports, key=lambda one: one.name == SWEEP):
        rows = [(part, at, cell) for part in report.parts for (at, _), cell in sorted(part.cells.items())]
        names = [{(cell.model, cell.method), (cell.model, cell.benchmark)} for _, _, cell in rows]
        if report.name not in GRIDS:
            for (part, at, cell), own in zip(rows, names, strict=True):
                yield part.title, part.label(at), cell, report.name == SWEEP and own <= known
        known.update(*names)


def sample_sets(reports: Sequence[Report]) -> list[SampleSet]:
    """The sets of the rows shown, models in the reports' order, benchmarks in the paper's; no cell twice."""
    found: dict[tuple, SampleSet] = {}
    for title, label, cell, swept in _rows_shown(reports):
        one = found.setdefault(tuple(getattr(cell, name) for name in SETUP), SampleSet(title))
        if all(cell.path != other.path for other in one.cells.values()):
            taken = sum(name == label or name.startswith(f"{label} (") for name in one.cells)
            label = f"{label} ({taken + 1})" if taken else label
            one.cells[label] = cell
            one.swept |= {label} if swept else set()
    models = list(dict.fromkeys(one.first.model for one in found.values()))
    order = catalogue().ordered(one.first.benchmark for one in found.values())
    sets = sorted(found.values(), key=lambda one: (models.index(one.first.model), order.index(one.first.benchmark)))
    for one in sets:
        place = (one.first.model, one.first.benchmark)
        alike = [other for other in sets if (other.first.model, other.first.benchmark) == place]
        if alike[0] is one:  # the same model twice, for example on a subset too: say what differs
            differing = [name for name in SETUP if len({getattr(other.first, name) for other in alike}) > 1]
            for number, other in enumerate(alike, start=1):
                other.id = ".".join(place) + (f".{number}" if number > 1 else "")
                said = ", ".join(f"{name} {getattr(other.first, name)}" for name in differing)
                other.title += f" ({said})" if said else ""
    return sets


def collect(
    reports: Sequence[Report],
    asked: ReportRequest,
    pieces: Pieces,
    clean: Callable[[str], str] = str,
    documents: DatasetAccess | None = None,
) -> dict[str, Any]:
    """Put every set into `pieces` and return what the browser has to know before it loads one, as plain data.

    Args:
        clean: takes the machine's paths out of messages.
        documents: opens the tasks; default: as a run of the profile does.
    """
    documents = documents or DatasetAccess(asked.profile, asked.folder / "fingerprints.json")
    sets, listed = sample_sets(reports), []
    places: dict[tuple, int] = {}
    for number, one in enumerate(sets):
        where = f"{one.title} on {one.first.benchmark}"
        print(f"report: samples {number + 1}/{len(sets)}, {where}", file=sys.stderr, flush=True)
        found = {label: answers(cell, asked.folder, clean) for label, cell in one.cells.items()}
        notes = [f"{label}: {answer.missing}" for label, answer in found.items() if answer.missing]
        key = (one.first.task, one.first.data_revision, tuple(one.documents))
        place = None
        try:
            task = _same_questions(documents.open(one.first), found)
            if key not in places:  # once, whichever models answer them
                places[key] = len(places)
                _add_task(places[key], task, one.documents, pieces)
            place = places[key]
        except DatasetUnavailable as reason:
            notes.insert(0, clean(f"Questions, references and images are not shown: {str(reason).rstrip('.')}."))
        listed.append(_add_answers(number, one, found, pieces) | {"task": place, "notes": notes})
    pieces.close_album()
    return {"sets": listed, "chunk": CHUNK}


def _same_questions(task: OpenTask, found: dict[str, CellAnswers]) -> OpenTask:
    """The task, if it asks today what was answered. Raises DatasetUnavailable."""
    for label, answer in found.items():
        for doc_id in answer.lines:
            request = task.requests.get(doc_id)
            if request is None or not answer.asked(doc_id, request.context, request.generation):
                raise DatasetUnavailable(f"the task does not ask what {label} answered as document {doc_id} any more")
    return task


def _add_task(number: int, task: OpenTask, documents: list[int], pieces: Pieces) -> None:
    """Questions, references and places of the images."""
    for at, chunk in _chunks(documents):
        asked = [
            (task.requests[doc].context, references(task, doc), [pieces.picture(image) for image in images(task, doc)])
            for doc in chunk
        ]
        pieces.add(f"task-{number}-{at}", asked)


def _add_answers(number: int, one: SampleSet, found: dict[str, CellAnswers], pieces: Pieces) -> dict[str, Any]:
    """The answers and the index of a set as pieces, and what the browser lists of it."""
    documents, rows = one.documents, list(one.cells.items())
    places = {label: {int(doc): at for at, doc in enumerate(cell.doc_ids)} for label, cell in rows}
    headings = catalogue()[one.first.benchmark].metrics
    metrics = list(dict.fromkeys([*headings, *(name for _, cell in rows for name in cell.metrics)]))
    metrics = [name for name in metrics if any(name in cell.metrics for _, cell in rows)]

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
        "benchmark": one.first.benchmark,
        "rows": [
            {"label": label, "method": cell.method, "colour": method_style(cell.method).colour}
            | ({"swept": True} if label in one.swept else {})
            for label, cell in rows
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
