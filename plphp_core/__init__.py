"""PLPHP and what every vision-token pruning method shares."""

from plphp_core.method import Method, make_method, method_names
from plphp_core.plphp import PLPHP
from plphp_core.prune import prune
from plphp_core.trace import Trace

__all__ = ["PLPHP", "Method", "Trace", "fast_generate", "make_method", "method_names", "prune"]


def __getattr__(name: str):
    if name == "fast_generate":  # brings in transformers' attention interface, seconds that `prune` does without
        from plphp_core.decode import fast_generate

        return fast_generate
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
