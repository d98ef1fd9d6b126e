"""What happens between a question and the page: one model in memory, one answer at a time."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from plphp_core.config.run_settings import ModelSettings
from plphp_core.decoding.device import free_memory
from plphp_core.demo.catalogue import Catalogue, method_title
from plphp_core.demo.conversation import Conversation, Turn, context
from plphp_core.demo.parameters import build, parameters_of, typed
from plphp_core.demo.streaming import stream
from plphp_core.demo.uploads import read_images
from plphp_core.evaluation.generation import JointAnswerer
from plphp_core.evaluation.loading import LoadedModel, LoadOnce, load
from plphp_core.evaluation.requests import Request
from plphp_core.pruning.method import method_names
from plphp_core.records.errors import UserError

log = logging.getLogger("plphp.demo")


@dataclass(frozen=True)
class ModelShape:
    """What the page must know of a model.

    Attributes:
        located: whether its vision tokens have a place of their own in the image.
    """

    num_layers: int
    kv_heads: int
    located: bool
    device: str
    dtype: str


class DemoSession:
    """The loaded model and how it is asked. Any number of conversations; one answer at a time.

    Attributes:
        parameters: by method, in the page's order.
    """

    def __init__(self, catalogue: Catalogue):
        self.catalogue = catalogue
        self.parameters = {name: parameters_of(name) for name in method_names()}
        self._load = LoadOnce(self._load_and_warm_up)
        self._shapes: dict[str, ModelShape] = {}
        self._device = threading.Lock()

    def shape(self, model: str) -> ModelShape:
        """Loads the model, unless its shape is known. Raises UserError if it cannot be loaded."""
        if model not in self._shapes:
            with self._device:
                self.loaded(model)
        return self._shapes[model]

    def loaded(self, model: str) -> LoadedModel:
        """The model, in memory instead of any other. Whoever uses it must be alone."""
        return self._load(self.catalogue.settings(model).model)

    def start(self, model: str, method: str) -> dict:
        """The values that a method's parameters start with for this model: no depth larger than the model."""
        found, layers = self.catalogue.start(model, method), self.shape(model).num_layers
        known = {one.name: found.get(one.name, one.default) for one in self.parameters[method]}
        return known | {one.name: min(known[one.name], layers) for one in self.parameters[method] if one.is_depth}

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
            What is going on, and the method whose turns have changed ("" for none).

        Raises:
            UserError: nothing can be asked like this; nothing has been added to the conversation.
        """
        if not question.strip():
            raise UserError("ask something: the question is empty")
        if not methods:
            raise UserError("no method is ticked; tick at least one")
        images, first = read_images(files), len(conversation.images)
        numbers = range(first, first + len(images))
        conversation.stopped = False
        with self._device:
            yield "loading the model …", ""
            loaded = self.loaded(conversation.model)
            try:
                tokens = typed("longest answer", int, max_new_tokens)
                loaded.family.prompt(context(loaded.family, [Turn(question, numbers)]), len(images))
            except ValueError as error:
                raise UserError(str(error)) from error
            conversation.images += images
            for number, (name, values) in enumerate(methods.items(), 1):
                said = f"{method_title(name)} is answering ({number} of {len(methods)}) …"
                history = conversation.history(name)
                turn = Turn(question, numbers)
                conversation.turns.setdefault(name, []).append(turn)
                yield said, name
                for _ in self._answer(loaded, conversation, name, values, [*history, turn], tokens):
                    yield said, name
                if conversation.stopped:
                    break

    def _answer(
        self,
        loaded: LoadedModel,
        conversation: Conversation,
        name: str,
        values: Mapping,
        turns: Sequence[Turn],
        max_new_tokens: int,
    ) -> Iterator[None]:
        """Fill the last turn; yields whenever it has changed. What one method cannot do costs the others nothing."""
        turn = turns[-1]
        try:
            method = build(name, values, self._shapes[conversation.model].num_layers)
            images = [conversation.images[number] for one in turns for number in one.images]
            inputs = encode(loaded, context(loaded.family, turns), images)
            for part in stream(loaded, method, inputs, max_new_tokens, lambda: conversation.stopped):
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

    def _load_and_warm_up(self, settings: ModelSettings) -> LoadedModel:
        """The first answer after loading would pay for kernels and caches."""
        loaded = load(settings)
        self._shapes[settings.name] = shape = _shape(loaded)
        inputs = encode(loaded, "warm up", [Image.new("RGB", (96, 96), "grey")])
        for name in self.parameters:
            method = build(name, self.start(settings.name, name), shape.num_layers)
            for _ in stream(loaded, method, inputs, 3, bool):
                pass
        return loaded


def encode(loaded: LoadedModel, context: str, images: list) -> dict:
    """What the model is called with, on its device. Raises ValueError if the family cannot make a prompt of it."""
    return JointAnswerer(loaded).inputs(Request(context, {}, lambda: images))


def _shape(loaded: LoadedModel) -> ModelShape:
    decoder = loaded.family.decoder(loaded.model)
    attention = decoder.layers[0].self_attn
    kv_heads = attention.k_proj.out_features // attention.head_dim
    dtype = str(loaded.dtype).removeprefix("torch.")
    return ModelShape(len(decoder.layers), kv_heads, loaded.family.located, str(loaded.device), dtype)
