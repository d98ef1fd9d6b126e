"""What all records have in common: how they are written, read and refused."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator, ValidationError

from plphp_core.records.atomic import write_atomically
from plphp_core.records.errors import ReportError

EXPECTED = {"string": "text", "int": "a whole number", "float": "a number", "bool": "true or false", "list": "a list",
            "dict": "an object", "model": "an object"}  # fmt: skip
_UNREADABLE = re.compile("[\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f-\\x9f\\ud800-\\udfff]")
JSON_NAMES = {list: "a list", dict: "an object", type(None): "null"}


class Part(BaseModel):
    """A piece of a record. Types are not converted; fields that this version does not know are left out."""

    model_config = ConfigDict(strict=True, frozen=True, populate_by_name=True)


class Record(Part):
    """One JSON object in a file of its own.

    Attributes:
        path: where it was read; `Path()` while it is being made.
    """

    SCHEMA: ClassVar[int]  # raise it when the format changes: older files are then refused
    WHAT: ClassVar[str]  # "a cell file"
    REMEDY: ClassVar[str] = "delete it"  # or what writes it again

    path: Path = Field(default=Path(), exclude=True)

    @classmethod
    def load(cls, path: Path, remedy: str | None = None) -> Self:
        """Read and check one file.

        Args:
            remedy: said instead of the record's own.
        Raises:
            ReportError: one sentence with the file, what is wrong with which field, and the remedy.
        """
        try:
            if path.is_dir():
                raise ReportError("is a folder")
            return cls.checked(visible_in(json.loads(path.read_text(encoding="utf-8"))), path)
        except OSError as error:
            raise ReportError(f"{path}: cannot be read ({error.strerror})") from error
        except (ValueError, RecursionError) as error:  # ours; or torn, not UTF-8, nested without end
            said = error if isinstance(error, ReportError) else f"not valid JSON ({error})"
            raise ReportError(f"{path}: {said}; {cls.remedy(path) if remedy is None else remedy}") from error

    @classmethod
    def remedy(cls, path: Path) -> str:
        """What to do about a damaged file."""
        return cls.REMEDY

    @classmethod
    def checked(cls, raw: object, path: Path | None = None) -> Self:
        """A record from plain data. Raises ReportError, which says what is wrong with which field."""
        if not isinstance(raw, Mapping):
            raise ReportError(f"{cls.WHAT} holds one JSON object")
        if raw.get("schema") != cls.SCHEMA:
            raise ReportError(f"schema {raw.get('schema')!r}, this version reads schema {cls.SCHEMA}")
        try:
            return cls.model_validate({**raw, "path": path or Path()})
        except ValidationError as error:
            raise ReportError(sentence(error)) from error

    def content(self) -> dict[str, Any]:
        """As plain data without nan, which JSON does not have: a number that does not exist is None."""
        return {"schema": self.SCHEMA, **_finite(self.model_dump(by_alias=True))}

    def write(self, path: Path) -> None:
        """Replace `path` by this record, one line for each field. Raises NotWritten."""
        fields = (f"{json.dumps(name)}: {as_json(value)}" for name, value in self.content().items())
        write_atomically(path, "{\n" + ",\n".join(fields) + "\n}\n")


def digest(value: object) -> str:
    """SHA-256 of plain data, independent of the order of dictionary keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def as_json(value: object) -> str:
    """On one line, characters as they are. Raises ValueError for an infinite number."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def visible(text: str) -> str:
    """Text without what some reader of a file does not survive: control characters other than tab and line ends, and
    halves of surrogate pairs, which UTF-8 does not have, become their code point, U+…
    """
    return _UNREADABLE.sub(lambda found: f"U+{ord(found[0]):04X}", text)


def visible_in(value: object) -> object:
    """Plain data, as JSON has it, with every text in it `visible`."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, Mapping):
        return {visible_in(key): visible_in(item) for key, item in value.items()}
    return [visible_in(item) for item in value] if isinstance(value, list) else value


def sentence(error: ValidationError) -> str:
    """The first thing that is wrong, with the name of its field."""
    first = error.errors(include_url=False)[0]
    place, kind = " ".join(map(str, first["loc"])), first["type"].partition("_")[0]
    if first["type"] == "missing":
        return f"field {place} is missing"
    if kind == "value":  # of a validator of ours
        return f"{place} {first['ctx']['error']}".strip()
    given = first["input"]
    said = f"{given!r:.40}" if isinstance(given, (str, float, int)) else JSON_NAMES.get(type(given), "something else")
    expected = EXPECTED.get(kind) or first["msg"].removeprefix("Input should be ")
    return f"{place} is {said}, expected {expected}"


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, (list, tuple)) else value


def _numbers(given: Any) -> np.ndarray:
    try:
        found = np.asarray(given)
    except ValueError as error:
        raise ValueError("holds lists of different lengths") from error
    if found.dtype == object and all(value is None or type(value) in (int, float) for value in found.flat):
        found = found.astype(float)
    if not isinstance(given, (list, np.ndarray)) or (found.dtype.kind not in "fiu" and found.size):
        raise ValueError("holds what is not a number")
    found = found.astype(float)
    if np.isinf(found).any():
        raise ValueError("holds an infinite number")
    return found


def _identifiers(given: Any) -> np.ndarray:
    listed = given.tolist() if isinstance(given, np.ndarray) else given
    if not isinstance(listed, list) or not all(type(one) is int and abs(one) < 2**63 for one in listed):
        raise ValueError("holds what is no whole number")
    if len(set(listed)) < len(listed):
        raise ValueError("repeats a document")
    return np.asarray(listed, dtype=np.int64)


_as_list = PlainSerializer(lambda array: array.tolist())
Numbers = Annotated[np.ndarray, PlainValidator(_numbers), _as_list]  # nested lists as an array; null is nan
Identifiers = Annotated[np.ndarray, PlainValidator(_identifiers), _as_list]  # different whole numbers, (n,)
Names = Annotated[np.ndarray, PlainValidator(lambda given: np.asarray(given, dtype=str)), _as_list]
