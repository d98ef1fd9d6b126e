"""What a pruning method is: its verbs, and a registry of names."""

import dataclasses
import functools
import importlib
import pkgutil
from collections.abc import Sequence
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any, ClassVar

from plphp_core.pruning.encode_view import EncodeView
from plphp_core.pruning.selection import Selection
from plphp_core.pruning.tower import Tower, TowerLayer
from plphp_core.pruning.validation import require
from plphp_core.pruning.view import EntryView, LayerView, QueryRows

METHOD_PACKAGES = "plphp.methods"  # entry-point group: packages or modules with methods


class Method:
    """A pruning method: a frozen dataclass whose fields are its hyper-parameters.

    Subclasses override a verb (`encode`; `withdraw`; `compress`, or `allocate` where what a layer keeps depends on the
    others), and `check`. They hold no state: everything they need is in the view.

    Attributes:
        query_rows: rows of the query, counted from the end, that are kept for the view: 1, the last one, serves
            `last_row` and `vision_attention`; more serve `column_sum` and `row_density` over so many; `"post_vision"`:
            those behind the last image; None: all of them, which holds the layer's whole projection.
        tower_layer: the layer of the vision tower that `encode` reads: `"features"`, the one whose output the projector
            is given, or `"behind"`, the one behind it, if any; None: it looks at the decoder's side alone.
        reads_embeddings: whether `withdraw` reads the prompt's embeddings, which are held for it then.
        evicts_text: whether selections may leave out text; otherwise a selection without it is refused.
        positions: of a method that withdraws and has this parameter, `"keep"`: a token that stays keeps its position;
            `"compact"`: positions are counted anew, in the prefill and after it.
        checkpoints: folders or hub names of weights that it reads beside the model's; a run's answers are known by what
            these hold, too.
        control: whether it is there to be beaten: tables and figures mark it.
        needs_answers: whether it looks at the right answers, so that it serves only samples whose answers it knows; the
            demo does not offer it.
    """

    name: ClassVar[str]
    control: ClassVar[bool] = False
    needs_answers: ClassVar[bool] = False

    @property
    def query_rows(self) -> QueryRows:
        return 1

    @property
    def tower_layer(self) -> TowerLayer | None:
        return None

    @property
    def reads_embeddings(self) -> bool:
        return False

    @property
    def renumbers(self) -> bool:
        """Whether positions are counted without what was withdrawn: by the parameter `positions`, if there is one."""
        return getattr(self, "positions", "keep") == "compact"

    @property
    def evicts_text(self) -> bool:
        return False

    @property
    def checkpoints(self) -> tuple[str, ...]:
        return ()

    def check(self, num_layers: int) -> None:
        """Raise ValueError if the parameters do not fit a model with `num_layers` decoder layers."""

    def check_tower(self, tower: Tower) -> None:
        """Raise ValueError if the parameters do not fit a model's vision tower; where `tower_layer` is not None."""

    def images(self, images: list[Any]) -> list[Any]:
        """A sample's images (PIL, RGB) → what the processor is given instead. In runs; `prune` does not see images."""
        return images

    def encode(self, view: EncodeView) -> Selection | None:
        """Tokens that enter the decoder, before its first layer; None: all of them."""

    def withdraw(self, layer: int, entry: EntryView) -> Selection | None:
        """Tokens that go on into `layer` ≥ 1 and all later ones; None: all of them.

        Args:
            entry: the attention of the layer before, and the states that enter this one.
        """

    def compress(self, layer: int, view: LayerView) -> Selection | None:
        """Cache slots that `layer` keeps, per KV head; None: all of them."""

    def observe(self, layer: int, view: LayerView) -> Any:
        """What `allocate` will want to know of a layer. The view itself keeps the layer's query rows until then."""
        return view

    def allocate(self, observed: list[Any]) -> Sequence[Selection | None]:
        """Cache slots of all layers, decided after the last one, from what `observe` returned of each."""
        raise NotImplementedError

    @property
    def withdraws(self) -> bool:
        """Whether the method takes tokens out of the residual stream behind the first layer or a later one."""
        return type(self).withdraw is not Method.withdraw

    @property
    def redraws(self) -> bool:
        """Whether the method changes images before the processor sees them."""
        return type(self).images is not Method.images

    @property
    def encodes(self) -> bool:
        """Whether the method takes tokens out before the first layer."""
        return type(self).encode is not Method.encode

    @property
    def shortens(self) -> bool:
        """Whether the method takes tokens out of the residual stream at all, so that it needs a prefill of its own."""
        return self.encodes or self.withdraws

    @property
    def allocates(self) -> bool:
        """Whether the method decides about all layers after the last one; each is held in full until then."""
        return type(self).allocate is not Method.allocate

    def params(self) -> dict[str, Any]:
        """Hyper-parameters by name, defaults included, as they are written down: plain values, lists as "8+16+24".

        0 for a float is 0.0, so that equal methods have equal ones.
        """
        found = dataclasses.asdict(self)  # type: ignore[call-overload]  # every method is a dataclass
        for parameter in dataclasses.fields(self):  # type: ignore[arg-type]
            value = found[parameter.name]
            if parameter.type in (float, "float") and isinstance(value, int) and not isinstance(value, bool):
                found[parameter.name] = float(value)
            elif isinstance(value, tuple):
                found[parameter.name] = "+".join(map(str, value))
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
        name = vars(cls).get("name")  # its own
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
