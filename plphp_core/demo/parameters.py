"""A method's hyper-parameters as widgets: one per field of its dataclass, so that a new method brings its own."""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import gradio as gr

from plphp_core.config.run_settings import SYMBOLS
from plphp_core.pruning.method import Method, make_method


@dataclass(frozen=True)
class Parameter:
    """One hyper-parameter.

    Attributes:
        kind: "share": a number in [0, 1]; "depth": K, a number of layers, from 1 to the model's; "whole" and "number":
            any; "choice": one of `choices`.
        default: the dataclass's own.
    """

    name: str
    kind: Literal["share", "depth", "whole", "number", "choice", "flag", "text"]
    default: Any
    choices: tuple = ()

    @property
    def label(self) -> str:
        """As the papers write it."""
        return SYMBOLS.get(self.name, self.name)

    def typed(self, value: Any) -> Any:
        """`value`, as a browser sends it, in the parameter's own type.

        Raises:
            ValueError: no number, or not a whole one where that is needed.
        """
        if self.kind in ("choice", "flag", "text"):
            return value
        return whole(self.label, value) if self.kind in ("depth", "whole") else number(self.label, value)

    def within(self, value: Any, num_layers: int) -> Any:
        """`value`; a depth no larger than the model."""
        return min(value, num_layers) if self.kind == "depth" else value

    def widget(self, value: Any, num_layers: int) -> gr.components.Component:
        """A slider, choice or number."""
        if self.kind == "share":
            return gr.Slider(0, 1, value=value, step=0.01, label=self.label)
        if self.kind == "depth":
            return gr.Slider(1, num_layers, value=value, step=1, label=f"{self.label} (layers with every vision token)")
        if self.kind == "choice":
            return gr.Radio(list(self.choices), value=value, label=self.label)
        if self.kind == "flag":
            return gr.Checkbox(value=value, label=self.label)
        # A number without `precision`, which rounds in silence.
        return (gr.Textbox if self.kind == "text" else gr.Number)(value=value, label=self.label)


def number(label: str, value: Any) -> float:
    """What a browser sends of a number's field, which may be empty. Raises ValueError naming `label`."""
    if value is None or value == "":
        raise ValueError(f"{label} is empty; give a number")
    return float(value)


def whole(label: str, value: Any) -> int:
    """The same for a whole number: nothing is rounded in silence."""
    if not number(label, value).is_integer():
        raise ValueError(f"{label} = {value:g}, but must be a whole number")
    return int(value)


def parameters_of(method: str) -> list[Parameter]:
    """The parameters of a method, in its dataclass's order; none for "none"."""
    made = make_method(method)
    types = typing.get_type_hints(type(made))
    fields = dataclasses.fields(made) if made is not None else ()
    return [_parameter(one.name, types[one.name], getattr(made, one.name)) for one in fields]


def build(method: str, values: Mapping[str, Any], num_layers: int) -> Method | None:
    """The method with these values, as a browser sends them, checked against a model of `num_layers` layers.

    Raises:
        ValueError: in the method's own words, with its parameters called what their widgets are called.
    """
    known = {one.name: one for one in parameters_of(method)}
    typed = {name: known[name].typed(value) for name, value in values.items()}
    try:
        made = make_method(method, **typed)
        if made is not None:
            made.check(num_layers)
    except (ValueError, TypeError) as error:
        names = "|".join(map(re.escape, known))
        raise ValueError(re.sub(rf"\b({names})\b", lambda found: known[found[0]].label, str(error))) from error
    return made


def setting_of(method: Method | None) -> str:
    """The parameters in one line: `r=0.4, Δr=0.3, …`."""
    params = method.params() if method is not None else {}
    shown = {name: f"{value:g}" if isinstance(value, float) else value for name, value in params.items()}
    return ", ".join(f"{SYMBOLS.get(name, name)}={value}" for name, value in shown.items())


def _parameter(name: str, kind: Any, default: Any) -> Parameter:
    if typing.get_origin(kind) is Literal:
        return Parameter(name, "choice", default, typing.get_args(kind))
    if kind is int:  # K is the papers' letter for a number of layers (`plphp_core.pruning.method.depth`)
        return Parameter(name, "depth" if name == "K" else "whole", default)
    if kind is float:
        return Parameter(name, "share" if 0 <= default <= 1 else "number", default)
    return Parameter(name, "flag" if kind is bool else "text", default)
