"""How long answers may take: samples left × seconds per sample, as measured in this results folder or as assumed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from plphp_core.config.run_settings import MethodSettings, Settings
from plphp_core.decoding.shared_prefill import can_share
from plphp_core.evaluation.cell_spec import CellSpec
from plphp_core.records.cell_result import CellResult, costs_of
from plphp_core.records.errors import UserError
from plphp_core.records.host import device_name
from plphp_core.records.journal import Journal


@dataclass(frozen=True)
class PlannedCell:
    """A cell and how far it is.

    Attributes:
        cell: None where its key is unknown: the hub cannot be reached, data are not there.
        samples: how many it has; None if unknown. answered: how many of them its journal holds.
        finished: its result file is there.
        reason: why answers or a result that are on disk are not its own; empty if none are.
        measured: seconds of prefill and of decoding per sample, its share of its batch, of its answers on this device.
        seconds: per sample, by which the time to go is estimated; None if unknown.
    """

    method: MethodSettings
    task: str
    benchmark: str
    cell: CellSpec | None = None
    samples: int | None = None
    answered: int = 0
    finished: bool = False
    reason: str = ""
    measured: tuple[float, float] | None = None
    seconds: float | None = None

    @property
    def row(self) -> str:
        return self.method.row

    @property
    def missing(self) -> int | None:
        """Samples to answer; None if unknown."""
        if self.finished:
            return 0
        return None if self.samples is None else max(0, self.samples - self.answered)

    @property
    def time(self) -> float | None:
        """Seconds that its missing samples may take; None if unknown."""
        if self.missing == 0:
            return 0.0
        return None if self.missing is None or self.seconds is None else self.missing * self.seconds


def with_seconds(planned: Sequence[PlannedCell], settings: Settings, profile: Mapping) -> list[PlannedCell]:
    """The plan with `seconds`: as the cell's own answers took, else as others on its task did, else as the profile
    assumes. A prefill that methods share counts once.

    Args:
        profile: of the resolved configuration; `seconds_per_sample`: task, or "any", → seconds of prefill and decode.
    Raises:
        UserError: `seconds_per_sample` is something else.
    """
    assumed = {task: _assumed(task, seconds) for task, seconds in (profile.get("seconds_per_sample") or {}).items()}

    def costs(one: PlannedCell) -> tuple[float, float] | None:
        if one.measured:
            return one.measured
        if there := [other.measured for other in planned if other.task == one.task and other.measured]:
            prefill, decode = zip(*there, strict=True)
            return float(np.mean(prefill)), float(np.mean(decode))
        return assumed.get(one.task.removeprefix(profile.get("task_prefix") or "")) or assumed.get("any")

    def shares(one: PlannedCell) -> bool:
        return settings.share and not one.finished and can_share(one.method.built)

    found = []
    for one in planned:
        known = costs(one)
        sharing = sum(shares(other) for other in planned if other.task == one.task) if shares(one) else 1
        found.append(replace(one, seconds=None if known is None else known[0] / sharing + known[1]))
    return found


def measured(cell: CellSpec, known: CellResult | Journal) -> tuple[float, float] | None:
    """Mean seconds of prefill and of decoding of a sample, over the cell's answers on the device that is here, or on
    any where the run's own is not (a login node)."""
    try:
        here = device_name(cell.settings.model.device)
    except (RuntimeError, AssertionError):
        here = None
    if isinstance(known, Journal):
        lines = [line for line in known.of(cell.key).values() if here in (None, line.hardware)]
        costs = costs_of([line.answer for line in lines if line.answer is not None])
    else:
        costs = known.costs if here in (None, known.hardware) else {}
    prefill, decode = (costs.get(name, ()) for name in ("prefill_ms", "decode_ms"))
    return (float(np.mean(prefill)) / 1000, float(np.mean(decode)) / 1000) if len(prefill) else None


def duration(seconds: float) -> str:
    """ "45 s", "12 min", "3 h 05 min"."""
    seconds = round(seconds)
    if seconds < 100:
        return f"{seconds} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


def _assumed(task: str, seconds: Mapping[str, float]) -> tuple[float, float]:
    try:
        if unknown := seconds.keys() - {"prefill", "decode"}:
            raise ValueError(f"unknown: {unknown}")
        return float(seconds["prefill"]), float(seconds["decode"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"profile.seconds_per_sample.{task} = {seconds}: give seconds of prefill and of decode, as in "
            "{prefill: 1.0, decode: 0.5}"
        ) from error
