"""The rivals and controls. Every `Method` in this package is found by its name; see docs/add-a-method.md."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from baselines.adakv import AdaKV
    from baselines.cdpruner import CDPruner
    from baselines.controls import RandomTokens, SharedHeads, Uniform
    from baselines.dart import DART
    from baselines.divprune import DivPrune
    from baselines.downsample import Downsample
    from baselines.fastv import FastV
    from baselines.h2o import H2O
    from baselines.keydiff import KeyDiff
    from baselines.mixkv import MixKV
    from baselines.oracle import Oracle
    from baselines.prumerge import PruMerge
    from baselines.pyramiddrop import PyramidDrop
    from baselines.pyramidkv import PyramidKV
    from baselines.recency import Recency
    from baselines.snapkv import SnapKV
    from baselines.sparsevlm import SparseVLM
    from baselines.tova import TOVA
    from baselines.visionzip import VisionZip
    from baselines.vispruner import VisPruner
    from baselines.vlcache import VLCache
    from baselines.vtw import VTW
    from baselines.withdraw_controls import RandomWithdraw, UniformWithdraw

__all__ = [
    "DART",
    "H2O",
    "TOVA",
    "VTW",
    "AdaKV",
    "CDPruner",
    "DivPrune",
    "Downsample",
    "FastV",
    "KeyDiff",
    "MixKV",
    "Oracle",
    "PruMerge",
    "PyramidDrop",
    "PyramidKV",
    "RandomTokens",
    "RandomWithdraw",
    "Recency",
    "SharedHeads",
    "SnapKV",
    "SparseVLM",
    "Uniform",
    "UniformWithdraw",
    "VLCache",
    "VisPruner",
    "VisionZip",
]
_CONTROLS = {"RandomTokens", "SharedHeads", "Uniform"}
_WITHDRAW_CONTROLS = {"RandomWithdraw", "UniformWithdraw"}


def __getattr__(name: str) -> type:
    """Read on first use, so that a file that cannot be read costs the others nothing."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; rivals: {', '.join(__all__)}")
    module = "controls" if name in _CONTROLS else "withdraw_controls" if name in _WITHDRAW_CONTROLS else name.lower()
    return getattr(import_module(f"baselines.{module}"), name)
