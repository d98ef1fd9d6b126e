"""Gradio's widgets for what can be set of a method."""

from __future__ import annotations

from typing import Any

import gradio as gr

from plphp_core.demo.parameters import Parameter


def widget(parameter: Parameter, value: Any, num_layers: int) -> gr.components.Component:
    """A slider, choice or number for one parameter."""
    label = parameter.label
    if parameter.kind == "share":
        return gr.Slider(0, 1, value=value, step=0.01, label=label)
    if parameter.kind == "depth":
        return gr.Slider(1, num_layers, value=value, step=1, label=f"{label} (layers that see every vision token)")
    if parameter.kind == "choice":
        return gr.Radio(list(parameter.choices), value=value, label=label)
    if parameter.kind == "flag":
        return gr.Checkbox(value=value, label=label)
    if parameter.kind == "text":
        return gr.Textbox(value=value, label=label)
    return gr.Number(value=value, label=label)  # without `precision`, which rounds in silence


def changed(parameter: Parameter, value: Any, num_layers: int) -> dict:
    """The update of a parameter's widget for another model."""
    return gr.update(value=value, maximum=num_layers) if parameter.kind == "depth" else gr.update(value=value)
