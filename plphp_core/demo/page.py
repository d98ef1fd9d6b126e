"""The page's own HTML. Everything that a person or a model wrote is escaped here and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from plphp_core.demo.charts import layers_chart
from plphp_core.demo.conversation import Turn
from plphp_core.demo.maps import data_uri, thumbnail
from plphp_core.reporting.figures import drawing

THUMBNAIL = 44  # pixels high
# Gradio's own label of the box stands beside the textarea, without belonging to it.
NAME_QUESTION = "() => document.querySelector('#question textarea').setAttribute('aria-label', 'Question')"
LOST = "This turn is not part of this column's conversation; ask again."
LOST_IMAGES = "This turn and its images are not part of this column's conversation; ask again with them."


def header(title: str, note: str) -> str:
    """The head of the page."""
    return f'<div class="top"><h1>{escape(title)}</h1><p>{escape(note)}</p></div>'


def section(title: str) -> str:
    """The head of a part of the page."""
    return f'<h2 class="section">{escape(title)}</h2>'


def status(text: str, kind: str = "ready") -> str:
    """What is going on: kind "ready", "busy" or "error"."""
    role = "alert" if kind == "error" else "status"
    return f'<div class="state {kind}" role="{role}">{escape(text)}</div>'


def column_head(title: str, method: str, methods: Sequence[str]) -> str:
    """The head of a method's column, in the method's colour."""
    colour = "var(--body-text-color)" if method == "none" else drawing.colour(method, methods)
    return f'<div class="column-head" style="--accent: {colour}">{escape(title)}</div>'


def thread(turns: Sequence[Turn], method: str, methods: Sequence[str]) -> str:
    """A column: questions, answers, and the figures of each answer."""
    if not turns:
        return '<div class="thread empty">nothing asked yet</div>'
    return f'<div class="thread">{"".join(_turn(turn, method, methods) for turn in turns)}</div>'


def _turn(turn: Turn, method: str, methods: Sequence[str]) -> str:
    if turn.html:
        return turn.html
    pictures = "".join(
        f'<img src="{data_uri(thumbnail(image, THUMBNAIL))}" height="{THUMBNAIL}" alt="image {number}">'
        for number, image in enumerate(turn.images, 1)
    )
    asked = f'<div class="asked">{pictures and f"<div>{pictures}</div>"}{escape(turn.question)}</div>'
    if turn.error is not None:
        lost = f'<div class="lost">{escape(LOST_IMAGES if turn.images else LOST)}</div>'
        turn.html = f'{asked}<div class="refused" role="alert">{escape(turn.error)}{lost}</div>'
    elif turn.answer is not None:
        stopped = ' <span class="aside">stopped</span>' if turn.stopped else ""
        said = escape(turn.text) or '<span class="aside">empty answer</span>'
        turn.html = f'{asked}<div class="said">{said}{stopped}</div>{_figures(turn)}{_chart(turn, method, methods)}'
    return turn.html or f'{asked}<div class="said writing">{escape(turn.text)}</div>'


def _figures(turn: Turn) -> str:
    answer = turn.answer
    saved = 1 - answer.kv_bytes / answer.kv_bytes_full
    vision = sum(map(len, answer.images))
    kept = f"{sum(answer.retention) / len(answer.retention):.0%} of {vision}" if vision else "no image"
    pace = f"{answer.decode_ms / answer.decode_steps:.1f} ms" if answer.decode_steps else "n/a"
    entries = [
        ("setting", turn.setting or "nothing pruned" * (turn.method is None) or "–"),
        ("first token", f"{answer.prefill_ms:.0f} ms"),
        ("each further token", f"{pace} ({answer.new_tokens} tokens)"),
        (
            "KV cache",
            f"{size(answer.kv_bytes)} of {size(answer.kv_bytes_full)}" + (f" (−{saved:.0%})" if saved else ""),
        ),
        ("vision tokens kept", kept),
    ]
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in entries)
    return f'<dl class="figures">{rows}</dl>'


def _chart(turn: Turn, method: str, methods: Sequence[str]) -> str:
    answer = turn.answer
    if not answer.images:
        return ""
    params = turn.method.params() if turn.method is not None else {}
    chart = layers_chart(method, methods, answer.retention, answer.vision_attention, params)
    values = ", ".join(f"{value:.0%}" for value in answer.retention)
    return (
        f'<figure class="layers"><img src="{chart}" alt="kept share of the vision tokens, layer by layer: {values}">'
        "<figcaption>bars: share of the vision tokens kept; dots: γ</figcaption></figure>"
    )


def size(nbytes: float) -> str:
    """Bytes in a unit that people read."""
    for unit in ("B", "KiB", "MiB"):
        if nbytes < 1024:
            return f"{nbytes:.3g} {unit}" if unit != "B" else f"{nbytes:.0f} B"
        nbytes /= 1024
    return f"{nbytes:.3g} GiB"
