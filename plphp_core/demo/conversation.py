"""What has been said: every method has its own history, which is prefilled anew at each turn."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

from PIL.Image import Image

from plphp_core.analysis.marked_words import marked_words
from plphp_core.demo.demo_settings import method_title
from plphp_core.demo.parameters import setting_of
from plphp_core.demo.streaming import StreamedAnswer
from plphp_core.families.base import IMAGE_MARK, Family, json_turns, place_marks

CUT_OFF = "[cut off: as long as an answer may be]"
FIGURES = ("turn", "method", "setting", "first token", "further tokens", "length", "KV cache", "vision tokens kept")


@dataclass(eq=False)
class Turn:
    """A question to one method and what came back.

    Attributes:
        images: numbers of the images shown with this question, in `Conversation.images`.
        text: the answer, as far as it has come.
        asked: number of the question in the conversation; the same for all methods.
        cut_off: whether the answer was as long as it may be.
        error: why there is no answer; such a turn is left out of later prompts.
    """

    question: str
    images: Sequence[int]
    text: str = ""
    error: str | None = None
    complete: bool = False
    asked: int = 0
    cut_off: bool = False


@dataclass(eq=False)
class Conversation:
    """One browser tab's conversation with the model.

    Attributes:
        images: of all turns, upright RGB.
        turns: by method's name.
        answers: by method's name, the latest one.
        figures: a row of `FIGURES` for each answer.
        stopped: somebody pressed the stop button.
        latest: the latest question and its images' numbers; asked: how many questions there were; left_out: why some
            of its files are not among the images.
    """

    images: list[Image] = field(default_factory=list)
    turns: dict[str, list[Turn]] = field(default_factory=dict)
    answers: dict[str, StreamedAnswer] = field(default_factory=dict)
    figures: list[list[str]] = field(default_factory=list)
    stopped: bool = False
    latest: tuple[str, Sequence[int]] | None = None
    asked: int = 0
    left_out: list[str] = field(default_factory=list)

    def begin(self, method: str) -> Turn:
        """The method's turn for the latest question, empty; it takes the place of one that was there."""
        assert self.latest is not None
        turn = Turn(*self.latest, asked=self.asked)
        before = [one for one in self.turns.get(method, ()) if one.asked != self.asked]
        self.turns[method] = [*before, turn]
        return turn

    def history(self, method: str) -> list[Turn]:
        """The method's answered turns."""
        return [turn for turn in self.turns.get(method, ()) if turn.complete and turn.error is None]

    def seen(self, method: str) -> list[int]:
        """Numbers of the images in the method's history, in the prompt's order."""
        return [number for turn in self.history(method) for number in turn.images]

    def messages(self, method: str) -> list[dict[str, str]]:
        """The method's turns as `gr.Chatbot` takes them, escaped: without Markdown it would still read HTML.

        Words that the uncompressed answer to the same question does not have are in <mark>.
        """
        found = []
        for turn in self.turns.get(method, ()):
            shown = "".join(f"[image {number + 1}] " for number in turn.images)
            said = escape(turn.text or ("(empty answer)" if turn.complete else "…"), quote=False)
            if turn.complete and turn.error is None:
                said = self._marked(turn, method) or said
                said += f"\n{CUT_OFF}" * turn.cut_off
            if turn.error is not None:
                lost = ("This turn is", " it") if not turn.images else ("This turn and its images are", " with them")
                said = f"Refused: {turn.error}\n{lost[0]} not part of this column's conversation; ask again{lost[1]}."
                said = escape(said, quote=False)
            found.append({"role": "user", "content": escape(shown + turn.question, quote=False)})
            found.append({"role": "assistant", "content": said})
        return found

    def _marked(self, turn: Turn, method: str) -> str:
        """The answer, escaped, with the words marked that the uncompressed one does not have; empty without one."""
        plain = [one for one in self.history("none") if one.asked == turn.asked and method != "none"]
        flags = iter(marked_words(turn.text, [plain[0].text]) if plain else [])
        parts = re.split(r"(\s+)", turn.text) if plain else []  # words and what is between them
        shown = []
        for part in parts:
            differs = bool(part.strip()) and next(flags, ("", False))[1]
            text = escape(part, quote=False)
            shown.append(f"<mark>{text}</mark>" if differs else text)
        return "".join(shown)

    def complete(self, method: str, answer: StreamedAnswer) -> None:
        """Close the method's last turn with its answer."""
        turn = self.turns[method][-1]
        turn.text, turn.complete, self.answers[method] = answer.text, True, answer
        turn.cut_off = answer.cut_off and not self.stopped
        trace, steps = answer.trace, answer.decode_steps
        retention, vision = trace.retention[0].tolist(), sum(map(len, trace.images[0]))
        held, full = trace.kv_bytes[0], trace.kv_bytes_full[0]
        self.figures.append([
            str(len(self.turns[method])),
            method_title(method),
            setting_of(answer.method) or "–",
            f"{answer.prefill_ms:.0f} ms",
            f"{answer.decode_ms / steps:.1f} ms each" if steps else "–",
            f"{answer.new_tokens} tokens{', stopped' if self.stopped else ', cut off' if turn.cut_off else ''}",
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
    in_front = [IMAGE_MARK * num_images, IMAGE_MARK * num_images + "\n", f"{IMAGE_MARK}\n" * num_images]
    ways = [*(marks + question for marks in in_front), place_marks(question, num_images)]
    own = family.prompt(question, num_images) if json_turns(question) is None else None
    return next((way for way in ways if family.prompt(way, num_images) == own), ways[0])
