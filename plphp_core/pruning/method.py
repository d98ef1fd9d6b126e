"""What a pruning method is: two verbs, and a registry of names."""

import dataclasses
import functools
import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any, ClassVar

from torch import Tensor

from plphp_core.pruning.attention import vision_mass
from plphp_core.pruning.selection import Selection
from plphp_core.pruning.validation import require

METHOD_PACKAGES = "plphp.methods"  # entry-point group: packages or modules with methods


@dataclass(frozen=True, eq=False)
class LayerView:
    """One decoder layer right after its attention, in the prefill of a prompt with images.

    `tokens` are those still in the residual stream: the whole prompt unless the method withdrew some before.

    Attributes:
        layer: 0-based index.
        num_layers: decoder layers of the model.
        kv_heads: KV heads; query head h belongs to KV head h // (query_heads / kv_heads).
        image_of: `(batch, tokens)` long, index of the token's image in its sample; −1 for text and padding.
        valid: `(batch, tokens)` bool, False for padding and for filler where samples differ in length.
        image_sizes: S_j, tokens of each image, per sample, before any pruning.
        vision_counts: vision tokens still in the stream, per sample.
        row: computes `last_row`; a method that does not look at it does not pay for it.
        mean_row: call for the mean over all query rows, `(batch, query_heads, tokens)` fp32; needs `query_rows = None`.

    Whatever `query_rows` is, `last_row` and `vision_attention` are there; `mean_row` raises ValueError unless all rows
    were asked for. Hidden states, keys and values are not offered.
    """

    layer: int
    num_layers: int
    kv_heads: int
    image_of: Tensor
    valid: Tensor
    image_sizes: list[list[int]]
    vision_counts: tuple[int, ...]
    row: Callable[[], Tensor]
    mean_row: Callable[[], Tensor]

    @functools.cached_property
    def last_row(self) -> Tensor:
        """A_S: attention of the last prompt token, `(batch, query_heads, tokens)`, fp32."""
        return self.row()

    @functools.cached_property
    def vision_attention(self) -> Tensor:
        """γ of this layer (equation 8), `(batch,)`, fp32."""
        return vision_mass(self.last_row, self.vision)

    @property
    def scored(self) -> bool:
        """Whether anybody has looked at γ."""
        return "vision_attention" in vars(self)

    @property
    def vision(self) -> Tensor:
        """`(batch, tokens)` bool, True for the tokens of images."""
        return self.image_of >= 0


class Method:
    """A pruning method: a frozen dataclass whose fields are its hyper-parameters.

    Subclasses override one verb or both, and `check`. They hold no state: everything they need is in the view.

    Attributes:
        query_rows: rows of the query, counted from the end, that are kept for the view: 1, the last one, serves
            `last_row` and `vision_attention`; None, all of them, serves `mean_row` too and holds the whole projection.
        evicts_text: whether selections may leave out text; otherwise a selection without it is refused.
    """

    name: ClassVar[str]
    evicts_text: ClassVar[bool] = False

    @property
    def query_rows(self) -> int | None:
        return 1

    def check(self, num_layers: int) -> None:
        """Raise ValueError if the parameters do not fit a model with `num_layers` decoder layers."""

    def withdraw(self, layer: int, previous: LayerView) -> Selection | None:
        """Tokens that go on to `layer` and all later ones, decided from the layer before it; None: all of them."""

    def compress(self, layer: int, view: LayerView) -> Selection | None:
        """Cache slots that `layer` keeps, per KV head; None: all of them."""

    @property
    def withdraws(self) -> bool:
        """Whether the method takes tokens out of the residual stream."""
        return type(self).withdraw is not Method.withdraw

    def params(self) -> dict[str, Any]:
        """Hyper-parameters by name, defaults included; 0 for a float is 0.0, so that equal methods have equal ones."""
        found = dataclasses.asdict(self)  # type: ignore[call-overload]  # every method is a dataclass
        for parameter in dataclasses.fields(self):  # type: ignore[arg-type]
            value = found[parameter.name]
            if parameter.type in (float, "float") and isinstance(value, int) and not isinstance(value, bool):
                found[parameter.name] = float(value)
        return found


@functools.cache
def _registry() -> tuple[dict[str, type[Method]], dict[str, BaseException]]:
    """Methods by name, and by theirs the modules without a usable one: what is wrong with a module costs no other."""
    found = _methods_of(importlib.import_module("plphp_core.pruning.plphp"), {})
    modules, broken = _imported()
    for name, module in modules.items():
        try:
            found |= _methods_of(module, found)
        except Exception as error:  # whatever a method's own code raises
            broken[name] = error
    return found, broken


def _imported() -> tuple[dict[str, ModuleType], dict[str, BaseException]]:
    """What the entry points name, modules and packages with the modules in them; and what cannot be imported."""
    found: dict[str, ModuleType] = {}
    broken: dict[str, BaseException] = {}

    def read(name: str) -> None:
        try:
            found[name] = importlib.import_module(name)
        except (Exception, SystemExit) as error:  # whatever a file does that somebody is working on
            broken[name] = error

    for package in {point.module: None for point in entry_points(group=METHOD_PACKAGES)}:
        read(package)
        for inside in pkgutil.iter_modules(getattr(found.get(package), "__path__", ())):
            if inside.name != "__main__":  # a program, not a part
                read(f"{package}.{inside.name}")
    return found, broken


def _methods_of(module: ModuleType, known: dict[str, type[Method]]) -> dict[str, type[Method]]:
    """The methods that a module defines.

    Raises:
        ValueError: one cannot be named or made; or whatever making it with its defaults raises.
    """
    found: dict[str, type[Method]] = {}
    for cls in _classes_of(module):
        name = getattr(cls, "name", None)
        if name is None:
            require(bool(cls.__subclasses__()), f"{cls.__name__} has no name")
            continue  # what several methods share
        fits = isinstance(name, str) and name.isidentifier() and name != "none"
        require(fits, f"{cls.__name__}.name = {name!r}, but must be letters, digits and _, and not 'none'")
        owner = known.get(name) or found.get(name)
        require(owner is None, f"{cls.__name__}.name = {name!r}, but that is {owner and owner.__module__}'s")
        require(dataclasses.is_dataclass(cls), f"{cls.__name__} is no dataclass")
        cls()  # every parameter has a default: what runs, tables and the demo start with
        found[name] = cls
    return found


def _classes_of(module: ModuleType) -> list[type[Method]]:
    classes = {value for value in vars(module).values() if isinstance(value, type) and issubclass(value, Method)}
    return sorted((cls for cls in classes if cls.__module__ == module.__name__), key=lambda cls: cls.__qualname__)


def method_names() -> list[str]:
    """`"none"` and every method of `plphp_core` and of the packages in the entry-point group `plphp.methods`."""
    return ["none", *sorted(_registry()[0])]


def method_label(name: str) -> str:
    """How tables call a method: its class's `label` or name; an unknown one by the name that it was run under."""
    if name == "none":
        return "Uncompressed"
    cls = _registry()[0].get(name)
    return name if cls is None else getattr(cls, "label", cls.__name__)


def broken_modules() -> dict[str, str]:
    """Modules of that group whose methods cannot be had, and why in a line."""
    return {name: f"{type(error).__name__}: {' '.join(str(error).split())}" for name, error in _registry()[1].items()}


def not_loaded() -> str:
    """What to add where a method's name is not known: the modules that may have brought it; empty without any."""
    listed = ", ".join(f"{name} ({reason})" for name, reason in broken_modules().items())
    return listed and f"; not loaded: {listed}"


def make_method(name: str, **params: Any) -> Method | None:
    """The method called `name` with these hyper-parameters; None for `"none"`.

    Raises:
        ValueError: unknown name or parameter (the message lists the known ones), or a value the method refuses.
    """
    require(name in method_names(), f"unknown method {name!r}; known: {', '.join(method_names())}{not_loaded()}")
    if name == "none":
        require(not params, f"method 'none' takes no parameters, got {', '.join(params)}")
        return None
    cls = _registry()[0][name]
    known = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    unknown = sorted(set(params) - set(known))
    require(not unknown, f"method {name!r} has no parameter {', '.join(unknown)}; known: {', '.join(known)}")
    return cls(**params)
