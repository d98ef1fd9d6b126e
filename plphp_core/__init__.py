"""Vision-token pruning for Hugging Face models: PLPHP, and what every method shares."""

from plphp_core.pruning import PLPHP, Method, Trace, make_method, method_names
from plphp_core.pruning.hooks import prune

__all__ = ["PLPHP", "Method", "Trace", "fast_generate", "make_method", "method_names", "prune"]


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("plphp")
    if name == "fast_generate":  # brings in transformers' attention interface, seconds that `prune` does without
        from plphp_core.decoding.fast_generate import fast_generate

        return fast_generate
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
