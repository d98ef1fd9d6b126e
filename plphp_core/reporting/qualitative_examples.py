"""Single samples under several methods: which are shown in Figure 8, and what each method made of them."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL.Image import Image

from plphp_core.analysis.results import NothingToShow, Results
from plphp_core.records.errors import ReportError
from plphp_core.reporting.cell_answers import CellAnswers, answers
from plphp_core.reporting.dataset_access import DatasetAccess, DatasetUnavailable, images, references


@dataclass(frozen=True)
class ExampleAnswer:
    """What one row of a table answered. Times in milliseconds, the sample's share of its batch; nan if unknown."""

    row: int
    text: str
    new_tokens: int
    retention: float
    kv_bytes: int
    kv_bytes_full: int
    prefill_ms: float
    decode_ms: float
    batch_size: int


@dataclass(frozen=True, eq=False)
class QualitativeExample:
    """One sample. `question`, `references` and `images` are empty where its data are not at hand, as `missing` says."""

    benchmark: str
    doc_id: int
    question: str
    references: list[str]
    images: list[Image]
    replies: list[ExampleAnswer]
    missing: str = ""


def cases(
    results: Results, folder: Path, documents: DatasetAccess, chosen: Sequence[tuple[str, int]]
) -> list[QualitativeExample]:
    """The chosen samples with the answers of every row that has them.

    Args:
        folder: results of the profile.
        chosen: (benchmark, document).
    """
    read: dict[tuple[int, str], CellAnswers] = {}
    for (row, benchmark), cell in results.cells.items():
        if benchmark in {name for name, _ in chosen}:
            read[row, benchmark] = answers(cell, folder)
    found = []
    for benchmark, doc in chosen:
        own = {row: some for (row, name), some in sorted(read.items()) if name == benchmark and doc in some.lines}
        found.append(_case(results, benchmark, doc, own, documents))
    return found


def choose(
    results: Results, benchmarks: Sequence[str], number: int, seed: int, asked: str | None
) -> list[tuple[str, int]]:
    """Samples that all rows of a benchmark have answered: those asked for, or `number` of each at random.

    Args:
        asked: such as "SD:12,VST:3"; benchmarks' labels in any case.

    Raises:
        ReportError: a sample asked for is not among the answered ones. NothingToShow: there are none at all.
    """
    common = {name: _common(results, name) for name in benchmarks}
    if asked:
        return [_asked_for(part, common) for part in asked.strip("[]").split(",")]
    found = []
    for name, docs in common.items():
        order = sorted(docs)
        random.Random(f"{seed} {name}").shuffle(order)
        found += [(name, doc) for doc in sorted(order[:number])]
    if not found:
        raise NothingToShow("no sample has been answered under every method of the figure")
    return found


def _common(results: Results, benchmark: str) -> set[int]:
    cells = [cell for (_, name), cell in results.cells.items() if name == benchmark]
    return set.intersection(*(set(cell.doc_ids.tolist()) for cell in cells)) if cells else set()


def _asked_for(part: str, common: dict[str, set[int]]) -> tuple[str, int]:
    match = re.fullmatch(r"\s*(\w+):(\d+)\s*", part)
    name = next((label for label in common if match and label.lower() == match[1].lower()), None)
    if name is None:
        raise ReportError(f"docs: {part!r} is not <benchmark>:<sample> with one of {', '.join(common)}")
    if int(match[2]) not in common[name]:
        raise ReportError(f"docs: sample {match[2]} of {name} has not been answered under every method of the figure")
    return name, int(match[2])


def _case(
    results: Results, benchmark: str, doc: int, own: dict[int, CellAnswers], documents: DatasetAccess
) -> QualitativeExample:
    replies = [_reply(row, some.lines[doc]) for row, some in own.items()]
    cell = next(cell for (_, name), cell in results.cells.items() if name == benchmark)
    try:
        task = documents.open(cell)
        request = task.requests[doc]
        if not all(some.asked(doc, request.context, request.generation) for some in own.values()):
            raise DatasetUnavailable("the task asks something else now")
        return QualitativeExample(
            benchmark, doc, request.context, references(task, doc), list(images(task, doc)), replies
        )
    except (DatasetUnavailable, KeyError) as reason:
        return QualitativeExample(benchmark, doc, "", [], [], replies, str(reason))


def _reply(row: int, line: dict) -> ExampleAnswer:
    retention, batch = line["retention"], line["batch_size"]
    return ExampleAnswer(
        row=row,
        text=line["text"],
        new_tokens=line["new_tokens"],
        retention=sum(retention) / len(retention),
        kv_bytes=line["kv_bytes"],
        kv_bytes_full=line["kv_bytes_full"],
        prefill_ms=line["prefill_ms"] / batch,
        decode_ms=line["decode_ms"] / batch,
        batch_size=batch,
    )
