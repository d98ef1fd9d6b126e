"""What a run shows: the plan before it starts, a bar or plain lines while it goes, a summary at its end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

PLAIN_EVERY = 15.0  # seconds between lines when the output is not a terminal
ESTIMATE_AFTER = 3.0  # seconds of answering before a remaining time is believed


@dataclass(frozen=True)
class PlannedCell:
    """One line of the plan."""

    label: str
    benchmark: str
    samples: int
    answered: int
    finished: bool

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


class Display:
    """Writes to the terminal; knows the pace of the whole run."""

    def __init__(self, console: Console | None = None, quiet: bool = False):
        self.console = console or Console(stderr=True, highlight=False, soft_wrap=True, quiet=quiet)
        self._done = self._total = 0
        self._answering = 0.0  # seconds spent in cells that had something to answer
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
        self._done, self._total = 0, sum(cell.missing for cell in cells)
        finished = sum(cell.finished for cell in cells)
        self.say(
            f"{len(cells)} cells, {finished} finished; {self._total} samples to answer"
            + ("; the time they take is estimated from the first ones" if self._total else "")
        )

    @contextmanager
    def cell(self, label: str, samples: int, answered: int) -> Iterator[Pace]:
        """Follow one cell; call the yielded `Pace` with the number of samples after each batch."""
        pace = Pace(self, label, samples, answered)
        with pace.bar:
            yield pace

    @property
    def remaining(self) -> float | None:
        """Seconds that the rest of the run takes at its pace so far; None before that can be told."""
        if self._answering < ESTIMATE_AFTER or not self._done:
            return None
        return (self._total - self._done) * self._answering / self._done


class Pace:
    """Progress within one cell."""

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

    def __call__(self, samples: int) -> None:
        now = time.monotonic()
        display = self._display
        first_estimate = display.remaining is None
        display._answering += now - self._tick
        display._done += samples
        self._tick = now
        self._fresh += samples
        self._answered += samples
        speed = self._fresh / max(now - self._began, 1e-9)
        eta = "" if display.remaining is None else f", ETA {duration(display.remaining)}"
        text = f"{speed:.1f} samples/s{eta}"
        self.bar.update(self._task, completed=self._answered, pace=text)
        if first_estimate and display.remaining is not None:
            display.say(f"estimated time for all remaining samples: {duration(display.remaining)}")
        if self._plain and now - display._last_line >= PLAIN_EVERY:
            display._last_line = now
            display.say(f"{self._label}: sample {self._answered}/{self._samples}, {text}")
