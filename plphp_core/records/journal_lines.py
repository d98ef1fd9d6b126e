"""The lines of a journal: what became of a sample, and what a cell's key stands for."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, Self

from pydantic import Field, ValidationError, model_validator

from plphp_core.records.record import Part

SCHEMA = 2  # raise it when the format changes: older journals are then refused


class OtherSchema(Exception):
    """A line has another schema than this version's."""


class Answer(Part):
    """One answered sample. Times are wall times of its whole batch, in milliseconds.

    `prefill_ms` is what the prefill takes alone, also where it was shared with other methods.
    """

    text: str
    prompt_tokens: int
    new_tokens: int
    images_sha256: list[str]  # of the pixels handed to the processor
    image_notes: list[str]  # what was done to images that were not upright RGB
    retention: list[float]  # per layer: kept share of the vision tokens
    kv_bytes: int  # the prompt's keys and values, all layers, what this sample's own slots take
    kv_bytes_full: int  # the same with nothing pruned
    prefill_ms: float
    prefill_flops: int | None = None  # of the decoder's layers, by FastV's count, over the tokens that came into each
    vision_entered: float | None = None  # vision tokens that came into attention, mean over layers
    decode_ms: float
    decode_steps: int
    batch_size: int
    kernel: str | None = None  # what decoded: the fast path's kernel or the attention implementation of `generate()`


class AttentionReading(Part):
    """What the last prompt token of one sample attends to: means over query heads, in fp32.

    Attributes:
        prompt_tokens: text included.
        image_sizes: S_j.
        vision_attention: γ of every layer.
        groups: cut → share of γ that goes to each of the five groups and to tokens in none, `[layer][6]`.
        group_tokens: cut → share of the vision tokens in each of them, `[6]`.
    """

    prompt_tokens: int
    image_sizes: list[int]
    vision_attention: list[float]
    groups: dict[str, list[list[float]]]
    group_tokens: dict[str, list[float]]


class SampleError(Part):
    """Why a sample has no answer."""

    kind: str
    message: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.message.splitlines()[0] if self.message else 'no message'}"


class SampleLine(Part):
    """What became of one sample of a cell: it has an answer, a reading of its attention, or an error.

    Attributes:
        key: of the sample (`cache_keys.sample_key`); cell: of its cell.
        hardware: what it was answered on.
    """

    key: str
    cell: str
    doc_id: int
    time: str = Field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    hardware: str
    answer: Answer | None = None
    reading: AttentionReading | None = None
    error: SampleError | None = None

    @model_validator(mode="after")
    def _says_one_thing(self) -> Self:
        if sum(part is not None for part in (self.answer, self.reading, self.error)) != 1:
            raise ValueError("a line holds an answer, a reading or an error")
        return self


class CellKeyLine(Part):
    """What a cell's key is the digest of (`CellSpec.identity`)."""

    cell: str
    identity: dict[str, Any]


def encoded(line: Part) -> bytes:
    """One line of a journal file."""
    infinite = isinstance(line, CellKeyLine)  # where a task's own argument may be .inf; no answer holds such a number
    plain = {"schema": SCHEMA, **line.model_dump(exclude_none=True)}
    text = json.dumps(plain, ensure_ascii=False, allow_nan=infinite, separators=(",", ":"))
    return text.encode("utf-8", "surrogatepass") + b"\n"


def parsed(line: bytes) -> SampleLine | CellKeyLine | None:
    """A line; None if it is none, or a part of it is missing: its sample is then answered again.

    Raises:
        OtherSchema: it was written by another version.
    """
    try:
        plain = json.loads(line)
    except ValueError:
        return None
    if not isinstance(plain, dict):
        return None
    if isinstance(schema := plain.get("schema"), int) and schema != SCHEMA:
        raise OtherSchema(schema)
    try:
        return (CellKeyLine if "identity" in plain else SampleLine).model_validate(plain)
    except ValidationError:
        return None
