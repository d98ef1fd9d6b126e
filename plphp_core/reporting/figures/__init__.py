"""The figures of the paper, and token maps: each is a spec, in a module named after what it shows."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from plphp_core.reporting.request import Report, ReportRequest

MODULES = {
    "figure1": "attention_by_layer",
    "figure2": "attention_by_layer",
    "figure3": "attention_by_head",
    "figure5": "score_panels",
    "figure6": "score_panels",
    "figure7": "cost_per_sample",
    "figure8": "answers_side_by_side",
    "token_maps": "kept_tokens",
}


def figure_report(name: str, asked: ReportRequest) -> Report:
    """A figure with all its files. matplotlib, which takes a second to import, is imported here."""
    return getattr(import_module(f"{__name__}.{MODULES[name]}"), name.upper()).report(asked)
