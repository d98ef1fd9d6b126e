"""What has been said: every method has its own history, which is prefilled anew at each turn."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from plphp_core.demo.streaming import StreamedAnswer
from plphp_core.families.base import IMAGE_MARK, Family, json_turns, place_marks


@dataclass(eq=False)
class Turn:
    """A question to one method and what came back.

    Attributes:
        images: shown with this question (upright RGB).
        setting: the method's parameters in words, as they were at this turn.
        text: the answer, as far as it has come.
        answer: once it is complete.
        error: why there is no answer; such a turn is left out of later prompts.
        method: what answered; None for "none".
        html: how the page shows the turn, once it is complete.
    """

    question: str
    images: list[Image.Image]
    setting: str = ""
    text: str = ""
    answer: StreamedAnswer | None = None
    error: str | None = None
    stopped: bool = False
    method: Any = None
    html: str = ""


@dataclass(eq=False)
class Conversation:
    """One browser tab's conversation with one model.

    Attributes:
        turns: by method's name.
        stopped: somebody pressed the stop button.
    """

    model: str
    turns: dict[str, list[Turn]] = field(default_factory=dict)
    stopped: bool = False

    def history(self, method: str) -> list[Turn]:
        """The method's answered turns."""
        return [turn for turn in self.turns.get(method, ()) if turn.error is None and turn.answer is not None]

    def latest(self, method: str) -> Turn | None:
        """The method's last answered turn, if there is one."""
        return next(iter(reversed(self.history(method))), None)


def context(family: Family, history: list[Turn], question: str, images: list) -> str:
    """What `family.prompt` is given: the question alone as it is, a conversation as JSON turns.

    Raises:
        ValueError: the question marks images, but not as many as there are.
    """
    place_marks(question, len(images))  # as many marks as images, or none
    if not history and json_turns(question) is None:
        return question
    turns = []
    for turn in history:
        turns.append({"from": "human", "value": _marked(family, turn.question, len(turn.images))})
        turns.append({"from": "gpt", "value": turn.text.replace(IMAGE_MARK, "")})  # a mark there would be an image
    return json.dumps([*turns, {"from": "human", "value": _marked(family, question, len(images))}])


def _marked(family: Family, question: str, num_images: int) -> str:
    """The question with a mark per image, placed as the family itself places those of an unmarked question."""
    if not num_images or IMAGE_MARK in question:
        return question
    ways = [IMAGE_MARK * num_images + question, place_marks(question, num_images)]
    own = family.prompt(question, num_images) if json_turns(question) is None else None
    return next((way for way in ways if family.prompt(way, num_images) == own), ways[0])
