"""Single samples under several methods: which are shown in Figure 8, and what each method made of them."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from PIL.Image import Image

from plphp_core.analysis.results import NothingToShow, Results
from plphp_core.records.errors import ReportError
from plphp_core.reporting.cell_answers import CellAnswers, answers
from plphp_core.reporting.dataset_access import DatasetAccess, DatasetUnavailable, images, references

COLUMNS = ("benchmark", "doc_id", "method", "setting", "answer", "new_tokens", "retention", "kv_bytes", "kv_bytes_full",
           "prefill_ms", "decode_ms", "batch_size")  # fmt: skip


@dataclass(frozen=True, eq=False)
class QualitativeExample:
    """One sample.

    `question`, `references` and `images` are empty where its data cannot be had, as `missing` says.
    answers: row of the table → what it answered (COLUMNS). Times in milliseconds, the sample's share of its batch.
    """

    benchmark: str
    doc_id: int
    answers: pd.DataFrame
    question: str = ""
    references: Sequence[str] = ()
    images: Sequence[Image] = ()
    missing: str = ""


def examples(
    results: Results, folder: Path, datasets: DatasetAccess, chosen: Sequence[tuple[str, int]]
) -> list[QualitativeExample]:
    """The chosen samples with the answers of every row that has them.

    Args:
        folder: results of the profile.
        chosen: (benchmark, document).
    """
    wanted = {name for name, _ in chosen}
    read = {
        (row, benchmark): answers(cell, folder)
        for (row, benchmark), cell in sorted(results.cells.items(), key=lambda item: item[0])
        if benchmark in wanted
    }
    found = []
    for benchmark, doc in chosen:
        own = {row: some for (row, name), some in read.items() if name == benchmark and doc in some.lines}
        found.append(_example(results, benchmark, doc, own, datasets))
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


def _example(
    results: Results, benchmark: str, doc: int, own: dict[int, CellAnswers], datasets: DatasetAccess
) -> QualitativeExample:
    frame = pd.DataFrame(
        [
            _answer(benchmark, doc, results.rows[row].method, results.setting(row), some.lines[doc])
            for row, some in own.items()
        ],
        index=list(own),
        columns=list(COLUMNS),
    )
    cell = next(cell for (_, name), cell in results.cells.items() if name == benchmark)
    try:
        task = datasets.open(cell)
        request = task.requests[doc]
        if not all(some.asked(doc, request.context, request.generation) for some in own.values()):
            raise DatasetUnavailable("the task asks something else now")
        shown = (request.context, references(task, doc), list(images(task, doc)))
        return QualitativeExample(benchmark, doc, frame, *shown)
    except (DatasetUnavailable, KeyError) as reason:
        return QualitativeExample(benchmark, doc, frame, missing=str(reason))


def _answer(benchmark: str, doc: int, method: str, setting: str, line: dict) -> tuple:
    batch = line["batch_size"]
    retention = sum(line["retention"]) / len(line["retention"])
    times = (line["prefill_ms"] / batch, line["decode_ms"] / batch)
    front = (benchmark, doc, method, setting, line["text"], line["new_tokens"], retention)
    return (*front, line["kv_bytes"], line["kv_bytes_full"], *times, batch)
