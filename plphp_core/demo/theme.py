"""How the page looks, and what it says by itself."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

TITLE = "PLPHP beside its rivals"
NOTE = (
    "Ask about images; every ticked method answers the same question with the same model, one after the other, "
    "greedily. Times are those of this page, not a benchmark."
)
TOY = " The models of this profile are small toys, trained on drawn scenes only: try the examples."
KEPT = "Vision tokens that a layer keeps, in the latest answer; dropped ones in the dark"
CSS = Path(__file__).with_name("page.css")
FONTS = ("ui-sans-serif", "system-ui", "sans-serif")  # the visitor's own: nothing is fetched


def theme() -> gr.themes.Base:
    """Neutral colours, system fonts."""
    return gr.themes.Default(
        primary_hue="blue", neutral_hue="slate", font=FONTS, font_mono=("ui-monospace", "Consolas", "monospace")
    )
