"""Text of models, data sets and other people's files, made fit to be written down: they say whatever they like."""

from __future__ import annotations

import re
from collections.abc import Mapping

_UNREADABLE = re.compile("[\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f-\\x9f\\ud800-\\udfff]")


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
