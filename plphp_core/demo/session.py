"""What happens between a question and the page: one model in memory, one answer at a time."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from plphp_core.config.run_settings import setting_text
from plphp_core.decoding.device import free_memory
from plphp_core.demo.catalogue import Catalogue, check_checkpoint
from plphp_core.demo.conversation import Conversation, Turn, context
from plphp_core.demo.parameters import Parameter, build, in_symbols, parameters_of, whole
from plphp_core.demo.streaming import StreamedAnswer, encode, stream
from plphp_core.demo.uploads import read_images
from plphp_core.evaluation.failure import Failure
from plphp_core.evaluation.loading import LoadedModel, LoadOnce, load
from plphp_core.pruning.method import method_names
from plphp_core.records.errors import UserError

log = logging.getLogger("plphp.demo")
WARM_UP = "warm up"


@dataclass(frozen=True)
class ModelShape:
    """What the page must know of a model."""

    num_layers: int
    kv_heads: int
    located: bool  # whether its tokens have a place of their own in the image
    device: str
    dtype: str


class Session:
    """The loaded model and how it is asked. Any number of conversations; one answer at a time.

    Attributes:
        parameters: by method, in the page's order.
    """

    def __init__(self, catalogue: Catalogue):
        self.catalogue = catalogue
        self.parameters: dict[str, list[Parameter]] = {name: parameters_of(name) for name in method_names()}
        self._load = LoadOnce(self._load_and_warm_up)
        self._shapes: dict[str, ModelShape] = {}
        self._device = threading.Lock()

    def shape(self, model: str) -> ModelShape:
        """Loads the model, unless its shape is known. Raises UserError if it cannot be loaded."""
        if model not in self._shapes:
            with self._device:
                self._loaded(model)
        return self._shapes[model]

    def start(self, model: str, method: str) -> dict:
        """The values that a method's parameters start with for this model."""
        return self._start(model, method, self.shape(model).num_layers)

    def _start(self, model: str, method: str, layers: int) -> dict:
        found = self.catalogue.start(model, method)
        return {one.name: one.within(found.get(one.name, one.default), layers) for one in self.parameters[method]}

    def setting(self, model: str, method: str, values: Mapping) -> str:
        """A method's values in words, as tables print them."""
        configured = self.catalogue.configured(model, method)
        return setting_text(configured.get("setting", ""), dict(values), configured)

    def ask(
        self,
        conversation: Conversation,
        question: str,
        files: Sequence[str | Path],
        methods: Mapping[str, Mapping],
        max_new_tokens: int,
    ) -> Iterator[tuple[str, str]]:
        """StreamedAnswer with each method in turn.

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
        try:
            max_new_tokens = whole("longest answer", max_new_tokens)
        except ValueError as error:
            raise UserError(str(error)) from error
        # Once, before everything else: what a column says it was asked with is what it was asked with.
        typed, refused = self._typed(methods)
        images = read_images(files)
        conversation.stopped = False
        with self._device:
            yield "loading the model …", ""
            loaded = self._loaded(conversation.model)
            self._check(loaded, question, images)
            turns = {name: Turn(question, images, error=refused.get(name)) for name in methods}
            for name, values in typed.items():
                turns[name].setting = self.setting(conversation.model, name, values)
            for number, (name, turn) in enumerate(turns.items(), 1):
                said = f"{self.catalogue.method_title(name)} is answering ({number} of {len(turns)}) …"
                history = conversation.history(name)
                conversation.turns.setdefault(name, []).append(turn)
                yield said, name
                if name in typed:
                    for _ in self._answer(loaded, conversation, history, turn, typed[name], max_new_tokens, name):
                        yield said, name
                if conversation.stopped:
                    break

    def _typed(self, methods: Mapping[str, Mapping]) -> tuple[dict[str, dict], dict[str, str]]:
        """By method, its values in their own types; and, for those whose values have none, why."""
        typed, refused = {}, {}
        for name, values in methods.items():
            kinds = {one.name: one for one in self.parameters[name]}
            try:
                typed[name] = {key: kinds[key].typed(value) for key, value in values.items()}
            except ValueError as error:
                refused[name] = str(error)
        return typed, refused

    def _check(self, loaded: LoadedModel, question: str, images: list[Image.Image]) -> None:
        """Raises UserError where the question itself cannot be made a prompt of."""
        try:
            loaded.family.prompt(context(loaded.family, [], question, images), len(images))
        except ValueError as error:
            raise UserError(str(error)) from error

    def _answer(
        self,
        loaded: LoadedModel,
        conversation: Conversation,
        history: list[Turn],
        turn: Turn,
        values: Mapping,
        max_new_tokens: int,
        name: str,
    ) -> Iterator[None]:
        """Fill the turn; yields whenever it has changed. What one method cannot do costs the others nothing."""
        try:
            try:
                turn.method = build(name, values, self._shapes[conversation.model].num_layers)
            except (ValueError, TypeError) as error:
                raise ValueError(in_symbols(str(error), name)) from error
            text = context(loaded.family, history, turn.question, turn.images)
            inputs = encode(loaded, text, [image for one in (*history, turn) for image in one.images])
            for part in stream(loaded, turn.method, inputs, max_new_tokens, lambda: conversation.stopped):
                if isinstance(part, StreamedAnswer):
                    turn.answer, turn.text, turn.stopped = part, part.text, conversation.stopped
                    for earlier in history:
                        earlier.answer.forget()
                else:
                    turn.text = part
                yield
        except torch.OutOfMemoryError:
            turn.error = "out of memory; ask about fewer or smaller images, or start with a smaller model"
        except (ValueError, TypeError) as error:  # a method's or a family's own sentence
            turn.error = str(error)
        except Exception as error:
            log.exception("%s failed", name)
            turn.error = str(Failure.of(error))
        if turn.error is not None:
            free_memory()
            yield

    # --- the model --------------------------------------------------------------------------------------------------

    def _loaded(self, model: str) -> LoadedModel:
        settings = self.catalogue.settings(model)
        loaded = self._load(settings)
        self._shapes[model] = _shape(loaded)
        return loaded

    def _load_and_warm_up(self, settings) -> LoadedModel:
        """The first answer after loading would pay for kernels and caches."""
        check_checkpoint(settings.checkpoint)
        loaded = load(settings)
        layers = _shape(loaded).num_layers
        inputs = encode(loaded, WARM_UP, [Image.new("RGB", (96, 96), "grey")])
        for name in self.parameters:
            method = build(name, self._start(settings.name, name, layers), layers)
            for _ in stream(loaded, method, inputs, 3, lambda: False):
                pass
        return loaded


def _shape(loaded: LoadedModel) -> ModelShape:
    decoder = loaded.family.decoder(loaded.model)
    attention = decoder.layers[0].self_attn
    kv_heads = attention.k_proj.out_features // attention.head_dim
    dtype = str(loaded.dtype).removeprefix("torch.")
    return ModelShape(len(decoder.layers), kv_heads, loaded.family.located, str(loaded.device), dtype)
