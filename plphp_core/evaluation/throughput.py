"""How long a sample takes: from the journals of a results folder, or as the profile assumes."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from plphp_core.config.run_settings import ModelSettings
from plphp_core.records.errors import UserError
from plphp_core.records.host import device_name

LINES = 200  # looked at in each journal, evenly spread: prompts get shorter towards its end


@dataclass(frozen=True)
class Cost:
    """Mean seconds of one sample, its share of its batch. `samples` is how many were measured; 0: assumed."""

    prefill: float
    decode: float
    samples: int = 0


class Pace:
    """What samples have cost so far with a model, its numerics, its engine, on this machine's device.

    Args:
        journals: the folder of the journals; it need not exist. Nothing in it is changed.
        assumed: task, or "any", → seconds of "prefill" and "decode" where nothing has been measured; it may be empty.

    Raises:
        UserError: `assumed` is something else.
    """

    def __init__(self, journals: Path, model: ModelSettings, assumed: Mapping[str, Mapping[str, float]]):
        self._assumed = {task: _cost(task, seconds) for task, seconds in assumed.items()}
        numerics = [model.dtype, model.attn_implementation, model.device.split(":")[0], model.engine]
        here = _this_device(model.device)
        self._measured: dict[tuple[str, str], list[tuple[float, float]]] = {}
        for path in journals.glob(f"{model.name}.*.jsonl"):
            known: dict[str, tuple[str, str]] = {}  # cell key → method and task, of the cells with these numerics
            for line in _sampled(path):
                if identity := line.get("identity"):
                    if identity.get("numerics") == numerics:
                        known[line["cell"]] = identity["method"][0], identity["task"][0]
                elif line.get("cell") in known and "text" in line and here in (None, line["hardware"]):
                    share = 1000 * line["batch_size"]
                    costs = self._measured.setdefault(known[line["cell"]], [])
                    costs.append((line["prefill_ms"] / share, line["decode_ms"] / share))

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
        return Cost(*(statistics.fmean(times) for times in zip(*costs, strict=True)), samples=len(costs))


def _sampled(path: Path) -> Iterator[dict]:
    """About `LINES` lines of a journal, and all that say what a cell's key stands for."""
    lines = path.read_bytes().splitlines()
    step = max(1, len(lines) // LINES)
    for number, line in enumerate(lines):
        if number % step == 0 or b'"identity":' in line[:200]:
            yield from _parsed(line)


def _parsed(line: bytes) -> Iterator[dict]:
    try:
        yield json.loads(line)
    except ValueError:  # torn by a kill, or being written
        return


def _cost(task: str, seconds: Mapping[str, float]) -> Cost:
    try:
        return Cost(**{name: float(value) for name, value in seconds.items()})
    except (TypeError, ValueError, AttributeError) as error:
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
