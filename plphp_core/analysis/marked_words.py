"""Which words of an answer differ from another text: that of a reference, or of the uncompressed model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher

MARKS = ".,;:!?\"'()[]*`"


def marked_words(text: str, others: Sequence[str]) -> list[tuple[str, bool]]:
    """The words of `text` in order, each with whether the closest of `others` does not have it at this place.

    Words are compared without capitals and punctuation around them; punctuation alone never differs. Without `others`
    no word does.
    """
    words = text.split()
    plain = _plain(words)
    matchers = [SequenceMatcher(None, _plain(one.split()), plain, autojunk=False) for one in others]
    same = [True] * len(plain)
    if matchers:
        blocks = max(matchers, key=SequenceMatcher.ratio).get_matching_blocks()
        same = [any(block.b <= at < block.b + block.size for block in blocks) for at in range(len(plain))]
    found = iter(same)
    return [(word, bool(_plain([word])) and not next(found)) for word in words]


def _plain(words: Iterable[str]) -> list[str]:
    return [plain for word in words if (plain := word.strip(MARKS).lower())]
