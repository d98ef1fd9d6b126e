"""How the page looks: neutral colours, the visitor's own fonts, and CSS for what Gradio has no option for."""

from __future__ import annotations

from html import escape

import gradio as gr

# Captions stand whole under their pictures; a chat has no button that empties it without the model's knowledge.
CSS = """
.gradio-container { max-width: 1600px !important; --body-text-color-subdued: #55606f; }
.dark .gradio-container, .gradio-container.dark { --body-text-color-subdued: #a9b4c4; }
.status { padding: .45rem .75rem; border-radius: 6px; border: 1px solid var(--border-color-primary); font-size: .9rem;
  background: var(--background-fill-secondary); overflow-wrap: anywhere; }
.status.busy { border-color: #0072B2; }
.status.error { border-color: #c2410c; background: #c2410c1a; }
[id^=answers-] .icon-button-wrapper { display: none; }
.html-container { padding: 0 !important; }
.grid-wrap { min-height: 0 !important; max-height: none !important; }
.gallery-container:has(.preview) { min-height: 24rem; }
.grid-container .thumbnail-item { aspect-ratio: auto !important; height: auto !important; background: none !important; }
.grid-container .thumbnail-item img { height: auto !important; }
.grid-container .caption-label { position: static !important; max-width: none !important; white-space: normal;
  overflow: visible; border: 0; background: none; }
"""


def theme() -> gr.themes.Base:
    """No font is fetched."""
    fonts, mono = ("ui-sans-serif", "system-ui", "sans-serif"), ("ui-monospace", "Consolas", "monospace")
    return gr.themes.Default(primary_hue="blue", neutral_hue="slate", font=fonts, font_mono=mono)


def status(text: str, kind: str = "ready") -> str:
    """HTML of what is going on, read out by screen readers; kind "ready", "busy" or "error"."""
    return f'<div class="status {kind}" role="{"alert" if kind == "error" else "status"}">{escape(text)}</div>'
