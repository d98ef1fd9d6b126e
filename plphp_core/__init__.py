"""PLPHP and what every vision-token pruning method shares."""

from plphp_core.method import Method, make_method, method_names
from plphp_core.plphp import PLPHP
from plphp_core.prune import prune
from plphp_core.trace import Trace

__all__ = ["PLPHP", "Method", "Trace", "make_method", "method_names", "prune"]
