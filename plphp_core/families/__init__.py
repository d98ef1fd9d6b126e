"""Model families, one module each; a new module brings its family by itself (see docs/add-a-family.md)."""

import functools
import importlib
import pkgutil

from torch import nn

from plphp_core.families.base import Family

__all__ = ["Family", "family_names", "family_of", "get_family"]


@functools.cache
def _families() -> dict[str, type[Family]]:
    found = {}
    for info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{info.name}")
        for value in vars(module).values():
            own = isinstance(value, type) and value.__module__ == module.__name__
            if own and issubclass(value, Family) and "name" in vars(value):
                found[value.name] = value
    return found


def family_names() -> list[str]:
    """Names of all model families."""
    return sorted(_families())


def get_family(name: str, style: str = "lmms_eval", **options) -> Family:
    """The family called `name`, making prompts in the given style ("lmms_eval" or "plain"), with options of its own.

    Raises:
        ValueError: unknown name, style or option; the message lists the known ones.
    """
    if name not in _families():
        raise ValueError(f"unknown model family {name!r}; known: {', '.join(family_names())}")
    return _families()[name](style, **options)


def family_of(model: nn.Module) -> Family:
    """The family that a model belongs to, by its class.

    Raises:
        TypeError: no family knows the class; the message lists the known ones, and names a known model inside.
    """
    if (family := _family_by_class(model)) is not None:
        return family()
    parts = model.named_modules() if isinstance(model, nn.Module) else ()
    inner = next((name for name, part in parts if _family_by_class(part) is not None), None)
    if inner is not None:  # PeftModel, torch.compile, DataParallel, …
        path, kind = f"model.{inner}", type(model.get_submodule(inner)).__name__
        raise TypeError(f"cannot prune a {type(model).__name__}; prune the {kind} inside it: prune({path}, method)")
    known = sorted(cls for family in _families().values() for cls in family.model_classes)
    raise TypeError(f"cannot prune a {type(model).__name__}; known model classes: {', '.join(known)}")


def _family_by_class(model: nn.Module) -> type[Family] | None:
    classes = {cls.__name__ for cls in type(model).__mro__}
    return next((family for family in _families().values() if classes & set(family.model_classes)), None)
