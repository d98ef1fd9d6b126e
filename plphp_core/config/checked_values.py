"""Single values of a configuration, checked: each refusal names the key, the value and what is allowed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from plphp_core.families.base import dtype_name
from plphp_core.records.errors import UserError, unknown

T = TypeVar("T")


def one_of(key: str, value: object, allowed: Sequence[T]) -> T:
    for one in allowed:
        if one == value:
            return one
    raise unknown(key, value, allowed)


def dtype(value: object) -> str:
    """torch's name, whatever form was given, so that equal numerics have equal cells."""
    try:
        return dtype_name(value)
    except ValueError as error:
        raise UserError(str(error)) from error


def flag(key: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise UserError(f"{key} must be true or false, got {value!r}")
    return value


def whole(key: str, value: object, at_least: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < at_least:
        raise UserError(f"{key} must be a whole number, at least {at_least}, got {value!r}")
    return value


def number(key: str, value: object) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or value < 0:
        raise UserError(f"{key} must be a number of seconds, at least 0, or null, got {value!r}")
    return float(value)


def text(key: str, value: object) -> str:
    """Raises UserError for what is empty, and for a list or dictionary, as Hydra reads brackets without quotes."""
    if value is None or not str(value).strip():
        raise UserError(f"{key}= is empty; give a value or leave it out")
    if not isinstance(value, (str, int, float)):
        raise UserError(f"{key} must be a text, got {value!r}; quote it, for Hydra and for the shell: '{key}=\"…\"'")
    return str(value)


def absolute(path: str) -> Path:
    """Relative paths start at the working directory."""
    return Path(path).expanduser().resolve()


def results_folder(value: object) -> Path:
    """A folder to write results into, which the working directory itself cannot be."""
    folder = absolute(text("results", value))
    if folder == Path.cwd().resolve():
        raise UserError(f"results={value} is the working directory itself; name a folder: results=results")
    return folder
