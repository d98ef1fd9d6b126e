"""How long a sample takes: from the journals of a results folder, or as the profile assumes."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from plphp_core.config.run_settings import ModelSettings
from plphp_core.records.cache_keys import numerics
from plphp_core.records.errors import UserError
from plphp_core.records.host import device_name
from plphp_core.records.journal_lines import CellKeyLine, OtherSchema, SampleLine, parsed

LINES = 200  # looked at in each journal, evenly spread: prompts get shorter towards its end


@dataclass(frozen=True)
class Cost:
    """Mean seconds of one sample, its share of its batch. `samples` is how many were measured; 0: assumed."""

    prefill: float
    decode: float
    samples: int = 0


class ThroughputEstimator:
    """What samples have cost so far with a model, its numerics, its engine, on this machine's device.

    Args:
        journals: the folder of the journals; it need not exist. Nothing in it is changed.
        assumed: task, or "any", → seconds of "prefill" and "decode" where nothing has been measured; it may be empty.

    Raises:
        UserError: `assumed` is something else.
    """

    def __init__(self, journals: Path, model: ModelSettings, assumed: Mapping[str, Mapping[str, float]]):
        self._assumed = {task: _cost(task, seconds) for task, seconds in assumed.items()}
        here = _this_device(model.device)
        self._measured: dict[tuple[str, str], list[tuple[float, float]]] = {}
        for path in journals.glob(f"{model.name}.*.jsonl"):
            known: dict[str, tuple[str, str]] = {}  # cell key → method and task, of the cells with these numerics
            for line in _sampled(path):
                if isinstance(line, CellKeyLine):
                    if line.identity.get("numerics") == numerics(model):
                        known[line.cell] = line.identity["method"]["name"], line.identity["task"]["name"]
                elif line.cell in known and line.answer is not None and here in (None, line.hardware):
                    share = 1000 * line.answer.batch_size
                    costs = self._measured.setdefault(known[line.cell], [])
                    costs.append((line.answer.prefill_ms / share, line.answer.decode_ms / share))

    def __call__(self, method: str, task: str, name: str) -> Cost | None:
        """Of a method on a task: as measured, else as other methods were there, else as assumed, else None.

        Args:
            name: of the task in `assumed`, without the profile's prefix.
        """
        costs = self._measured.get((method, task)) or [
            cost for (_, other), some in self._measured.items() if other == task for cost in some
        ]
        if not costs:
            return self._assumed.get(name) or self._assumed.get("any")
        prefill, decode = (statistics.fmean(times) for times in zip(*costs, strict=True))
        return Cost(prefill, decode, samples=len(costs))


def _sampled(path: Path) -> Iterator[SampleLine | CellKeyLine]:
    """About `LINES` lines of a journal, and all that say what a cell's key stands for."""
    lines = path.read_bytes().splitlines()
    step = max(1, len(lines) // LINES)
    for number, line in enumerate(lines):
        if number % step == 0 or b'"identity":' in line[:200]:
            with suppress(OtherSchema):  # the run itself refuses it
                if (found := parsed(line)) is not None:
                    yield found


def _cost(task: str, seconds: Mapping[str, float]) -> Cost:
    try:
        if unknown := seconds.keys() - {"prefill", "decode"}:
            raise ValueError(f"unknown: {unknown}")
        return Cost(float(seconds["prefill"]), float(seconds["decode"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"profile.seconds_per_sample.{task} = {seconds}: give seconds of prefill and of decode, as in "
            "{prefill: 1.0, decode: 0.5}"
        ) from error


def _this_device(device: str) -> str | None:
    """The name of this machine's device as journals have it; None if it is not there (a login node)."""
    try:
        return device_name(device)
    except (RuntimeError, AssertionError):
        return None
