"""A method's hyper-parameters as widgets: one per field of its dataclass, so that a new method brings its own."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import gradio as gr
from pydantic import TypeAdapter, ValidationError

from plphp_core.config.table_rows import SYMBOLS
from plphp_core.pruning.method import Method, make_method


@dataclass(frozen=True)
class Parameter:
    """One hyper-parameter: a field of a method's dataclass, with its annotation and its own default."""

    name: str
    annotation: Any
    default: Any

    @property
    def label(self) -> str:
        """As the papers write it."""
        return SYMBOLS.get(self.name, self.name)

    @property
    def is_depth(self) -> bool:
        """K is the papers' letter for a number of layers (`plphp_core.pruning.method.depth`)."""
        return self.name == "K" and self.annotation is int

    def widget(self, value: Any, num_layers: int) -> gr.components.Component:
        """A choice, slider or field with `value`."""
        if typing.get_origin(self.annotation) is Literal:
            return gr.Radio(list(typing.get_args(self.annotation)), value=value, label=self.label)
        if self.annotation is bool:
            return gr.Checkbox(value=value, label=self.label)
        if self.is_depth:
            return gr.Slider(
                min(1, self.default), num_layers, value, step=1, label=f"{self.label} (layers with every vision token)"
            )
        if self.annotation is float and 0 <= self.default <= 1:
            return gr.Slider(0, 1, value, step=0.01, label=self.label)
        # A number without `precision`, which rounds in silence.
        return (gr.Number if self.annotation in (int, float) else gr.Textbox)(value=value, label=self.label)


def typed(label: str, annotation: Any, value: Any) -> Any:
    """`value`, as a browser sends it, in its own type: 3.0 is a whole number, 2.5 is not, an empty field is nothing.

    Raises:
        ValueError: with `label`, the value and what is wrong with it.
    """
    try:
        return TypeAdapter(annotation).validate_python(value)
    except ValidationError as error:
        raise ValueError(f"{label} = {value}: {error.errors()[0]['msg']}") from error


def parameters_of(method: str) -> list[Parameter]:
    """The parameters of a method, in its dataclass's order; none for "none"."""
    made = make_method(method)
    types = typing.get_type_hints(type(made))
    fields = dataclasses.fields(made) if made is not None else ()  # type: ignore[arg-type]  # every method is one
    return [Parameter(one.name, types[one.name], getattr(made, one.name)) for one in fields]


def build(method: str, values: Mapping[str, Any], num_layers: int) -> Method | None:
    """The method with these values, as a browser sends them, checked against a model of `num_layers` layers.

    Raises:
        ValueError: in the method's own words.
    """
    types = {one.name: one for one in parameters_of(method)}
    params = {name: typed(types[name].label, types[name].annotation, value) for name, value in values.items()}
    try:
        made = make_method(method, **params)
        if made is not None:
            made.check(num_layers)
    except TypeError as error:
        raise ValueError(str(error)) from error
    return made


def setting_of(method: Method | None) -> str:
    """The parameters in one line: `r=0.4, Δr=0.3, …`."""
    params = method.params() if method is not None else {}
    shown = {name: f"{value:g}" if isinstance(value, float) else value for name, value in params.items()}
    return ", ".join(f"{SYMBOLS.get(name, name)}={value}" for name, value in shown.items())
