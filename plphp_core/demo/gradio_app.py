"""The page, in Gradio: what is where and what happens on a click. What it shows is made elsewhere."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from types import SimpleNamespace

import gradio as gr

from plphp_core.demo import page
from plphp_core.demo.conversation import Conversation
from plphp_core.demo.examples import Example
from plphp_core.demo.session import Session
from plphp_core.demo.theme import KEPT, NOTE, TITLE, TOY
from plphp_core.demo.token_maps import ALL, NO_ANSWER, maps
from plphp_core.demo.widgets import changed, widget
from plphp_core.records.errors import UserError

log = logging.getLogger("plphp.demo")
DEVICE = {"concurrency_id": "device", "concurrency_limit": 1}  # whoever needs the model waits in one queue
PRIVATE = {"api_visibility": "private"}


def build(session: Session, examples: Sequence[Example]) -> gr.Blocks:
    """The page for a session; its first model must be loadable."""
    return _Page(session, examples).blocks


class _Page:
    """Widgets and their handlers."""

    def __init__(self, session: Session, examples: Sequence[Example]):
        self.session, self.methods = session, list(session.parameters)
        first = session.catalogue.first
        with gr.Blocks(title=TITLE, analytics_enabled=False, fill_width=True) as self.blocks:
            self.conversation = gr.State()
            gr.HTML(page.header(TITLE, NOTE + TOY * (session.catalogue.profile == "toy")))
            self._controls(first)
            self._question(examples)
            self.columns = {name: self._column(name, first) for name in self.methods}
            self._kept(first)
            self._events()

    # --- what is where ----------------------------------------------------------------------------------------------

    def _controls(self, first: str) -> None:
        titles = [(self.session.catalogue.title(name), name) for name in self.session.catalogue.names]
        methods = [(self.session.catalogue.method_title(name), name) for name in self.methods]
        with gr.Row():
            self.model = gr.Dropdown(titles, value=first, label="Model", scale=2, min_width=220)
            self.chosen = gr.CheckboxGroup(methods, value=self.methods, label="Methods", scale=3, min_width=280)
            self.longest = gr.Slider(1, 512, value=64, step=1, label="Longest answer (tokens)", scale=2, min_width=220)

    def _question(self, examples: Sequence[Example]) -> None:
        self.box = gr.MultimodalTextbox(
            label="Question",
            show_label=False,
            placeholder="Drop images here or attach them, then ask. <image> in the text says where an image belongs.",
            file_types=["image"],
            file_count="multiple",
            sources=["upload"],
            max_plain_text_length=20_000,
            autofocus=True,
            elem_id="question",
        )
        with gr.Row(elem_id="bar"):
            self.status = gr.HTML(page.status(self._ready(self.session.catalogue.first)), elem_id="status")
            self.stop = gr.Button("Stop", variant="stop", size="sm", interactive=False, elem_id="stop")
            self.fresh = gr.Button("New conversation", size="sm", elem_id="new")
        shown = [[{"text": one.question, "files": [str(file) for file in one.files]}] for one in examples]
        if shown:
            gr.Examples(shown, self.box, api_visibility="private", elem_id="examples")
        self.row = gr.Row(equal_height=False)

    def _column(self, name: str, model: str) -> SimpleNamespace:
        start, layers = self.session.start(model, name), self.session.shape(model).num_layers
        parameters = self.session.parameters[name]
        with self.row, gr.Column(min_width=270, elem_id=f"column-{name}") as whole:
            gr.HTML(page.column_head(self.session.catalogue.method_title(name), name, self.methods))
            with gr.Accordion("Parameters" if parameters else "No parameters", open=False):
                widgets = {one.name: widget(one, start[one.name], layers) for one in parameters}
            thread = gr.HTML(page.thread([], name, self.methods), elem_id=f"answers-{name}")
        return SimpleNamespace(whole=whole, widgets=widgets, thread=thread)

    def _kept(self, model: str) -> None:
        shape = self.session.shape(model)
        gr.HTML(page.section(KEPT))
        with gr.Row():
            last, middle = shape.num_layers - 1, shape.num_layers // 2
            self.layer = gr.Slider(0, last, value=middle, step=1, label="Layer (from 0)", scale=3)
            self.head = gr.Dropdown(_heads(shape.kv_heads), value=ALL, label="KV head", min_width=140)
            self.image = gr.Dropdown([("all images", ALL)], value=ALL, label="Image", min_width=140)
        with gr.Row(equal_height=False):
            for name, column in self.columns.items():
                with gr.Column(min_width=270) as column.below:
                    gr.HTML(page.column_head(self.session.catalogue.method_title(name), name, self.methods))
                    column.maps = gr.HTML(NO_ANSWER, elem_id=f"maps-{name}")

    def _events(self) -> None:
        self.blocks.load(None, js=page.NAME_QUESTION, **PRIVATE)
        everywhere = [self.conversation, self.status, self.box, self.stop, self.model, self.fresh, self.image]
        shown = [*(one.thread for one in self._all()), *(one.maps for one in self._all())]
        where = [self.layer, self.head, self.image]
        sliders = [one for column in self._all() for one in column.widgets.values()]
        asking = {"show_progress": "hidden", **DEVICE, **PRIVATE}
        inputs = [self.conversation, self.box, self.model, self.chosen, self.longest, *where, *sliders]
        # At once, even while another tab has the model.
        at_once = {"queue": False, "show_progress": "hidden", **PRIVATE}
        asked = self.box.submit(self._wait, None, [self.status, self.box], **at_once)
        asked = asked.then(self._ask, inputs, [*everywhere, *shown], **asking)
        asked.failure(self._refuse, None, [self.status, self.box], **at_once)
        self.stop.click(self._stop, self.conversation, self.stop, **at_once)
        cleared = [self.conversation, self.status, self.image, *shown]
        self.fresh.click(self._clear, self.model, cleared, **at_once)
        switched = self.model.change(lambda: self._wait()[0], None, self.status, **at_once)
        switched.then(self._switch, self.model, [*cleared, self.layer, self.head, *sliders], **asking)
        visible = [part for column in self._all() for part in (column.whole, column.below)]
        self.chosen.change(self._show, self.chosen, visible, **at_once)
        drawn = [one.maps for one in self._all()]
        for one in where:
            quiet = {"show_progress": "hidden", "trigger_mode": "always_last", "concurrency_limit": None, **PRIVATE}
            one.input(self._maps, [self.conversation, *where], drawn, **quiet)

    def _all(self) -> list[SimpleNamespace]:
        return list(self.columns.values())

    # --- what happens -----------------------------------------------------------------------------------------------

    def _wait(self) -> tuple:
        return page.status("waiting for the model: one answer at a time …", "busy"), gr.update(interactive=False)

    def _refuse(self) -> tuple:
        """What Gradio itself refuses, before it calls a handler."""
        said = "not asked: a value is outside its slider's range, or too many are waiting"
        return page.status(said, "error"), gr.update(interactive=True)

    def _ask(self, conversation, box, model, chosen, longest, layer, head, image, *values) -> Iterator[dict]:
        if conversation is None or conversation.model != model:
            conversation = Conversation(model)
        named = iter(values)
        given = {name: {key: next(named) for key in column.widgets} for name, column in self.columns.items()}
        methods = {name: given[name] for name in self.methods if name in (chosen or ())}
        idle = {self.stop: gr.update(interactive=False), self.model: gr.update(interactive=True)}
        idle |= {self.fresh: gr.update(interactive=True), self.conversation: conversation}
        idle |= {self.box: gr.update(interactive=True)}
        asked = False
        try:
            for said, name in self.session.ask(conversation, box["text"], box["files"], methods, longest):
                update = {self.status: page.status(said, "busy")}
                if not asked:
                    update |= {self.conversation: conversation, self.stop: gr.update(interactive=True)}
                    update |= {self.model: gr.update(interactive=False), self.fresh: gr.update(interactive=False)}
                if name:
                    update |= self._shown(conversation, name, (layer, head, image))
                    if not asked:  # from here on the question belongs to the conversation
                        update[self.box] = gr.update(value={"text": "", "files": []})
                        asked = True
                yield update
            stopped = "stopped; " * conversation.stopped
            yield idle | {
                self.status: page.status(stopped + self._ready(model)),
                self.image: self._images(conversation),
            }
        except UserError as error:
            yield idle | {self.status: page.status(str(error), "error")}
        except Exception as error:
            log.exception("the question failed")
            yield idle | {self.status: page.status(f"failed: {type(error).__name__}: {error}", "error")}

    def _shown(self, conversation: Conversation, name: str, where: tuple) -> dict:
        """A method's column, and its maps as soon as its answer is complete."""
        column, turns = self.columns[name], conversation.turns[name]
        found = {column.thread: page.thread(turns, name, self.methods)}
        if turns[-1].answer is not None:
            found[column.maps] = self._map(conversation, name, *where)
        return found

    def _map(self, conversation: Conversation, name: str, layer, head: str, image: str) -> str:
        return maps(conversation, name, int(layer), head, image, self.session.shape(conversation.model).located)

    def _maps(self, conversation, layer, head: str, image: str) -> list:
        if conversation is None:
            return [gr.skip()] * len(self.columns)
        return [self._map(conversation, name, layer, head, image) for name in self.columns]

    def _images(self, conversation: Conversation) -> dict:
        counts = [sum(len(turn.images) for turn in conversation.history(name)) for name in self.methods]
        choices = [("all images", ALL), *((f"image {n}", str(n)) for n in range(1, max(counts, default=0) + 1))]
        return gr.update(choices=choices)

    def _stop(self, conversation) -> dict:
        if conversation is not None:
            conversation.stopped = True
        return gr.update(interactive=False)

    def _clear(self, model: str) -> dict:
        return self._empty() | {self.status: page.status(self._ready(model))}

    def _empty(self) -> dict:
        """The page without a conversation."""
        empty = {self.conversation: None, self.image: gr.update(choices=[("all images", ALL)], value=ALL)}
        for name, column in self.columns.items():
            empty[column.thread] = page.thread([], name, self.methods)
            empty[column.maps] = NO_ANSWER
        return empty

    def _switch(self, model: str) -> Iterator[dict]:
        """Another model: another conversation, other defaults."""
        yield self._empty() | {self.status: page.status(f"loading {self.session.catalogue.title(model)} …", "busy")}
        try:
            shape = self.session.shape(model)
        except UserError as error:
            yield {self.status: page.status(str(error), "error")}
            return
        update = {
            self.status: page.status(self._ready(model)),
            self.layer: gr.update(maximum=shape.num_layers - 1, value=shape.num_layers // 2),
            self.head: gr.update(choices=_heads(shape.kv_heads), value=ALL),
        }
        for name, column in self.columns.items():
            start = self.session.start(model, name)
            for one in self.session.parameters[name]:
                update[column.widgets[one.name]] = changed(one, start[one.name], shape.num_layers)
        yield update

    def _show(self, chosen: list[str]) -> list:
        return [gr.update(visible=name in chosen) for name in self.columns for _ in range(2)]

    def _ready(self, model: str) -> str:
        shape = self.session.shape(model)
        heads = f"{shape.kv_heads} KV head{'s' * (shape.kv_heads > 1)}"
        title = self.session.catalogue.title(model)
        return f"{title}: {shape.num_layers} layers, {heads}, {shape.dtype} on {shape.device}. Ready."


def _heads(kv_heads: int) -> list[tuple[str, str]]:
    return [("all heads", ALL), *((f"head {number}", str(number)) for number in range(kv_heads))]
