"""The rivals, one file each. Every `Method` in this package is found by its name; see docs/add-a-method.md."""

from baselines.fastv import FastV
from baselines.vtw import VTW

__all__ = ["VTW", "FastV"]
