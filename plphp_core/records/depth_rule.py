"""What VTW's own rule says of its K for a model: the file that `scripts/choose_vtw_k.py` writes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
from pydantic import AfterValidator, BeforeValidator

from plphp_core.records.record import Record


def _by_depth(given: object) -> object:
    """JSON's keys are text."""
    if isinstance(given, dict) and all(str(K).isdecimal() for K in given):
        return {int(K): nats for K, nats in given.items()}
    return given


def _finite_somewhere(divergence: dict[int, float]) -> dict[int, float]:
    if not divergence or not np.isfinite(list(divergence.values())).all():
        raise ValueError("needs numbers")
    return divergence


class DepthRule(Record):
    """The rule of arXiv 2405.05803: the first K with mean KL(P_vtw ‖ P_full) ≤ `eta` nats over `samples` prompts.

    divergence: K → mean KL in nats; chosen: None if no K is below. revision: identity of the weights.
    """

    SCHEMA: ClassVar[int] = 2
    WHAT: ClassVar[str] = "a result of VTW's rule"
    REMEDY: ClassVar[str] = "delete it, or run scripts/choose_vtw_k.py again"

    model: str
    checkpoint: str
    revision: str
    dtype: str
    prompts: str
    benchmarks: list[str]
    samples: int
    seed: int
    eta: float
    divergence: Annotated[dict[int, float], BeforeValidator(_by_depth), AfterValidator(_finite_somewhere)]
    chosen: int | None


def rule_path(results: Path, profile: str, model: str) -> Path:
    """Where the rule's result for a model lies."""
    return results / profile / f"vtw_k.{model}.json"


def load_rule(file: Path) -> DepthRule | None:
    """The result in `file`; None if nobody asked. Raises ReportError for a damaged file."""
    return DepthRule.load(file) if file.exists() else None
