"""Slot accuracy: the share of content words that are right.

Templates inflate ROUGE-L: an answer whose every colour is wrong still shares all its function words with the reference.
Slot accuracy looks only at the words that had to be seen: colour, shape, place, kind of change, characters read,
choice letter.
"""

from __future__ import annotations

import re

from tasks.toy.scenes import CHARACTERS, COLORS, PLACES, SHAPES

CHANGES = ("turned", "became", "appeared", "vanished", "moved", "recolor", "reshape", "add", "remove", "move")
CONTENT = frozenset((*COLORS, *SHAPES, *PLACES, *CHANGES, *CHARACTERS))

_WORD = re.compile(r"[a-z]+|[0-9]")
# A choice is a lone letter ("B") or one marked as an option ("B. red", "(B)"), never the article of "A red circle".
_CHOICE = re.compile(r"^\s*\(?([A-E])(?:\s*[.:)]|\s*$)")


def slots(text: str) -> list[str]:
    """The content words of `text` in order; a multiple-choice letter, if the text opens with one, comes first."""
    choice = _CHOICE.match(text)
    rest = text[choice.end() :] if choice else text
    words = [word for word in _WORD.findall(rest.lower()) if word in CONTENT]
    return [choice.group(1), *words] if choice else words


def _agreement(predicted: list[str], expected: list[str]) -> float:
    longest = max(len(predicted), len(expected))
    if longest == 0:
        return 0.0
    return sum(a == b for a, b in zip(predicted, expected, strict=False)) / longest


def slot_accuracy(prediction: str, references: list[str]) -> float:
    """Share of content words right, in [0, 1]: the k-th content word must be the reference's k-th.

    Missing and surplus words count as wrong, so neither short nor long answers gain; with several references the best
    one counts. A reference without content words scores 0. Raises ValueError if there is no reference.
    """
    if isinstance(references, str):
        references = [references]
    if not references:
        raise ValueError("slot_accuracy needs at least one reference, got none")
    predicted = slots(prediction)
    return max(_agreement(predicted, slots(reference)) for reference in references)
