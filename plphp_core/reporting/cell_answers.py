"""The journal lines that belong to a finished cell, and to no other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from plphp_core.evaluation.distributed import parts
from plphp_core.records.cache_keys import sample_key
from plphp_core.records.cell_result import CellResult
from plphp_core.records.journal import Journal, JournalError
from plphp_core.records.record import visible


@dataclass(frozen=True, eq=False)
class CellAnswers:
    """What a cell's samples were answered.

    Attributes:
        key: of the cell in the journal.
        lines: doc_id → fields of the `Answer`, with `key`, `cell` and `doc_id` of its line, for what the cell scored.
        errors: doc_id → what went wrong, for documents without an answer.
        missing: why `lines` is empty, else "".
    """

    key: str = ""
    lines: dict[int, dict[str, Any]] = field(default_factory=dict)
    errors: dict[int, str] = field(default_factory=dict)
    missing: str = ""

    def asked(self, doc_id: int, context: str, generation: dict) -> bool:
        """Whether this very text, with these generation arguments, was what the document's answer answers."""
        return self.lines[doc_id]["key"] == sample_key(self.key, doc_id, context, generation)


def answers(cell: CellResult, folder: Path, clean: Callable[[str], str] = str) -> CellAnswers:
    """The answers behind a cell: the lines under its key in the journal, where lines of other weights, code or data lie
    too.

    Args:
        folder: results of the profile.
        clean: takes the machine's paths out of messages.
    """
    path = folder / cell.journal
    try:
        journal = Journal.peek(path, *parts(path))
    except (OSError, JournalError) as error:
        return CellAnswers(missing=f"the journal cannot be read ({type(error).__name__})")
    found = journal.of(cell.answers_key)
    if not found and cell.n:
        return CellAnswers(missing="the journal holds no answers under the key of this cell")
    lines = {}
    for doc in cell.doc_ids.tolist():
        if doc in found and (answer := found[doc].answer):
            told = {"text": visible(answer.text), "key": found[doc].key, "cell": found[doc].cell, "doc_id": doc}
            lines[doc] = answer.model_dump() | told
    failed = {
        line.doc_id: line.error for line in journal.errors.values() if line.cell == cell.answers_key and line.error
    }
    errors = {doc: clean(visible(f"{error.kind}: {error.message}")) for doc, error in failed.items()}
    return CellAnswers(cell.answers_key, lines, errors)
