"""What has been said: every method has its own history, which is prefilled anew at each turn."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

from PIL.Image import Image

from plphp_core.demo.demo_settings import method_title
from plphp_core.demo.parameters import setting_of
from plphp_core.demo.streaming import StreamedAnswer
from plphp_core.families.base import IMAGE_MARK, Family, json_turns, place_marks

FIGURES = ("turn", "method", "setting", "first token", "further tokens", "length", "KV cache", "vision tokens kept")


@dataclass(eq=False)
class Turn:
    """A question to one method and what came back.

    Attributes:
        images: numbers of the images shown with this question, in `Conversation.images`.
        text: the answer, as far as it has come.
        error: why there is no answer; such a turn is left out of later prompts.
    """

    question: str
    images: Sequence[int]
    text: str = ""
    error: str | None = None
    complete: bool = False


@dataclass(eq=False)
class Conversation:
    """One browser tab's conversation with the model.

    Attributes:
        images: of all turns, upright RGB.
        turns: by method's name.
        answers: by method's name, the latest one.
        figures: a row of `FIGURES` for each answer.
        stopped: somebody pressed the stop button.
    """

    images: list[Image] = field(default_factory=list)
    turns: dict[str, list[Turn]] = field(default_factory=dict)
    answers: dict[str, StreamedAnswer] = field(default_factory=dict)
    figures: list[list[str]] = field(default_factory=list)
    stopped: bool = False

    def history(self, method: str) -> list[Turn]:
        """The method's answered turns."""
        return [turn for turn in self.turns.get(method, ()) if turn.complete and turn.error is None]

    def seen(self, method: str) -> list[int]:
        """Numbers of the images in the method's history, in the prompt's order."""
        return [number for turn in self.history(method) for number in turn.images]

    def messages(self, method: str) -> list[dict[str, str]]:
        """The method's turns as `gr.Chatbot` takes them, escaped: without Markdown it would still read HTML."""
        found = []
        for turn in self.turns.get(method, ()):
            shown = "".join(f"[image {number + 1}] " for number in turn.images)
            said = turn.text or ("(empty answer)" if turn.complete else "…")
            if turn.error is not None:
                lost = ("This turn is", " it") if not turn.images else ("This turn and its images are", " with them")
                said = f"Refused: {turn.error}\n{lost[0]} not part of this column's conversation; ask again{lost[1]}."
            found.append({"role": "user", "content": escape(shown + turn.question, quote=False)})
            found.append({"role": "assistant", "content": escape(said, quote=False)})
        return found

    def complete(self, method: str, answer: StreamedAnswer) -> None:
        """Close the method's last turn with its answer."""
        turn = self.turns[method][-1]
        turn.text, turn.complete, self.answers[method] = answer.text, True, answer
        trace, steps = answer.trace, answer.decode_steps
        retention, vision = trace.retention[0].tolist(), sum(map(len, trace.images[0]))
        held, full = trace.kv_bytes[0], trace.kv_bytes_full[0]
        self.figures.append([
            str(len(self.turns[method])),
            method_title(method),
            setting_of(answer.method) or "–",
            f"{answer.prefill_ms:.0f} ms",
            f"{answer.decode_ms / steps:.1f} ms each" if steps else "–",
            f"{answer.new_tokens} tokens{', stopped' if self.stopped else ''}",
            f"{held / 2**20:.2f} of {full / 2**20:.2f} MiB ({held / full:.0%})",
            f"{sum(retention) / len(retention):.0%} of {vision}" if vision else "no image",
        ])  # fmt: skip


def context(family: Family, turns: Sequence[Turn]) -> str:
    """What `family.prompt` is given: one question alone as it is, a conversation as JSON turns.

    Args:
        turns: answered ones and, at the end, the open one.

    Raises:
        ValueError: the open question marks images, but not as many as there are.
    """
    *history, last = turns
    place_marks(last.question, len(last.images))  # as many marks as images, or none
    if not history and json_turns(last.question) is None:
        return last.question
    said = []
    for turn in turns:
        said.append({"from": "human", "value": _marked(family, turn.question, len(turn.images))})
        said.append({"from": "gpt", "value": turn.text.replace(IMAGE_MARK, "")})  # a mark there would be an image
    return json.dumps(said[:-1])


def _marked(family: Family, question: str, num_images: int) -> str:
    """The question with a mark per image, placed as the family itself places those of an unmarked question."""
    if not num_images or IMAGE_MARK in question:
        return question
    ways = [IMAGE_MARK * num_images + question, place_marks(question, num_images)]
    own = family.prompt(question, num_images) if json_turns(question) is None else None
    return next((way for way in ways if family.prompt(way, num_images) == own), ways[0])
