"""Checks of what callers and authors of methods hand in: ValueError with the value and what is allowed."""

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any


def require(condition: bool, message: str) -> None:
    """Raise ValueError with `message` unless `condition` holds."""
    if not condition:
        raise ValueError(message)


def fraction(owner: str, name: str, value: object) -> None:
    """Raise ValueError unless `value` is a number in [0, 1]."""
    fits = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1
    require(fits, f"{owner}: {name} = {value!r}, but must be a number in [0, 1]")


def whole_number(owner: str, name: str, value: object, least: int, optional: bool = False) -> None:
    """Raise ValueError unless `value` is a whole number from `least` on, or None where it is `optional`."""
    fits = (optional and value is None) or (type(value) is int and value >= least)
    words = "None or a whole number" if optional else "a whole number"
    require(fits, f"{owner}: {name} = {value!r}, but must be {words} from {least} on")


def choice(owner: str, name: str, value: object, allowed: Sequence[Any]) -> None:
    """Raise ValueError unless `value` is one of `allowed`."""
    require(value in allowed, f"{owner}: {name} = {value!r}, but must be one of {', '.join(map(str, allowed))}")


def numbers(owner: str, name: str, value: Any, kind: type[int] | type[float]) -> tuple[Any, ...]:
    """A parameter that is a list of numbers, as a tuple: `[8, 16]`, or as text, "8+16".

    Raises:
        ValueError: empty, or something else than numbers of this kind.
    """
    parts = re.split(r"[+,;\s]+", value.strip("()[] ")) if isinstance(value, str) else value
    try:
        found = tuple(kind(part) for part in parts)
        exact = isinstance(value, str) or (found == tuple(parts) and not any(type(part) is bool for part in parts))
    except (TypeError, ValueError):
        found, exact = (), False
    word = "whole numbers" if kind is int else "numbers"
    require(exact and bool(found), f"{owner}: {name} = {value!r}, but must be a list of {word}, such as '8+16+24'")
    return found


def stages(owner: str, name: str, layers: Sequence[Any], of: str, values: Sequence[Any]) -> None:
    """Raise ValueError unless `layers` are ascending, from 1 on, and as many as `values`, which are called `of`."""
    rising = layers[0] >= 1 and all(a < b for a, b in pairwise(layers))
    require(rising, f"{owner}: {name} = {layers}, but layers must be ascending, from 1 on")
    require(len(layers) == len(values), f"{owner}: {name} has {len(layers)} entries, but {of} {len(values)}")


def falling(owner: str, name: str, values: Sequence[Any]) -> None:
    """Raise ValueError if one of `values`, of stage after stage, is above the one before it."""
    never = all(a >= b for a, b in pairwise(values))
    require(never, f"{owner}: {name} = {values}, but what has left cannot come back: no number may rise")


def enters(owner: str, name: str, layer: int, num_layers: int) -> None:
    """Raise ValueError unless tokens can leave before `layer` of a model with `num_layers`."""
    last = num_layers - 1
    require(1 <= layer <= last, f"{owner}: {name} = {layer}, but a model of {num_layers} layers has entries 1 … {last}")
