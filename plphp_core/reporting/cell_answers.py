"""The journal lines that belong to a finished cell, and to no other."""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from plphp_core.evaluation.cell_spec import SCORES, result_key
from plphp_core.records.cache_keys import sample_key
from plphp_core.records.cell_result import Cell
from plphp_core.records.journal import Journal
from plphp_core.records.visible import visible, visible_in

# a paper's run has hundreds of thousands of lines, which need not all be in memory whole
UNUSED = {"schema", "cell", "time", "hardware", "images_sha256", "image_notes"}


@dataclass(frozen=True, eq=False)
class CellAnswers:
    """What a cell's samples were answered.

    Attributes:
        key: what all answers share, `records.cache_keys.cell_identity`'s digest.
        lines: doc_id → journal line without UNUSED, for the documents that the cell scored.
        errors: doc_id → what went wrong, for documents without an answer.
        missing: why `lines` is empty, else "".
    """

    key: str = ""
    lines: dict[int, dict] = field(default_factory=dict)
    errors: dict[int, str] = field(default_factory=dict)
    missing: str = ""

    def asked(self, doc_id: int, context: str, generation: dict) -> bool:
        """Whether this very text, with these generation arguments, was what the document's answer answers."""
        return self.lines[doc_id]["key"] == sample_key(self.key, doc_id, context, generation)


def answers(cell: Cell, folder: Path, extra_metrics: dict, clean: Callable[[str], str] = str) -> CellAnswers:
    """The answers behind a cell.

    A cell's file holds a digest over the key that all its answers share: the lines are those of the one key that gives
    this digest. Lines under other keys (other weights, code or data) lie in the same journal and stay out.

    Args:
        folder: results of the profile.
        extra_metrics: the profile's, for cell files that do not name their own.
        clean: takes the machine's paths out of messages.
    """
    try:
        said = json.loads(cell.path.read_text(encoding="utf-8"))
        journal = Journal.peek(folder / str(said["journal"]))
    except (OSError, ValueError, KeyError) as error:
        return CellAnswers(missing=f"the journal cannot be read ({type(error).__name__})")
    key = next((key for key in journal.counts if _gives(said, key, extra_metrics)), None)
    if key is None:
        return CellAnswers(missing="the journal holds no answers under the key of this cell")
    wanted = {int(doc_id) for doc_id in cell.doc_ids}
    lines = {
        line["doc_id"]: {name: value for name, value in line.items() if name not in UNUSED}
        | {"text": visible_in(line.get("text")), "retention": array("d", line.get("retention") or ())}
        for line in _of(journal.answers.values(), key)
        if line["doc_id"] in wanted
    }
    failed = {
        line["doc_id"]: clean(visible(f"{line['error'].get('kind')}: {line['error'].get('message')}"))
        for line in _of(journal.errors.values(), key)
        if isinstance(line["error"], dict)
    }
    return CellAnswers(key, lines, failed)


def _of(lines: Iterable[dict], key: str) -> Iterable[dict]:
    return (line for line in lines if line.get("cell") == key)


def _gives(said: dict, key: str, extra_metrics: dict) -> bool:
    """Whether answers under `key` are this cell file's."""
    numbers = [said["scores"]] if "scores" in said else range(SCORES, 0, -1)  # older files do not say
    metrics = said.get("extra_metrics", extra_metrics)
    scoring = (said.get("code") or {}).get("scoring code", {})
    lmms_eval = (said.get("versions") or {}).get("lmms-eval")
    asked = (said["protocol"], said.get("limit"), said.get("limit_seed"))
    return any(
        said.get("key") == result_key(number, key, *asked, metrics, said["benchmark"], scoring, lmms_eval)
        for number in numbers
    )
