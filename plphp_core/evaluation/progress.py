"""What a run shows: the plan before it starts, a bar or plain lines while it goes, a summary at its end."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

PLAIN_EVERY = 15.0  # seconds between lines when the output is not a terminal
ESTIMATE_AFTER = 3.0  # seconds of answering before a remaining time is believed


@dataclass(frozen=True)
class PlannedCell:
    """One line of the plan. `seconds` that one of its samples may take, as far as that is known beforehand."""

    label: str
    benchmark: str
    samples: int
    answered: int
    finished: bool
    seconds: float | None = None

    @property
    def missing(self) -> int:
        return 0 if self.finished else self.samples - self.answered


def duration(seconds: float) -> str:
    """ "45 s", "12 min", "3 h 05 min"."""
    seconds = round(seconds)
    if seconds < 100:
        return f"{seconds} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


class Remaining:
    """How long the rest of a run takes, every method on every benchmark at its own pace.

    Before a cell has one, what was expected of it, corrected by how the others do against what was expected of them;
    else the mean pace of other methods on its benchmark; else it is unknown.

    Args:
        processes: that share the work; times are of this one's share.
    """

    def __init__(self, cells: Sequence[PlannedCell] = (), processes: int = 1):
        self._left = {(cell.label, cell.benchmark): cell.missing / processes for cell in cells if cell.missing}
        self._expected = {(cell.label, cell.benchmark): cell.seconds for cell in cells if cell.seconds}
        self._spent: dict[tuple[str, str], float] = {}
        self._given: Counter[tuple[str, str]] = Counter()

    def note(self, label: str, benchmark: str, samples: int, seconds: float) -> None:
        """Samples of a cell took so long."""
        cell = label, benchmark
        self._spent[cell] = self._spent.get(cell, 0.0) + seconds
        self._given[cell] += samples
        self._left[cell] = max(0, self._left.get(cell, 0) - samples)

    def finish(self, label: str, benchmark: str) -> None:
        """Nothing of a cell is left, whoever has answered it."""
        self._left.pop((label, benchmark), None)

    @property
    def believable(self) -> bool:
        return sum(self._spent.values()) >= ESTIMATE_AFTER

    def __call__(self) -> tuple[float, int]:
        """Seconds, and the number of cells that are not in them since nobody knows their pace."""
        paces = {cell: self._pace(cell) for cell, samples in self._left.items() if samples}
        known = {cell: pace for cell, pace in paces.items() if pace is not None}
        return sum(self._left[cell] * pace for cell, pace in known.items()), len(paces) - len(known)

    def _pace(self, cell: tuple[str, str]) -> float | None:
        """Seconds per sample."""
        if cell in self._spent:
            return self._spent[cell] / self._given[cell]
        if cell in self._expected:
            both = self._spent.keys() & self._expected.keys()
            expected = sum(self._given[one] * self._expected[one] for one in both)
            return self._expected[cell] * (sum(self._spent[one] for one in both) / expected if expected else 1.0)
        others = [one for one in self._spent if one[1] == cell[1]]
        given = sum(self._given[one] for one in others)
        return sum(self._spent[one] for one in others) / given if given else None


class Display:
    """Writes to the terminal; knows the pace of the whole run.

    Attributes:
        processes: that carry out the run together with this one.
    """

    def __init__(self, console: Console | None = None, quiet: bool = False):
        self.console = console or Console(stderr=True, highlight=False, soft_wrap=True, quiet=quiet)
        self.processes = 1
        self.remaining = Remaining()
        self._estimated = False
        self._last_line = 0.0

    def say(self, message: str) -> None:
        """One line, now."""
        self.console.print(message, markup=False)

    def plan(self, cells: list[PlannedCell], title: str) -> None:
        """Which cells there are, how much of each is answered already, how much is to do."""
        table = Table(title=title, title_justify="left")
        table.add_column("method")
        names = list(dict.fromkeys(cell.benchmark for cell in cells))
        for name in names:
            table.add_column(name, justify="right")
        rows: dict[str, dict[str, str]] = {}
        for cell in cells:
            text = "done" if cell.finished else f"{cell.answered}/{cell.samples}"
            rows.setdefault(cell.label, {})[cell.benchmark] = text
        for label, row in rows.items():
            table.add_row(label, *(row.get(name, "") for name in names))
        self.console.print(table)
        self.remaining, self._estimated = Remaining(cells, self.processes), False
        missing, finished = sum(cell.missing for cell in cells), sum(cell.finished for cell in cells)
        self.say(
            f"{len(cells)} cells, {finished} finished; {missing} samples to answer"
            + ("; the time they take is estimated from the first ones" if missing else "")
        )

    @contextmanager
    def cell(self, label: str, samples: int, answered: int) -> Iterator[CellProgress]:
        """Follow a benchmark; call the yielded `CellProgress` after each batch of a cell."""
        pace = CellProgress(self, label, samples, answered)
        with pace.bar:
            yield pace

    @property
    def estimate(self) -> str:
        """Time for the rest of the run; empty before that can be told."""
        if not self.remaining.believable:
            return ""
        seconds, unknown = self.remaining()
        cells = "1 cell" if unknown == 1 else f"{unknown} cells"
        return duration(seconds) + (f" and what {cells} of unknown pace take" if unknown else "")


class CellProgress:
    """Progress within one benchmark."""

    def __init__(self, display: Display, label: str, samples: int, answered: int):
        self._display, self._label, self._samples, self._answered = display, label, samples, answered
        self._began = self._tick = time.monotonic()
        self._fresh = 0
        self._plain = not display.console.is_terminal
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[pace]}"),
            console=display.console,
            transient=True,
            disable=self._plain,
        )
        self._task = self.bar.add_task(label, total=samples, completed=answered, pace="")

    def __call__(self, samples: int, label: str, benchmark: str) -> None:
        """So many samples of the cell of this label and benchmark have just been answered."""
        now = time.monotonic()
        display = self._display
        display.remaining.note(label, benchmark, samples, now - self._tick)
        self._tick = now
        self._fresh += samples
        self._answered += samples
        speed = self._fresh / max(now - self._began, 1e-9)
        estimate = display.estimate
        text = f"{speed:.1f} samples/s" + (f", ETA {estimate}" if estimate else "")
        self.bar.update(self._task, completed=self._answered, pace=text)
        if estimate and not display._estimated:
            display._estimated = True
            display.say(f"estimated time for all remaining samples: {estimate}")
        if self._plain and now - display._last_line >= PLAIN_EVERY:
            display._last_line = now
            display.say(f"{self._label}: sample {self._answered}/{self._samples}, {text}")
