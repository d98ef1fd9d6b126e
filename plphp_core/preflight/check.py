"""A check, what it finds, and how checks are run: one that fails or crashes never stops the others."""

from __future__ import annotations

import contextlib
import io
import logging
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from plphp_core.records.errors import UserError

if TYPE_CHECKING:
    from plphp_core.preflight.case import Case


class Status(StrEnum):
    """What a finding means; the worst finding of a check is the check's own status."""

    OK = "ok"
    SKIPPED = "skipped"  # could not be looked at, or was not asked for
    WARNING = "warning"  # the run works, but not as one would think
    FAILED = "failed"  # the run would break, or measure something else than it says


_SEVERITY = list(Status)


@dataclass(frozen=True)
class Finding:
    """One line of the checklist: what was found, and what to do about it."""

    status: Status
    found: str
    remedy: str = ""
    trace: str = field(default="", repr=False)  # of a check that crashed


def ok(found: str) -> Finding:
    return Finding(Status.OK, found)


def skipped(found: str) -> Finding:
    return Finding(Status.SKIPPED, found)


def warning(found: str, remedy: str) -> Finding:
    return Finding(Status.WARNING, found, remedy)


def failed(found: str, remedy: str) -> Finding:
    return Finding(Status.FAILED, found, remedy)


def refused(error: UserError, remedy: str, prefix: str = "") -> Finding:
    """An error that was written for the user: what is wrong, and mostly behind a semicolon what to do."""
    found, _, advice = first_line(error).partition("; ")
    return failed(prefix + found, advice or remedy)


@dataclass(frozen=True, eq=False)
class Check:
    """A function that looks at one thing, and the checks without which it makes no sense."""

    title: str
    look: Callable[[Case], Iterator[Finding]]
    needs: tuple[Check, ...] = ()


def check(title: str, needs: Sequence[Check] = ()) -> Callable[[Callable[[Case], Iterator[Finding]]], Check]:
    """Make a check of a generator function `(case) -> findings`.

    Args:
        needs: earlier checks; if one of them failed or was skipped, this one is skipped.
    """
    return lambda look: Check(title, look, tuple(needs))


@dataclass(frozen=True, eq=False)
class Result:
    """What a check found, at least one finding, and how long it took in seconds."""

    check: Check
    findings: tuple[Finding, ...]
    seconds: float = 0.0
    noise: str = field(default="", repr=False)  # what libraries printed meanwhile

    @property
    def status(self) -> Status:
        return max((finding.status for finding in self.findings), key=_SEVERITY.index)

    @property
    def usable(self) -> bool:
        """Whether later checks can build upon it."""
        return self.status in (Status.OK, Status.WARNING)


def run_checks(
    checks: Sequence[Check],
    case: Case,
    begin: Callable[[Check], None] = lambda check: None,
    end: Callable[[Result], None] = lambda result: None,
    before: Sequence[Result] = (),
) -> list[Result]:
    """Run all checks in order. Returns one result for each.

    Args:
        begin, end: called before and after each, to show progress.
        before: results of checks that ran earlier and may be needed.
    """
    results = {result.check: result for result in before}
    for one in checks:
        begin(one)
        blocker = next((need for need in one.needs if need in results and not results[need].usable), None)
        if blocker is None:
            results[one] = _look(one, case)
        else:
            results[one] = Result(one, (skipped(f'needs "{blocker.title}"'),))
        end(results[one])
    return [results[one] for one in checks]


def exit_code(results: Sequence[Result]) -> int:
    """1 if something would break, else 0."""
    return int(any(result.status is Status.FAILED for result in results))


def _look(one: Check, case: Case) -> Result:
    findings: list[Finding] = []
    began = time.perf_counter()
    with _quiet() as noise:
        try:
            for finding in one.look(case):
                findings.append(finding)
        except Exception as error:  # a crash is a finding too; what was found before it stays
            findings.append(_crash(error))
    return Result(one, tuple(findings) or (ok(""),), time.perf_counter() - began, noise.getvalue())


def _crash(error: Exception) -> Finding:
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "plphp_core" in frame.filename] or frames
    place = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}"
    return Finding(
        Status.FAILED,
        f"the check itself broke at {place}: {type(error).__name__}: {first_line(error)}",
        "nothing like this was foreseen: the traceback below the list may say what is wrong; if not, report it",
        "".join(traceback.format_exception(error)),
    )


def first_line(error: BaseException) -> str:
    """The first line of an error's message that says something."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def reason(error: BaseException, most: int = 180) -> str:
    """What an error says over all its lines, cut to `most` characters: libraries tend to explain at length."""
    text = " ".join(line.strip() for line in str(error).splitlines() if line.strip()) or type(error).__name__
    return text if len(text) <= most else f"{text[:most].rpartition(' ')[0]} …"


@contextlib.contextmanager
def _quiet() -> Iterator[io.StringIO]:
    """Libraries' progress bars, warnings and log lines are kept away from the checklist."""
    noise = io.StringIO()
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(noise), contextlib.redirect_stderr(noise), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield noise
    finally:
        logging.disable(level)
