"""What can be set of a method: one entry per field of its dataclass, so that a new method brings its own."""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from plphp_core.config.run_settings import SYMBOLS
from plphp_core.pruning.method import Method, make_method

Kind = Literal["share", "depth", "whole", "number", "choice", "flag", "text"]


@dataclass(frozen=True)
class Parameter:
    """One hyper-parameter.

    Attributes:
        kind: "share": a number in [0, 1]; "depth": K, a number of layers, from 1 to the model's; "whole" and "number":
            any; "choice": one of `choices`.
        default: the dataclass's own.
    """

    method: str
    name: str
    kind: Kind
    default: Any
    choices: tuple = ()

    @property
    def label(self) -> str:
        """As the papers write it."""
        return SYMBOLS.get(self.name, self.name)

    def typed(self, value: Any) -> Any:
        """`value`, as a page sends it, in the parameter's own type.

        Raises:
            ValueError: no number, or not a whole one where that is needed.
        """
        if self.kind in ("depth", "whole"):
            return whole(self.label, value)
        kinds = {"share": partial(number, self.label), "number": partial(number, self.label), "flag": bool}
        return kinds.get(self.kind, lambda same: same)(value)

    def within(self, value: Any, num_layers: int) -> Any:
        """`value` in the parameter's own type; a depth no larger than the model."""
        return min(int(value), num_layers) if self.kind == "depth" else self.typed(value)


def number(label: str, value: Any) -> float:
    """What a page sends of a number's field; the field may be empty. Raises ValueError naming `label`."""
    if value is None or value == "":
        raise ValueError(f"{label} is empty; give a number")
    return float(value)


def whole(label: str, value: Any) -> int:
    """The same for a whole number: nothing is rounded in silence."""
    if not number(label, value).is_integer():
        raise ValueError(f"{label} = {value:g}, but must be a whole number")
    return int(value)


def in_symbols(message: str, method: str) -> str:
    """A method's message with its parameters called what their sliders are called: Δr for `delta_r`."""
    labels = {one.name: one.label for one in parameters_of(method) if one.label != one.name}
    names = "|".join(map(re.escape, labels))
    return re.sub(rf"\b({names})\b", lambda found: labels[found[0]], message) if labels else message


def parameters_of(method: str) -> list[Parameter]:
    """The parameters of a method, in its dataclass's order; none for "none"."""
    made = make_method(method)
    if made is None:
        return []
    types = typing.get_type_hints(type(made))
    return [
        _parameter(method, field, types[field.name], getattr(made, field.name)) for field in dataclasses.fields(made)
    ]


def build(method: str, values: Mapping[str, Any], num_layers: int) -> Method | None:
    """The method with these values, checked against a model of `num_layers` layers.

    Raises:
        ValueError: the method's own message.
    """
    made = make_method(method, **values)
    if made is not None:
        made.check(num_layers)
    return made


def _parameter(method: str, field: dataclasses.Field, kind: Any, default: Any) -> Parameter:
    if typing.get_origin(kind) is Literal:
        return Parameter(method, field.name, "choice", default, typing.get_args(kind))
    if kind is bool:
        return Parameter(method, field.name, "flag", default)
    if kind is int:  # K is the papers' letter for a number of layers (`plphp_core.pruning.method.depth`)
        return Parameter(method, field.name, "depth" if field.name == "K" else "whole", default)
    if kind is float:
        return Parameter(method, field.name, "share" if 0 <= default <= 1 else "number", default)
    return Parameter(method, field.name, "text", default)
