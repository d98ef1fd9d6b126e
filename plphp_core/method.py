"""What a pruning method is: two verbs, and a registry of names."""

import dataclasses
import functools
import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import ClassVar

from torch import Tensor

from plphp_core.attention import vision_mass
from plphp_core.selection import Selection

METHOD_PACKAGES = "plphp.methods"  # entry-point group: packages whose modules hold one method each


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
    query_rows: int | None = 1
    evicts_text: ClassVar[bool] = False

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

    def params(self) -> dict:
        """Hyper-parameters by name, defaults included; 0 for a float is 0.0, so that equal methods have equal ones."""
        found = dataclasses.asdict(self)
        for parameter in dataclasses.fields(self):
            value = found[parameter.name]
            if parameter.type in (float, "float") and isinstance(value, int) and not isinstance(value, bool):
                found[parameter.name] = float(value)
        return found


def fraction(owner: str, name: str, value: object) -> None:
    """Raise ValueError unless `value` is a number in [0, 1]."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    require(number and 0 <= value <= 1, f"{owner}: {name} = {value!r}, but must be a number in [0, 1]")


def depth(owner: str, value: object) -> None:
    """Raise ValueError unless `value` can be K, a number of layers."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    require(whole and value >= 1, f"{owner}: K = {value!r}, but must be an integer ≥ 1")


def require(condition: bool, message: str) -> None:
    """Raise ValueError with `message` unless `condition` holds."""
    if not condition:
        raise ValueError(message)


@functools.cache
def _methods() -> dict[str, type[Method]]:
    modules = ["plphp_core.plphp"]
    for point in entry_points(group=METHOD_PACKAGES):
        package = importlib.import_module(point.value)
        modules += [f"{point.value}.{module.name}" for module in pkgutil.iter_modules(package.__path__)]
    found = {}
    for module in map(importlib.import_module, modules):
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, Method) and value.__module__ == module.__name__:
                found[value.name] = value
    return found


def method_names() -> list[str]:
    """`"none"` and every method of `plphp_core` and of the packages in the entry-point group `plphp.methods`."""
    return ["none", *sorted(_methods())]


def make_method(name: str, **params) -> Method | None:
    """The method called `name` with these hyper-parameters; None for `"none"`.

    Raises:
        ValueError: unknown name or parameter (the message lists the known ones), or a value the method refuses.
    """
    require(name in method_names(), f"unknown method {name!r}; known: {', '.join(method_names())}")
    if name == "none":
        require(not params, f"method 'none' takes no parameters, got {', '.join(params)}")
        return None
    cls = _methods()[name]
    known = [field.name for field in dataclasses.fields(cls)]
    unknown = sorted(set(params) - set(known))
    require(not unknown, f"method {name!r} has no parameter {', '.join(unknown)}; known: {', '.join(known)}")
    return cls(**params)
