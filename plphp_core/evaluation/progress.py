"""What a run shows: the plan before it starts, a bar or plain lines while it goes, and the time that is left."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from plphp_core.evaluation.estimate import PlannedCell, duration

log = logging.getLogger("plphp.progress")
PLAIN_EVERY = 15.0  # seconds between lines when the output is not a terminal
ESTIMATE_AFTER = 3.0  # seconds of answering before a remaining time is believed


class Display:
    """Writes to the terminal; knows how far the whole run is.

    Attributes:
        verbose: whether plain lines tell how far a cell is, beside the one when it is finished.
        processes: that carry out the run together with this one.
    """

    def __init__(self, console: Console | None = None, quiet: bool = False, verbose: bool = False):
        self.console = console or Console(stderr=True, highlight=False, soft_wrap=True, quiet=quiet)
        self.verbose = verbose
        self.processes = 1
        self._left: dict[tuple[str, str], float] = {}  # row and benchmark → samples
        self._weight: dict[tuple[str, str], float] = {}  # → seconds per sample, as expected
        self._done = self._spent = 0.0  # seconds of answering: as expected, and as it took
        self._last_line = 0.0

    def say(self, message: str) -> None:
        """One line, now."""
        self.console.print(message, markup=False)

    def plan(self, planned: Sequence[PlannedCell], title: str) -> None:
        """Which cells there are, how much of each is answered already, how much is to do and how long it may take."""
        table = Table(title=title, title_justify="left", show_footer=any(one.time for one in planned))
        names = list(dict.fromkeys(one.benchmark for one in planned))
        table.add_column("method", footer="time")
        for name in names:
            table.add_column(name, justify="right", footer=_time([one for one in planned if one.benchmark == name]))
        rows: dict[str, dict[str, str]] = {}
        for one in planned:
            text = "done" if one.finished else f"{one.answered}/{'n/a' if one.samples is None else one.samples}"
            rows.setdefault(one.row, {})[one.benchmark] = text
        for row, texts in rows.items():
            table.add_row(row, *(texts.get(name, "") for name in names))
        self.console.print(table)
        missing, finished = sum(one.missing or 0 for one in planned), sum(one.finished for one in planned)
        time_to_go = _time(planned)
        expected = f"; estimated time: {time_to_go}" if missing and time_to_go != "n/a" else ""
        more = " or more" * any(one.missing is None for one in planned)
        self.say(f"{len(planned)} cells, {finished} finished; {missing}{more} samples to answer{expected}")
        known = [one.seconds for one in planned if one.seconds]
        mean = sum(known) / len(known) if known else 1.0  # of cells of which nothing is known
        self._left = {(one.row, one.benchmark): (one.missing or 0) / self.processes for one in planned}
        self._weight = {(one.row, one.benchmark): one.seconds or mean for one in planned}
        self._done = self._spent = 0.0

    def finish(self, row: str, benchmark: str) -> None:
        """Nothing of a cell is left, whoever has answered it."""
        self._left.pop((row, benchmark), None)

    @property
    def remaining(self) -> float | None:
        """Seconds for the rest of the run: what was expected of it, times how what is done compares to what was
        expected of that. None before that can be told."""
        if self._spent < ESTIMATE_AFTER or not self._done:
            return None
        left = sum(samples * self._weight[cell] for cell, samples in self._left.items())
        return left * self._spent / self._done

    @property
    def eta(self) -> str:
        """What a line says of the time for the rest; nothing before that can be told, or where nothing is left."""
        return f", ETA {duration(self.remaining)}" if self.remaining else ""

    @contextmanager
    def cell(self, label: str, samples: int, answered: int) -> Iterator[Callable[[int, str, str], None]]:
        """Follow a benchmark; call what is yielded with the number of samples, row and benchmark of each batch."""
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}")
        plain = not self.console.is_terminal
        bar = Progress(*columns, console=self.console, transient=True, disable=plain)
        task = bar.add_task(label, total=samples, completed=answered, rate="")
        began = tick = time.monotonic()
        fresh = 0

        def note(count: int, row: str, benchmark: str) -> None:
            nonlocal tick, fresh
            now = time.monotonic()
            cell = row, benchmark
            self._spent, tick, fresh = self._spent + now - tick, now, fresh + count
            self._done += count * self._weight.get(cell, 1.0)
            if cell in self._left:
                self._left[cell] = max(0.0, self._left[cell] - count)
            rate = f"{fresh / max(now - began, 1e-9):.1f} samples/s{self.eta}"
            bar.update(task, advance=count, rate=rate)
            if plain and now - self._last_line >= PLAIN_EVERY:
                self._last_line = now
                line = f"{label}: sample {answered + fresh}/{samples}, {rate}"
                log.info(line)
                if self.verbose:
                    self.say(line)

        with bar:
            yield note


def _time(planned: Sequence[PlannedCell]) -> str:
    """Of all of them together; "n/a" if one is unknown."""
    times = [one.time for one in planned]
    return "n/a" if None in times else duration(sum(one or 0.0 for one in times))
