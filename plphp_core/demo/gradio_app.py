"""The page in Gradio: what is where and what happens on a click."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from types import SimpleNamespace

import gradio as gr
from PIL.Image import Image

from plphp_core.demo.catalogue import method_title
from plphp_core.demo.conversation import FIGURES, Conversation
from plphp_core.demo.session import DemoSession
from plphp_core.demo.theme import status
from plphp_core.demo.token_maps import ALL, COLOURS, LONGEST, layers_chart, token_maps
from plphp_core.records.errors import UserError

log = logging.getLogger("plphp.demo")
TITLE = "PLPHP beside its rivals"
NOTE = (
    "Ask about images; every ticked method answers the same question with the same model, one after the other, "
    "greedily. Times are those of this page, not a benchmark."
)
TOY = " The models of this profile are small toys, trained on drawn scenes only: try the examples."
KEPT = "### Vision tokens that each layer keeps, in the latest answer\nWhat a layer drops is dark."
NOT_LOCATED = (
    "This model's vision tokens have no place of their own on the image: a part is the darker, the fewer are left of "
    "those that see it."
)
DEVICE = {"concurrency_id": "device", "concurrency_limit": 1}  # whoever needs the model waits in one queue
QUIET = {"show_progress": "hidden", "api_visibility": "private"}
AT_ONCE = {"queue": False, **QUIET}  # even while another tab has the model

CHAT = {"height": 300, "render_markdown": False, "buttons": [], "placeholder": "nothing asked yet", "show_label": False}
TABLE = {"interactive": False, "max_height": 500, "buttons": [], "show_label": False, "wrap": True}
TABLE |= {"column_widths": [60, 110, 330, 120, 150, 130, 220, 170]}
CHART = {"color": "what", "color_map": COLOURS, "y_lim": [0, 1], "y_title": " ", "color_title": " ", "height": 190}
CHART |= {"buttons": []}
GALLERY = {"object_fit": "contain", "interactive": False, "format": "png", "show_label": False, "fit_columns": False}
GALLERY |= {"buttons": []}


class DemoPage:
    """Widgets and their handlers. The session's first model must be loadable.

    Attributes:
        blocks: what Gradio serves.
        upper, lower: by method, its column of answers and its column of kept tokens.
    """

    def __init__(self, session: DemoSession, examples: Mapping[str, dict]):
        self.session, self.methods = session, list(session.parameters)
        catalogue, model = session.catalogue, session.catalogue.first
        with gr.Blocks(title=TITLE, analytics_enabled=False, fill_width=True) as self.blocks:
            self.conversation = gr.State()
            gr.Markdown(f"# {TITLE}\n{NOTE}{TOY * (catalogue.profile == 'toy')}")
            with gr.Row():
                models = [(catalogue.title(name), name) for name in catalogue.names]
                methods = [(method_title(name), name) for name in self.methods]
                self.model = gr.Dropdown(models, value=model, label="Model", scale=2, min_width=220)
                self.chosen = gr.CheckboxGroup(methods, value=self.methods, label="Methods", scale=3, min_width=280)
                self.longest = gr.Slider(1, 512, 64, step=1, label="Longest answer (tokens)", scale=2, min_width=220)
            self.box = gr.MultimodalTextbox(
                label="Question",
                placeholder="Drop or attach images, then ask. <image> in the text says where an image belongs.",
                file_types=["image"],
                file_count="multiple",
                sources=["upload"],
                max_plain_text_length=20_000,
                autofocus=True,
                elem_id="question",
            )
            shown = [[one] for one in examples.values()]
            gr.Examples(shown, self.box, example_labels=list(examples), api_visibility="private", elem_id="examples")
            self.status = gr.HTML(status(self._ready(model)), elem_id="status")
            with gr.Row():
                self.stop = gr.Button("Stop", variant="stop", size="sm", interactive=False, elem_id="stop")
                self.fresh = gr.Button("New conversation", size="sm", elem_id="new")
            self.images = gr.Gallery(visible=False, columns=8, elem_id="images", **GALLERY)
            with gr.Row(equal_height=False):
                self.upper = {name: self._answers(name, model) for name in self.methods}
            self.figures = gr.Dataframe(headers=list(FIGURES), elem_id="figures", **TABLE)
            gr.Markdown(KEPT)
            shape = session.shape(model)
            self.not_located = gr.Markdown(NOT_LOCATED, visible=not shape.located, elem_id="not-located")
            with gr.Row():
                last, middle = shape.num_layers - 1, shape.num_layers // 2
                self.layer = gr.Slider(0, last, middle, step=1, label="Layer (from 0)", scale=3, min_width=220)
                self.head = gr.Dropdown(_heads(shape.kv_heads), value=ALL, label="KV head", min_width=140)
                self.image = gr.Dropdown([("all images", ALL)], value=ALL, label="Image", min_width=140)
            with gr.Row(equal_height=False):
                self.lower = {name: self._kept(name) for name in self.methods}
            self._events()

    def _answers(self, name: str, model: str) -> SimpleNamespace:
        start, layers = self.session.start(model, name), self.session.shape(model).num_layers
        parameters = self.session.parameters[name]
        with gr.Column(min_width=270, elem_id=f"column-{name}") as whole:
            gr.Markdown(f"### {method_title(name)}")
            chat = gr.Chatbot(elem_id=f"answers-{name}", **CHAT)
            with gr.Accordion("Parameters" if parameters else "No parameters", open=False):
                widgets = {one.name: one.widget(start[one.name], layers) for one in parameters}
        return SimpleNamespace(whole=whole, chat=chat, widgets=widgets)

    def _kept(self, name: str) -> SimpleNamespace:
        with gr.Column(min_width=270) as whole:
            chart = gr.LinePlot(None, "layer", "value", title=method_title(name), **CHART)
            maps = gr.Gallery(elem_id=f"maps-{name}", columns=2, **GALLERY)
        return SimpleNamespace(whole=whole, chart=chart, maps=maps)

    def _events(self) -> None:
        upper, lower = self.upper.values(), self.lower.values()
        maps, where = [one.maps for one in lower], [self.layer, self.head, self.image]
        sliders = [widget for one in upper for widget in one.widgets.values()]
        shown = [self.conversation, self.status, self.images, self.figures, self.image, *maps]
        shown += [*(one.chart for one in lower), *(one.chat for one in upper)]
        inputs = [self.conversation, self.box, self.model, self.chosen, self.longest, *where, *sliders]
        asked = self.box.submit(self._wait, None, [self.status, self.box], **AT_ONCE)
        asked = asked.then(self._ask, inputs, [*shown, self.box, self.stop, self.model, self.fresh], **DEVICE, **QUIET)
        asked.failure(self._refuse, None, [self.status, self.box], **AT_ONCE)
        self.stop.click(self._stop, self.conversation, self.stop, **AT_ONCE)
        self.fresh.click(self._clear, self.model, shown, **AT_ONCE)
        switched = self.model.change(lambda: self._wait()[0], None, self.status, **AT_ONCE)
        of_model = [self.layer, self.head, self.not_located, *sliders]
        switched.then(self._switch, self.model, [*shown, *of_model], **DEVICE, **QUIET)
        self.chosen.change(self._show, self.chosen, [one.whole for one in (*upper, *lower)], **AT_ONCE)
        drawing = {"trigger_mode": "always_last", "concurrency_limit": None, **QUIET}
        gr.on([one.input for one in where], self._maps, [self.conversation, *where], maps, **drawing)

    # --- what happens -----------------------------------------------------------------------------------------------

    def _wait(self) -> tuple:
        return status("waiting for the model: one answer at a time …", "busy"), gr.update(interactive=False)

    def _refuse(self) -> tuple:
        """What Gradio itself refuses, before it calls a handler."""
        said = "not asked: a value is outside its slider's range, or too many are waiting"
        return status(said, "error"), gr.update(interactive=True)

    def _ask(self, conversation, box, model, chosen, longest, layer, head, image, *values) -> Iterator[dict]:
        if conversation is None or conversation.model != model:
            conversation = Conversation(model)
        sent = iter(values)
        given = {name: {key: next(sent) for key in column.widgets} for name, column in self.upper.items()}
        methods = {name: given[name] for name in self.methods if name in (chosen or ())}
        known = len(conversation.images)
        idle = {one: gr.update(interactive=one is not self.stop) for one in (self.stop, self.model, self.fresh)}
        busy = {one: gr.update(interactive=one is self.stop) for one in (self.stop, self.model, self.fresh)}
        asked = False
        try:
            for text, name in self.session.ask(conversation, box["text"], box["files"], methods, longest):
                update = {self.status: status(text, "busy"), self.conversation: conversation, **busy}
                if name:
                    update |= self._answered(conversation, name, (layer, head, image))
                    if not asked:  # from here on the question belongs to the conversation
                        update |= {self.box: gr.update(value={"text": "", "files": []})}
                        update |= self._pictures(conversation) if len(conversation.images) > known else {}
                        asked = True
                yield update
            said = status("stopped; " * conversation.stopped + self._ready(model))
        except UserError as error:
            said = status(str(error), "error")
        except Exception as error:
            log.exception("the question failed")
            said = status(f"failed: {type(error).__name__}: {error}", "error")
        yield {**idle, self.status: said, self.conversation: conversation, self.box: gr.update(interactive=True)}

    def _answered(self, conversation: Conversation, name: str, where: tuple) -> dict:
        """A method's column; and, as soon as its answer is complete, what it kept."""
        found: dict = {self.upper[name].chat: conversation.messages(name)}
        if conversation.turns[name][-1].complete:
            found[self.lower[name].maps] = self._map(conversation, name, *where)
            found[self.lower[name].chart] = layers_chart(conversation.answers[name])
            found[self.figures] = conversation.figures
        return found

    def _pictures(self, conversation: Conversation) -> dict:
        shown = [(_thumbnail(one), f"image {number}") for number, one in enumerate(conversation.images, 1)]
        choices = [("all images", ALL), *((name, str(number)) for number, (_, name) in enumerate(shown))]
        return {self.images: gr.update(value=shown, visible=True), self.image: gr.update(choices=choices)}

    def _map(self, conversation: Conversation, name: str, layer: float, head: str, image: str) -> list:
        last = self.session.shape(conversation.model).num_layers - 1
        return token_maps(conversation, name, min(int(layer), last), head, image)

    def _maps(self, conversation, layer, head: str, image: str) -> list:
        if conversation is None:
            return [gr.skip()] * len(self.methods)
        return [self._map(conversation, name, layer, head, image) for name in self.methods]

    def _stop(self, conversation) -> dict:
        if conversation is not None:
            conversation.stopped = True
        return gr.update(interactive=False)

    def _clear(self, model: str) -> dict:
        return {**self._empty(), self.status: status(self._ready(model))}

    def _empty(self) -> dict:
        """The page without a conversation."""
        empty = {self.conversation: None, self.figures: [], self.images: gr.update(value=[], visible=False)}
        empty[self.image] = gr.update(choices=[("all images", ALL)], value=ALL)
        for upper, lower in zip(self.upper.values(), self.lower.values(), strict=True):
            empty |= {upper.chat: [], lower.chart: None, lower.maps: []}
        return empty

    def _switch(self, model: str) -> Iterator[dict]:
        """Another model: another conversation, other defaults."""
        yield {**self._empty(), self.status: status(f"loading {self.session.catalogue.title(model)} …", "busy")}
        try:
            shape = self.session.shape(model)
        except UserError as error:
            yield {self.status: status(str(error), "error")}
            return
        layers = shape.num_layers
        update = {
            self.status: status(self._ready(model)),
            self.layer: gr.update(maximum=layers - 1, value=layers // 2),
            self.head: gr.update(choices=_heads(shape.kv_heads), value=ALL),
            self.not_located: gr.update(visible=not shape.located),
        }
        for name, column in self.upper.items():
            start = self.session.start(model, name)
            for one in self.session.parameters[name]:
                depth = {"maximum": layers} if one.is_depth else {}
                update[column.widgets[one.name]] = gr.update(value=start[one.name], **depth)
        yield update

    def _show(self, chosen: list[str]) -> list:
        return [gr.update(visible=name in chosen) for name in self.methods] * 2

    def _ready(self, model: str) -> str:
        shape = self.session.shape(model)
        heads = f"{shape.kv_heads} KV head{'s' * (shape.kv_heads > 1)}"
        title = self.session.catalogue.title(model)
        return f"{title}: {shape.num_layers} layers, {heads}, {shape.dtype} on {shape.device}. Ready."


def _heads(kv_heads: int) -> list[tuple[str, str]]:
    return [("all heads", ALL), *((f"head {number}", str(number)) for number in range(kv_heads))]


def _thumbnail(image: Image) -> Image:
    small = image.copy()
    small.thumbnail((LONGEST, LONGEST))
    return small
