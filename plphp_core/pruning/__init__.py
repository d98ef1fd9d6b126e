"""What a pruning method is, and how it acts on a model: hooks, caches, traces. For authors of methods."""

from plphp_core.pruning.encode_view import EncodeView, ImageView, KeptTokens
from plphp_core.pruning.method import Method, make_method, method_names
from plphp_core.pruning.plphp import PLPHP
from plphp_core.pruning.selection import Selection, Written, top_per_image, top_tokens
from plphp_core.pruning.trace import Trace
from plphp_core.pruning.view import EntryView, LayerView

__all__ = [
    "PLPHP",
    "EncodeView",
    "EntryView",
    "ImageView",
    "KeptTokens",
    "LayerView",
    "Method",
    "Selection",
    "Trace",
    "Written",
    "make_method",
    "method_names",
    "top_per_image",
    "top_tokens",
]
