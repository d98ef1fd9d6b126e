"""Vision-token pruning for Hugging Face models: PLPHP, and what every method shares.

Names are imported when they are asked for: `plphp` sets what Hugging Face's libraries read at their import first.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from plphp_core.decoding.fast_generate import fast_generate
    from plphp_core.pruning import PLPHP, Method, Trace, make_method, method_names
    from plphp_core.pruning.hooks import prune

__all__ = ["PLPHP", "Method", "Trace", "fast_generate", "make_method", "method_names", "prune"]
_PLACES = {"fast_generate": "plphp_core.decoding.fast_generate", "prune": "plphp_core.pruning.hooks"}


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("plphp")
    if name in __all__:
        return getattr(import_module(_PLACES.get(name, "plphp_core.pruning")), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
