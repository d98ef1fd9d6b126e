"""Runs the parts of the check one after the other; what each finds is on disk before it looks for the next thing."""

from __future__ import annotations

import inspect
import json
import math
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from plphp_core.bench.bench_tables import BenchColumn, bench_table
from plphp_core.decoding.device import free_memory
from plphp_core.records.atomic import write_atomically
from plphp_core.reporting.render import markdown

# What a part can end as. Only the first three say something about the hardware.
PASSED, MEASURED, FAILED, ERROR, CUT_OFF, SKIPPED = "passed", "measured", "failed", "error", "cut off", "skipped"
BAD = (FAILED, ERROR, CUT_OFF)
LEFT_FOR_WRITING = 3.0  # seconds
OURS = ("plphp_core", "baselines", "tasks")


class NotAvailableError(Exception):
    """A part, or a piece of it, cannot be shown here; the message says why."""


class TimeUpError(BaseException):
    """Not an Exception: what a part tries and survives must not survive this."""


@dataclass(frozen=True)
class GpuCheck:
    """Something that must hold. `found`: what was seen, for whoever reads that it does not."""

    what: str
    holds: bool
    found: str = ""


@dataclass(frozen=True)
class GpuPart:
    """One piece of evidence.

    Attributes:
        find: yields a row of the table as a dict, or a GpuCheck, as soon as it is known. Its docstring says on the page
            what the numbers mean.
        columns: of the table; None: the rows' own keys.
        least, limit: seconds that must be left to begin, and after which it is cut off.
    """

    name: str
    title: str
    find: Callable[[Any], Iterator[dict | GpuCheck]]
    least: float
    limit: float
    columns: Sequence[BenchColumn] | None = None

    def markdown(self, rows: Sequence[dict]) -> str:
        keys = dict.fromkeys(key for row in rows for key in row)
        own = [BenchColumn(key, key.replace("_", " "), _written) for key in keys]
        return markdown([bench_table("", self.columns or own, rows)])


def gpu_part(name: str, title: str, least: float, limit: float, columns: Sequence[BenchColumn] | None = None):
    """Makes the function below it a GpuPart."""
    return lambda find: GpuPart(name, title, find, least, limit, columns)


def _written(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


@dataclass
class PartResult:
    """What a part has found so far."""

    name: str
    status: str = "running"
    reason: str = ""
    seconds: float = 0.0
    checks: list[GpuCheck] = field(default_factory=list)
    rows: list[dict] = field(default_factory=list)
    trace: str = ""

    def add(self, found: dict | GpuCheck) -> None:
        if isinstance(found, GpuCheck):
            self.checks.append(found)
        else:  # JSON has no inf and no nan; where they stand for a failure, a check or another column says so
            bad = {key: None for key, one in found.items() if isinstance(one, float) and not math.isfinite(one)}
            self.rows.append(found | bad)

    @property
    def wrong(self) -> list[GpuCheck]:
        """Checks that do not hold."""
        return [check for check in self.checks if not check.holds]

    @property
    def judged(self) -> str:
        """What it ends as, unless something came in between."""
        return FAILED if self.wrong else PASSED if self.checks else MEASURED


@dataclass
class Evidence:
    """Everything found, and the two files that hold it.

    Attributes:
        about: hardware, versions, command: what the numbers belong to.
        stem: path of the files without suffix.
    """

    about: dict
    stem: Path
    parts: Sequence[GpuPart]
    found: list[PartResult] = field(default_factory=list)

    @property
    def files(self) -> tuple[Path, Path]:
        name = self.stem.name
        return self.stem.with_name(f"{name}.json"), self.stem.with_name(f"{name}.md")

    @property
    def bad(self) -> list[PartResult]:
        return [found for found in self.found if found.status in BAD]

    def write(self) -> None:
        """Both files as a whole: a reader, or whoever comes after a kill, finds the last ones."""
        content = self.about | {"parts": [asdict(found) for found in self.found]}
        as_json, as_page = self.files
        write_atomically(as_json, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
        write_atomically(as_page, page(self))


def run_parts(evidence: Evidence, setting: Any, deadline: float, say: Callable[[str], None]) -> None:
    """Run the parts in order, as many as end before `deadline` (of `time.monotonic`); a broken one stops no other."""
    for part in evidence.parts:
        found = PartResult(part.name)
        evidence.found.append(found)
        began = time.monotonic()
        left = deadline - began - LEFT_FOR_WRITING
        say(f"{part.title}: {left:.0f} s left")
        try:
            if left <= part.least:
                raise NotAvailableError(f"{max(left, 0):.0f} s were left, and it takes more than {part.least:.0f} s")
            with time_limit(min(part.limit, left)):
                for one in part.find(setting):
                    found.add(one)
                    found.seconds = time.monotonic() - began
                    evidence.write()
            found.status = found.judged
        except NotAvailableError as error:
            found.status, found.reason = found.judged if found.rows else SKIPPED, f"not shown: {error}"
        except TimeUpError:
            found.status, found.reason = CUT_OFF, f"not done after {time.monotonic() - began:.0f} s"
        except KeyboardInterrupt:
            found.status, found.reason = CUT_OFF, "interrupted"
            raise
        except Exception as error:  # whatever it is, the other parts are worth having
            package = error.name if isinstance(error, ModuleNotFoundError) else None
            if package and package.partition(".")[0] not in OURS:
                found.status = found.judged if found.rows else SKIPPED
                found.reason = f"not shown: it needs {package}, not installed here"
            else:
                found.status, found.reason = ERROR, f"{type(error).__name__}: {error}".splitlines()[0]
                found.trace = "".join(traceback.format_exception(error))[-4000:]
        finally:
            found.seconds = time.monotonic() - began
            evidence.write()
        say(f"{part.title}: {found.status}{', ' + found.reason if found.reason else ''} ({found.seconds:.0f} s)")
        for check in found.wrong:
            say(f"  does not hold: {check.what}; {check.found}")
        free_memory()


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TimeUpError in the block after so many seconds; between two bytecodes, so that a long kernel ends first."""

    def ring(*_):
        raise TimeUpError

    before = signal.signal(signal.SIGALRM, ring)
    earlier, _ = signal.setitimer(signal.ITIMER_REAL, seconds)
    began = time.monotonic()
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if earlier:  # an alarm that was set before this one, as pytest-timeout's, goes on
            signal.setitimer(signal.ITIMER_REAL, max(earlier - (time.monotonic() - began), 0.001))


def page(evidence: Evidence) -> str:
    """The Markdown page."""
    about = evidence.about
    paragraphs = [f"# GPU check: {about['hardware']}, {about['date']}"]
    if about["reduced"]:
        paragraphs.append("**Reduced size on a CPU: this shows that the checks run, and nothing about a GPU.**")
    notes = ", ".join(f"{key} {value}" for key, value in about["notes"].items())
    paragraphs += [_verdict(evidence), f"Memory: {about['memory']}; {notes}."]
    paragraphs.append(f"Command: `{about['command']}`, commit {about['commit']}; shape: {about['shape']}.")
    for part, found in zip(evidence.parts, evidence.found, strict=False):
        shows = " ".join((inspect.getdoc(part.find) or "").split())
        paragraphs += [f"## {part.title}: {found.status}", f"{shows} {found.seconds:.0f} s."]
        if found.reason:
            paragraphs.append(f"{found.reason[0].upper()}{found.reason[1:]}.")
        if found.rows:
            paragraphs.append(part.markdown(found.rows).rstrip("\n"))
        if found.checks:
            paragraphs.append(f"{len(found.checks) - len(found.wrong)} of {len(found.checks)} checks hold.")
            paragraphs += [f"- does not hold: {check.what}; {check.found}" for check in found.wrong]
    return "\n\n".join(paragraphs) + "\n"


def _verdict(evidence: Evidence) -> str:
    by_status: dict[str, list[str]] = {}
    for number, part in enumerate(evidence.parts):
        status = evidence.found[number].status if number < len(evidence.found) else "not begun"
        by_status.setdefault(status, []).append(part.name)
    return "; ".join(f"{status}: {', '.join(names)}" for status, names in by_status.items()) + "."
