"""Hints: what some prompt tokens should have found out half-way through the decoder. Training only.

Answers alone teach a small decoder slowly to compare two pictures or to search pictures for what a question names.
A hint is a word that the model's own output words must find in the states after the first HINT_LAYERS layers:

- at every patch of the second picture, what happened to its place: `nothing`, `turned`, `became`, `appeared` …;
- at the words of a question that name a thing, the answer, and behind the options of a multiple choice where it is.
"""

from __future__ import annotations

from collections.abc import Sequence

from tasks.toy.captions import ORDINALS
from tasks.toy.samples import Sample
from tasks.toy.scenes import COLORS, PLACES, SHAPES, Thing

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


def _search(sample: Sample, tokens: list[str]) -> dict[int, str]:
    if sample.sub_task == "ALFRED":
        last = max(i for i, token in enumerate(tokens) if token in ORDINALS)
        return {last: sample.scenes[ORDINALS.index(tokens[last])].things[0].color}
    mark = max(i for i, token in enumerate(tokens) if token == "?")
    if not sample.multiple_choice:
        return {i: sample.answer for i in (mark - 2, mark - 1) if tokens[i] in COLORS or tokens[i] in SHAPES}
    pairs = zip(sample.scenes, sample.about, strict=True)
    (thing,) = (thing for scene, spots in pairs for thing in scene.things if thing.cell in spots)
    last = max(i for i, token in enumerate(tokens) if token in PLACES)  # of the options
    return {i: thing.where for i in range(last + 1, len(tokens))}


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
