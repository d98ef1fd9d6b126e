"""Hints: what some prompt tokens should have found out half-way through the decoder. Training only.

Answers alone teach a small decoder slowly to compare two pictures or to search pictures for what a question names.
A hint is a word that the model's own output words must find in the states after the first HINT_LAYERS layers:

- at every patch of the second picture, what happened to its place: `nothing`, `turned`, `became`, `appeared` …;
- at the words of a question that name a thing, the answer; at the words of an option, the option's letter.

Late hints are read off the last layer: at an option, whether it is `right` or to be `left` aside; at every word after
the options, the letter of the right one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from tasks.toy.captions import ORDINALS
from tasks.toy.samples import LETTERS, Sample
from tasks.toy.scenes import COLORS, SHAPES, Thing

HINT_LAYERS = 6
NO_CHANGE = "nothing"


def _happened(before: Thing | None, after: Thing | None) -> str:
    if before == after:
        return NO_CHANGE
    if before is None or after is None:
        return "appeared" if before is None else "vanished"
    return "turned" if before.color != after.color else "became"


def _comparison(sample: Sample, tokens: list[str], image_token: str, cells: Sequence[int]) -> dict[int, str]:
    first, second = ({thing.place: thing for thing in scene.things} for scene in sample.scenes)
    by_cell = [_happened(first.get(cell), second.get(cell)) for cell in range(9)]
    patches = [i for i, token in enumerate(tokens) if token == image_token][len(cells) :]
    return {patches[i]: by_cell[cell] for i, cell in enumerate(cells) if cell >= 0}


def _letter(token: str) -> str | None:
    """The option that a token names, the n of a JSON line break taken off (`nA`)."""
    letter = token.removeprefix("n")
    return letter if len(letter) == 1 and letter in LETTERS else None


def _search(sample: Sample, tokens: list[str]) -> dict[int, str]:
    text = sample.turns[-1][1]
    if sample.sub_task == "ALFRED":
        last = max(i for i, token in enumerate(tokens) if token in ORDINALS)
        return {last: sample.scenes[ORDINALS.index(tokens[last])].things[0].color}
    answer, found = sample.answer, {}
    if sample.multiple_choice:
        answer = re.search(rf"{sample.answer}\. (\w+)", text).group(1)
        for i, token in enumerate(tokens[:-2]):
            if _letter(token) and tokens[i + 1] == ".":
                found[i + 2] = _letter(token)
    mark = max(i for i, token in enumerate(tokens) if token == "?")
    return found | {i: answer for i in (mark - 2, mark - 1) if tokens[i] in COLORS or tokens[i] in SHAPES}


def late_hints(sample: Sample, tokens: list[str]) -> dict[int, str]:
    """Position to word for the prompt `tokens` of a multiple-choice sample; empty for any other."""
    if not sample.multiple_choice:
        return {}
    found = {}
    for i, token in enumerate(tokens[:-2]):
        if _letter(token) and tokens[i + 1] == ".":
            found[i + 2] = "right" if _letter(token) == sample.answer else "left"
    return found | {i: sample.answer for i in range(max(found) + 1, len(tokens) - 1)}


def _sought(sample: Sample, tokens: list[str]) -> dict[int, str]:
    mark = max(i for i, token in enumerate(tokens) if token == "?")
    return {mark - 1: next(word for word in sample.answer.split() if word != "in")}


def hints(sample: Sample, tokens: list[str], image_token: str, cells: Sequence[int]) -> dict[int, str]:
    """Position to word, for the prompt `tokens` of a sample (image tokens expanded); empty where none is given.

    `cells`: the place that each token of one of several images shows, -1 for none.
    """
    if sample.benchmark in ("sd", "ie") and sample.sub_task != "Birds-to-Words":
        return _comparison(sample, tokens, image_token, cells)
    if sample.benchmark == "finding":
        return _sought(sample, tokens)
    return _search(sample, tokens) if sample.benchmark == "mv" else {}
