"""The rivals, one file each. Every `Method` in this package is found by its name; see docs/add-a-method.md."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from baselines.fastv import FastV
    from baselines.vtw import VTW

__all__ = ["VTW", "FastV"]
_MODULES = {"FastV": "baselines.fastv", "VTW": "baselines.vtw"}


def __getattr__(name: str) -> type:
    """Read on first use, so that a file that cannot be read costs the others nothing."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; rivals: {', '.join(_MODULES)}")
    return getattr(import_module(_MODULES[name]), name)
