"""Single samples under several methods: which are shown in Figure 8, and what each method made of them."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from PIL.Image import Image

from plphp_core.analysis.results import NothingToShow, Results
from plphp_core.records.errors import ReportError
from plphp_core.reporting.cell_answers import CellAnswers, answers
from plphp_core.reporting.dataset_access import DatasetAccess, DatasetUnavailable, images, references

COLUMNS = ["benchmark", "doc_id", "method", "setting", "answer", "new_tokens", "retention", "kv_bytes", "kv_bytes_full",
           "prefill_ms", "decode_ms", "batch_size"]  # fmt: skip


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


Read = Mapping[str, Mapping[int, CellAnswers]]  # benchmark → row of the table → what it answered


def read_answers(results: Results, folder: Path, benchmarks: Sequence[str]) -> Read:
    """All answers of the finished cells. folder: results of the profile."""
    return {name: {row: answers(cell, folder) for row, cell in sorted(results.on(name).items())} for name in benchmarks}


def differing(read: Read, benchmark: str, docs: Iterable[int]) -> set[int]:
    """Documents to which not all rows gave the same answer."""
    rows = read[benchmark].values()
    texts = {doc: {row.lines[doc]["text"].strip() for row in rows if doc in row.lines} for doc in docs}
    return {doc for doc, said in texts.items() if len(said) > 1}


def answered(results: Results, benchmark: str) -> set[int]:
    """Documents that all rows of a benchmark have answered."""
    cells = results.on(benchmark).values()
    return set.intersection(*(set(cell.doc_ids.tolist()) for cell in cells)) if cells else set()


def choose(results: Results, read: Read, number: int, seed: int, asked: str | None) -> list[tuple[str, int]]:
    """Samples that all rows of a benchmark have answered, (benchmark, document): those asked for, or `number` of each
    at random, first among those that rows answered differently. Such samples stand before others.

    Args:
        asked: such as "SD:12,VST:3"; benchmarks' labels in any case.

    Raises:
        ReportError: a sample asked for is not among the answered ones. NothingToShow: there are none at all.
    """
    common = {name: answered(results, name) for name in read}
    if asked:
        return [_asked_for(part, common) for part in asked.strip("[]").split(",")]
    found = []
    for name, docs in common.items():
        order, other = sorted(docs), differing(read, name, docs)
        random.Random(f"{seed} {name}").shuffle(order)
        order.sort(key=lambda doc: doc not in other)
        found += [(doc not in other, name, doc) for doc in sorted(order[:number])]
    if not found:
        raise NothingToShow("no sample has been answered under every method of the figure")
    return [(name, doc) for alike in (False, True) for same, name, doc in found if same is alike]


def _asked_for(part: str, common: dict[str, set[int]]) -> tuple[str, int]:
    match = re.fullmatch(r"\s*(\w+):(\d+)\s*", part)
    label, doc = match.groups() if match else ("", "0")
    name = next((known for known in common if known.lower() == label.lower()), None)
    if name is None:
        raise ReportError(f"docs: {part!r} is not <benchmark>:<sample> with one of {', '.join(common)}")
    if int(doc) not in common[name]:
        raise ReportError(f"docs: sample {doc} of {name} has not been answered under every method of the figure")
    return name, int(doc)


def examples(
    results: Results, read: Read, datasets: DatasetAccess, chosen: Sequence[tuple[str, int]]
) -> list[QualitativeExample]:
    """The chosen samples, (benchmark, document), with the answers of every row that has them."""
    return [_example(results, name, doc, read[name], datasets) for name, doc in chosen]


def _example(
    results: Results, benchmark: str, doc: int, read: Mapping[int, CellAnswers], datasets: DatasetAccess
) -> QualitativeExample:
    own = {row: found for row, found in read.items() if doc in found.lines}
    lines = []
    for row, found in own.items():
        line = dict(found.lines[doc])
        line |= {"benchmark": benchmark, "method": results.rows[row].method, "setting": results.setting(row)}
        line |= {"answer": line["text"], "retention": sum(line["retention"]) / len(line["retention"])}
        lines.append(line | {name: line[name] / line["batch_size"] for name in ("prefill_ms", "decode_ms")})
    frame = pd.DataFrame(lines, index=list(own), columns=COLUMNS)
    try:
        task = datasets.open(next(iter(results.on(benchmark).values())))
        request = task.requests[doc]
        if not all(found.asked(doc, request.context, request.generation) for found in own.values()):
            raise DatasetUnavailable("the task asks something else now")
        shown = (request.context, references(task, doc), list(images(task, doc)))
        return QualitativeExample(benchmark, doc, frame, *shown)
    except (DatasetUnavailable, KeyError) as reason:
        return QualitativeExample(benchmark, doc, frame, missing=str(reason))
