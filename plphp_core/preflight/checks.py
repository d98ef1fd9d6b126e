"""What a check is, what it reports, what it knows of the planned run, and how checks are run one after another."""

from __future__ import annotations

import contextlib
import io
import logging
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from plphp_core.config.run_settings import Benchmark, Settings
from plphp_core.evaluation.requests import Request
from plphp_core.families.base import Family


class CheckStatus(StrEnum):
    PASSED = "passed"
    SKIPPED = "skipped"  # an earlier check failed
    FAILED = "failed"  # a run would break, or measure something else than it says


@dataclass(frozen=True)
class CheckResult:
    """One line of the list: which check, how it ended, what was found (and what to do about it)."""

    name: str
    status: CheckStatus
    sentence: str


class CheckFailed(Exception):
    """What was found, and what to do about it. Raised, it ends the check; yielded, the check goes on."""


Findings = Iterator[str | CheckFailed]


@contextlib.contextmanager
def failing(sentence: str, advice: str) -> Iterator[None]:
    """Whatever is raised in the block fails the check: libraries have their own exceptions, too many to list."""
    try:
        yield
    except Exception as error:
        raise CheckFailed(f"{sentence}: {reason(error)}; {advice}") from error


@dataclass(frozen=True)
class CheckpointFiles:
    """A checkpoint whose small files are on this machine.

    Attributes:
        folder: holds them; the weights too, as far as they are here.
        commit: of a hub repository; None for a local folder.
        shapes: tensor name → shape, of all weight files, from their headers.
        to_download: weight file that is not here → bytes.
    """

    folder: Path
    commit: str | None = None
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict, repr=False)
    to_download: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class BenchmarkSample:
    """What is known of a benchmark whose data could be opened.

    Attributes:
        samples: how many there are; None if the hub does not say.
        requests: of the samples looked at the first, the one with the longest text and the one with the most pixels.
        to_download: bytes.
    """

    benchmark: Benchmark
    samples: int | None
    requests: list[Request] = field(repr=False)
    to_download: int = 0


@dataclass(eq=False)
class PlannedRun:
    """A run that is about to be started, and what earlier checks found out about it for later ones.

    What follows `weights` is empty until the check concerned has passed.

    Attributes:
        weights: whether the real weights are to be loaded.
        config: the checkpoint's transformers configuration.
        model: its model on the meta device: every shape, no numbers.
        metrics: of the chosen benchmarks: name → aggregation over items.
    """

    settings: Settings
    weights: bool = True
    checkpoint: CheckpointFiles = CheckpointFiles(Path())
    config: Any = None
    model: Any = None
    processor: Any = None
    metrics: dict[str, Any] = field(default_factory=dict)
    data: list[BenchmarkSample] = field(default_factory=list)

    @cached_property
    def family(self) -> Family:
        return self.settings.model.make_family()

    @property
    def dtype(self) -> torch.dtype:
        """What weights are loaded in."""
        return getattr(torch, self.settings.model.dtype)


@dataclass(frozen=True, eq=False)
class PreflightCheck:
    """A function that examines one thing and yields what is as it should be as sentences, what is not as CheckFailed;
    and the checks without which it makes no sense.
    """

    title: str
    examine: Callable[[PlannedRun], Findings]
    needs: tuple[PreflightCheck, ...] = ()


def check(title: str, needs: Sequence[PreflightCheck] = ()) -> Callable[..., PreflightCheck]:
    """Make a check of a generator function; it is skipped unless all that it needs has passed."""
    return lambda examine: PreflightCheck(title, examine, tuple(needs))


def run_checks(checks: Sequence[PreflightCheck], run: PlannedRun) -> Iterator[CheckResult]:
    """The results, in order; a check that fails or raises never stops the others."""
    broken: set[PreflightCheck] = set()
    for one in checks:
        blocker = next((need for need in one.needs if need in broken), None)
        if blocker is not None:
            broken.add(one)
            yield CheckResult(one.title, CheckStatus.SKIPPED, f'needs "{blocker.title}"')
            continue
        for found in _examine(one, run):
            failed = isinstance(found, CheckFailed)
            broken |= {one} if failed else set()
            yield CheckResult(one.title, CheckStatus.FAILED if failed else CheckStatus.PASSED, str(found))


def _examine(one: PreflightCheck, run: PlannedRun) -> list[str | CheckFailed]:
    found: list[str | CheckFailed] = []
    with _quiet():
        try:
            found.extend(one.examine(run))
        except CheckFailed as problem:
            found.append(problem)
        except Exception as error:  # reported like any other failure
            frame = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{Path(frame.filename).name}:{frame.lineno}"
            said = f"the check itself broke at {place}: {type(error).__name__}: {reason(error)}"
            found.append(CheckFailed(said))
    return found


def reason(error: BaseException, most: int = 180) -> str:
    """What an error says, in one line of at most `most` characters: libraries tend to explain at length."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= most else f"{text[:most].rpartition(' ')[0]} …"


def gib(amount: float) -> str:
    """Bytes for people: "15.0 GiB", "310 MiB", "74 KiB"."""
    if amount >= 2**30:
        return f"{amount / 2**30:.1f} GiB"
    return f"{amount / 2**20:.0f} MiB" if amount >= 2**20 else f"{amount / 2**10:.0f} KiB"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Libraries' progress bars, warnings and log lines are kept out of the list."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    noise = io.StringIO()
    try:
        with contextlib.redirect_stdout(noise), contextlib.redirect_stderr(noise), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
