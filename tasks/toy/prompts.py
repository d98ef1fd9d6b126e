"""The chat text of a toy sample: exactly what the evaluation wrapper hands to the model (a test compares the two)."""

from __future__ import annotations

import json

from tasks.toy.samples import Sample
from tasks.toy.tokens import END, IMAGE, START, SYSTEM

_ROLES = {"human": "user", "gpt": "assistant"}


def context(sample: Sample) -> str:
    """The task's text for a sample: the question, or the conversation as JSON."""
    if sample.turns:
        return json.dumps([{"from": who, "value": text} for who, text in sample.turns])
    return sample.question


def chat(sample: Sample) -> str:
    """ChatML up to and including the assistant's opening."""
    turns = sample.turns or (("human", sample.question),)
    marks = sum(text.count(IMAGE) for _, text in turns)
    if marks == 0:
        who, text = turns[0]
        turns = ((who, f"{' '.join([IMAGE] * len(sample.scenes))}\n{text}"), *turns[1:])
    elif marks != len(sample.scenes):
        raise ValueError(f"{marks} image marks for {len(sample.scenes)} images in {turns!r}")
    blocks = [("system", SYSTEM), *((_ROLES[who], text) for who, text in turns)]
    return "".join(f"{START}{role}\n{text}{END}\n" for role, text in blocks) + f"{START}assistant\n"
