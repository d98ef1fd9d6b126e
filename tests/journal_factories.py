"""Journals as an evaluation would leave them, without a model."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from plphp_core.records.journal_lines import Answer, CellKeyLine, SampleLine, encoded


def answer_of(text: str = "a red circle", **changes) -> Answer:
    """One answer of a two-layer model that kept everything, alone in its batch."""
    usual = {
        "prompt_tokens": 400, "new_tokens": 4, "images_sha256": ["0" * 16], "image_notes": [], "retention": [1.0, 1.0],
        "kv_bytes": 4096, "kv_bytes_full": 4096, "prefill_ms": 20.0, "decode_ms": 15.0, "decode_steps": 3,
        "batch_size": 1, "kernel": "sdpa",
    }  # fmt: skip
    return Answer(text=text, **(usual | changes))


def answered_line(number: int, text: str = "a red circle", cell: str = "c", key: str = "", **changes) -> SampleLine:
    """The line of document `number`, under the key "key<number>" unless another is given."""
    answer = answer_of(text, **changes)
    return SampleLine(key=key or f"key{number}", cell=cell, doc_id=number, hardware="2 CPU cores", answer=answer)


def write_journal(path: Path, lines: Iterable[SampleLine | CellKeyLine]) -> None:
    """Append lines to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.writelines(map(encoded, lines))
