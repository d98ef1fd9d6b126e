"""The page in Gradio: what is where and what happens on a click."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from types import SimpleNamespace

import gradio as gr
from PIL.Image import Image

from plphp_core.demo.conversation import FIGURES, Conversation
from plphp_core.demo.demo_session import DemoSession
from plphp_core.demo.demo_settings import VERBS, method_title, verb_of
from plphp_core.demo.token_maps import ALL, LONGEST, token_maps
from plphp_core.demo.uploads import sorted_out
from plphp_core.records.errors import UserError

log = logging.getLogger("plphp.demo")
TITLE = "PLPHP beside its rivals"
NOTE = (
    "Ask about images; every ticked method answers the same question with the same model, one after the other, "
    "greedily. Words that the answer without pruning does not have are marked. Times are those of this page, not a "
    "benchmark."
)
TOY = " The models of this profile are small toys, trained on drawn scenes only: try the examples."
KEPT = (
    "### Vision tokens that each layer keeps, in the latest answer\nWhat a layer drops is grey and striped; a frame is "
    "around tokens that others were merged into."
)
NOT_LOCATED = (
    " This model's vision tokens have no place of their own on the image: stripes are the stronger, the fewer are "
    "left of those that see a part."
)
DEVICE = {"concurrency_id": "device", "concurrency_limit": 1}  # whoever needs the model waits in one queue
QUIET = {"show_progress": "hidden", "api_visibility": "private"}
AT_ONCE = {"queue": False, **QUIET}  # even while another tab has the model

CHAT = {"height": 300, "render_markdown": False, "buttons": [], "placeholder": "nothing asked yet", "show_label": False}
TABLE = {"interactive": False, "max_height": 500, "buttons": [], "show_label": False, "wrap": True}
TABLE |= {"column_widths": [55, 105, 275, 105, 125, 115, 205, 150]}
GALLERY = {"object_fit": "contain", "interactive": False, "format": "png", "show_label": False, "buttons": []}
GALLERY |= {"fit_columns": False}


class DemoPage:
    """Widgets and their handlers.

    Attributes:
        blocks: what Gradio serves.
        columns: by method, its widgets: the whole column, its answers, its parameters and its maps of kept tokens.
    """

    def __init__(self, session: DemoSession, examples: Mapping[str, dict], toy: bool):
        self.session, self.methods, family = session, list(session.parameters), session.loaded.family
        self.ticked = session.ticked
        heads = [("all heads", ALL), *((f"head {number}", str(number)) for number in range(session.kv_heads))]
        dtype = str(session.loaded.dtype).removeprefix("torch.")
        self.ready = f"{family.title}: {session.num_layers} layers, {dtype} on {session.loaded.device}. Ready."
        with gr.Blocks(title=TITLE, analytics_enabled=False, fill_width=True) as self.blocks:
            self.conversation = gr.State()
            gr.Markdown(f"# {TITLE}\n{NOTE}{TOY * toy}")
            with gr.Row():
                self.chosen = [self._boxes(verb) for verb in VERBS if any(verb_of(one) == verb for one in self.methods)]
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
            self.status = gr.Textbox(self.ready, show_label=False, interactive=False, max_lines=4, elem_id="status")
            with gr.Row():
                self.stop = gr.Button("Stop", variant="stop", size="sm", interactive=False, elem_id="stop")
                self.again = gr.Button("Ask again with these values", size="sm", interactive=False, elem_id="again")
                self.fresh = gr.Button("New conversation", size="sm", elem_id="new")
            self.images = gr.Gallery(visible=False, columns=8, height=200, elem_id="images", **GALLERY)
            with gr.Row(equal_height=False):
                self.columns = {name: self._answers(name) for name in self.methods}
            self.figures = gr.Dataframe(headers=list(FIGURES), elem_id="figures", **TABLE)
            gr.Markdown(KEPT + NOT_LOCATED * (not family.located), elem_id="kept")
            with gr.Row():
                last, middle = session.num_layers - 1, session.num_layers // 2
                self.layer = gr.Slider(0, last, middle, step=1, label="Layer (from 0)", scale=3, min_width=220)
                self.head = gr.Dropdown(heads, value=ALL, label="KV head", min_width=140)
            with gr.Row(equal_height=False):
                for name, column in self.columns.items():
                    with gr.Column(min_width=270, visible=name in self.ticked) as column.below:
                        gr.Markdown(f"### {method_title(name)}")
                        column.maps = gr.Gallery(elem_id=f"maps-{name}", columns=2, height=260, **GALLERY)
            self._events()

    def _boxes(self, verb: str) -> gr.CheckboxGroup:
        """The methods with this verb."""
        names = [name for name in self.methods if verb_of(name) == verb]
        value = [name for name in names if name in self.ticked]
        choices = [(method_title(name), name) for name in names]
        return gr.CheckboxGroup(choices, value=value, label=VERBS[verb], min_width=200)

    def _answers(self, name: str) -> SimpleNamespace:
        start, parameters = self.session.start[name], self.session.parameters[name]
        with gr.Column(min_width=270, elem_id=f"column-{name}", visible=name in self.ticked) as whole:
            gr.Markdown(f"### {method_title(name)}")
            chat = gr.Chatbot(elem_id=f"answers-{name}", **CHAT)
            with gr.Accordion("Parameters" if parameters else "No parameters", open=False):
                widgets = {one.name: one.widget(start[one.name], self.session.num_layers) for one in parameters}
        return SimpleNamespace(whole=whole, chat=chat, widgets=widgets)

    def _events(self) -> None:
        columns, where = self.columns.values(), [self.layer, self.head]
        maps, wholes = [one.maps for one in columns], [place for one in columns for place in (one.whole, one.below)]
        sliders = [widget for one in columns for widget in one.widgets.values()]
        shown = [self.conversation, self.status, self.images, self.figures, *maps, *(one.chat for one in columns)]
        inputs = [self.conversation, self.box, self.longest, *where, *self.chosen, *sliders]
        changed = [*shown, self.box, self.stop, self.fresh, self.again]
        asked = self.box.submit(self._wait, None, [self.status, self.box], **AT_ONCE)
        asked = asked.then(self._ask, inputs, changed, **DEVICE, **QUIET)
        asked.failure(self._refuse, None, [self.status, self.box], **AT_ONCE)
        once_more = self.again.click(self._wait, None, [self.status, self.box], **AT_ONCE)
        once_more = once_more.then(self._ask_again, inputs, changed, **DEVICE, **QUIET)
        once_more.failure(self._refuse, None, [self.status, self.box], **AT_ONCE)
        self.stop.click(self._stop, self.conversation, self.stop, **AT_ONCE)
        self.fresh.click(self._empty, None, [*shown, self.again], **AT_ONCE)
        # A chat's own button to empty it begins a new conversation, too: the model must know.
        gr.on([one.chat.clear for one in columns], self._empty, None, [*shown, self.again], **AT_ONCE)
        gr.on([one.change for one in self.chosen], self._show, self.chosen, wholes, **AT_ONCE)
        drawing = {"trigger_mode": "always_last", "concurrency_limit": None, **QUIET}
        gr.on([one.input for one in where], self._maps, [self.conversation, *where], maps, **drawing)

    # --- what happens -----------------------------------------------------------------------------------------------

    def _wait(self) -> tuple:
        return "waiting for the model: one answer at a time …", gr.update(interactive=False)

    def _refuse(self) -> tuple:
        """What Gradio itself refuses, before it calls a handler."""
        said = "Not asked: a value is outside its slider's range, or too many are waiting"
        return said, gr.update(interactive=True)

    def _ask(self, conversation, box, longest, layer, head, *values) -> Iterator[dict]:
        yield from self._answer(conversation or Conversation(), box, longest, layer, head, values, again=False)

    def _ask_again(self, conversation, box, longest, layer, head, *values) -> Iterator[dict]:
        yield from self._answer(conversation or Conversation(), box, longest, layer, head, values, again=True)

    def _answer(self, conversation, box, longest, layer, head, values, again: bool) -> Iterator[dict]:
        chosen = {name for some in values[: len(self.chosen)] for name in some or ()}
        sent = iter(values[len(self.chosen) :])
        given = {name: {key: next(sent) for key in column.widgets} for name, column in self.columns.items()}
        methods = {name: given[name] for name in self.methods if name in chosen}
        waits = gr.update(interactive=False)
        busy = {self.stop: gr.update(interactive=True), self.fresh: waits, self.again: waits}
        begun, kept = again, gr.update(interactive=True)  # the box
        try:
            if again:
                running = self.session.ask_again(conversation, methods, longest)
            else:
                running = self.session.ask(conversation, box["text"], box["files"], methods, longest)
            for text, name in running:
                column, update = self.columns[name], {self.status: text, self.conversation: conversation, **busy}
                update[column.chat] = conversation.messages(name)
                if conversation.turns[name][-1].complete:
                    update[column.maps] = token_maps(conversation, name, int(layer), head)
                    update[self.figures] = conversation.figures
                if not begun:  # from here on the question belongs to the conversation
                    begun, shown = (
                        True,
                        [(_thumbnail(one), f"image {n}") for n, one in enumerate(conversation.images, 1)],
                    )
                    update[self.box] = gr.update(value={"text": "", "files": []})
                    update[self.images] = gr.update(value=shown, visible=bool(shown))
                yield update
            said = "".join(f"left out: {one}; " for one in conversation.left_out)
            said += "stopped; " * conversation.stopped + self.ready
        except UserError as error:
            said = f"Not asked: {error}"
            kept = gr.update(interactive=True, value=box | {"files": _usable(box["files"])})
        except Exception as error:
            log.exception("the question failed")
            said = f"Failed: {type(error).__name__}: {error}"
        ready = gr.update(interactive=conversation.latest is not None)
        idle = {self.stop: gr.update(interactive=False), self.fresh: gr.update(interactive=True), self.again: ready}
        yield {**idle, self.status: said, self.conversation: conversation, self.box: kept}

    def _maps(self, conversation, layer, head: str) -> list:
        if conversation is None:
            return [gr.skip()] * len(self.methods)
        return [token_maps(conversation, name, int(layer), head) for name in self.methods]

    def _stop(self, conversation) -> dict:
        if conversation is not None:
            conversation.stopped = True
        return gr.update(interactive=False)

    def _empty(self) -> dict:
        """The page without a conversation."""
        empty: dict = {self.conversation: None, self.status: self.ready, self.figures: []}
        empty[self.images] = gr.update(value=[], visible=False)
        empty[self.again] = gr.update(interactive=False)
        return empty | {place: [] for one in self.columns.values() for place in (one.chat, one.maps)}

    def _show(self, *some: list[str]) -> list:
        chosen = {name for names in some for name in names}
        return [gr.update(visible=name in chosen) for name in self.methods for _ in ("answers", "maps")]


def _usable(files: list) -> list:
    """The files that are images; none is taken away where there are only too many."""
    try:
        refused = sorted_out(files)[1]
    except UserError:
        return files
    return [one for one in files if str(one) not in refused]


def _thumbnail(image: Image) -> Image:
    small = image.copy()
    small.thumbnail((LONGEST, LONGEST))
    return small
