"""What happens between a question and the page: one model in memory, one answer at a time."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import torch
from PIL import Image

from plphp_core.decoding.device import free_memory
from plphp_core.demo.conversation import Conversation, Turn, context
from plphp_core.demo.demo_settings import DemoSettings, method_title
from plphp_core.demo.parameters import build, parameters_of, typed
from plphp_core.demo.streaming import stream
from plphp_core.demo.uploads import sorted_out
from plphp_core.evaluation.generation import JointAnswerer
from plphp_core.evaluation.loading import LoadedModel, load
from plphp_core.evaluation.requests import Request
from plphp_core.records.errors import UserError

log = logging.getLogger("plphp.demo")


class DemoSession:
    """The loaded model and how it is asked. Any number of conversations; one answer at a time.

    Attributes:
        parameters: by method, in the page's order.
        ticked: methods that answer unless others are ticked.
        start: method → parameter → the value to begin with; no depth is larger than the model.

    Raises:
        UserError: the model cannot be loaded.
    """

    def __init__(self, settings: DemoSettings):
        self.loaded = load(settings.model)
        decoder = self.loaded.family.decoder(self.loaded.model)
        attention = decoder.layers[0].self_attn
        self.num_layers = len(decoder.layers)
        self.kv_heads = attention.k_proj.out_features // attention.head_dim
        self.parameters = {name: parameters_of(name) for name in settings.start}
        self.start = {
            name: {
                one.name: min(value, self.num_layers) if one.is_depth else value
                for one in parameters
                for value in [settings.start[name].get(one.name, one.default)]
            }
            for name, parameters in self.parameters.items()
        }
        self.ticked = settings.ticked
        self._device = threading.Lock()
        inputs, shown = encode(self.loaded, "warm up", [Image.new("RGB", (96, 96), "grey")])
        for name in self.parameters:  # else the first answers would pay for kernels and caches
            with suppress(ValueError):  # a method that this model needs other values for says so when it is asked
                list(stream(self.loaded, build(name, self.start[name], self.num_layers), inputs, shown, 3, bool))

    def ask(
        self,
        conversation: Conversation,
        question: str,
        files: Sequence[str | Path],
        methods: Mapping[str, Mapping],
        max_new_tokens: float,
    ) -> Iterator[tuple[str, str]]:
        """Answer with each method in turn.

        Args:
            methods: the values of each chosen method's parameters.

        Yields:
            What is going on, and the method whose turns have changed.

        Raises:
            UserError: nothing can be asked like this; nothing has been added to the conversation.
        """
        if not question.strip():
            raise UserError("the question is empty")
        (images, refused), first = sorted_out(files), len(conversation.images)
        if refused and not images:
            raise UserError("; ".join(refused.values()))
        numbers = range(first, first + len(images))
        family = self.loaded.family
        tokens = _checked(methods, max_new_tokens)
        try:
            family.prompt(context(family, [Turn(question, numbers)]), len(images))
        except ValueError as error:
            raise UserError("; ".join([str(error), *refused.values()])) from error
        with self._device:
            conversation.images += images
            conversation.latest, conversation.left_out = (question, numbers), list(refused.values())
            conversation.asked += 1
            yield from self._turns(conversation, methods, tokens)

    def ask_again(
        self, conversation: Conversation, methods: Mapping[str, Mapping], max_new_tokens: float
    ) -> Iterator[tuple[str, str]]:
        """As `ask`, the latest question once more: answers take the place of those that there are, with other values.

        Raises:
            UserError: nothing has been asked, or it cannot be asked like this.
        """
        if conversation.latest is None:
            raise UserError("there is no question yet to be asked again")
        tokens = _checked(methods, max_new_tokens)
        with self._device:
            conversation.left_out = []
            yield from self._turns(conversation, methods, tokens)

    def _turns(
        self, conversation: Conversation, methods: Mapping[str, Mapping], tokens: int
    ) -> Iterator[tuple[str, str]]:
        """Each method's turn for the latest question."""
        conversation.stopped = False
        for number, (name, values) in enumerate(methods.items(), 1):
            said = f"{method_title(name)} is answering ({number} of {len(methods)}) …"
            turn = conversation.begin(name)
            turns = [*conversation.history(name), turn]
            yield said, name
            for _ in self._answer(conversation, name, values, turns, tokens):
                yield said, name
            if conversation.stopped:
                break

    def _answer(
        self, conversation: Conversation, name: str, values: Mapping, turns: Sequence[Turn], max_new_tokens: int
    ) -> Iterator[None]:
        """Fill the last turn; yields whenever it has changed. What one method cannot do costs the others nothing."""
        turn = turns[-1]
        try:
            method = build(name, values, self.num_layers)
            images = [conversation.images[number] for one in turns for number in one.images]
            inputs, shown = encode(self.loaded, context(self.loaded.family, turns), images)
            for part in stream(self.loaded, method, inputs, shown, max_new_tokens, lambda: conversation.stopped):
                if isinstance(part, str):
                    turn.text = part
                else:
                    conversation.complete(name, part)
                yield
        except torch.OutOfMemoryError:
            turn.error = "out of memory; ask about fewer or smaller images, or start with a smaller model"
        except (ValueError, TypeError) as error:  # a method's or a family's own sentence
            turn.error = str(error)
        except Exception as error:
            log.exception("%s failed", name)
            turn.error = f"{type(error).__name__}: {next(iter(str(error).splitlines()), 'no message')}"
        if turn.error is not None:
            free_memory()
            yield


def _checked(methods: Mapping[str, Mapping], max_new_tokens: float) -> int:
    """The longest answer in tokens. Raises UserError if it is no whole number, or without a method."""
    if not methods:
        raise UserError("no method is ticked; tick at least one")
    try:
        return typed("longest answer", int, max_new_tokens)
    except ValueError as error:
        raise UserError(str(error)) from error


def encode(loaded: LoadedModel, context: str, images: list) -> tuple[dict, list[list]]:
    """What the model is called with, on its device, and its images as the processor got them.

    Raises:
        ValueError: the family cannot make a prompt of it.
    """
    return JointAnswerer(loaded).inputs(Request(context, {}, lambda: images))
