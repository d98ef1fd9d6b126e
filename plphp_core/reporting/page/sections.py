"""What the template shows: tables and figures with grouped headings, pictures as data, captions and unique names; the
runs behind them, and a summary of what was measured where.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from pathlib import Path

from plphp_core.records.errors import ReportError
from plphp_core.records.manifest import Manifest
from plphp_core.reporting.request import THIRD_PARTIES, Report, report_order
from plphp_core.reporting.table_model import NA, Table

LONG = 48  # characters of an entry


@dataclass(frozen=True)
class TableView:
    """A table with what the template needs beside it."""

    sheet: Table

    @property
    def groups(self) -> list[tuple[str, int]]:
        """(heading, how many columns it spans) of the first heading line; empty where there is none."""
        groups = [(name, len(list(own))) for name, own in groupby(column.group for column in self.sheet.columns)]
        return groups if any(name for name, _ in groups) else []

    @property
    def long(self) -> list[int]:
        """Places of the columns with sentences, which wrap."""
        places = range(len(self.sheet.columns))
        return [at for at in places if any(len(row.cells[at].text) > LONG for row in self.sheet.rows)]

    @property
    def stub(self) -> int:
        """How many leading columns name the row."""
        columns, long = self.sheet.columns, self.long
        return max(1, next((at for at, one in enumerate(columns) if at in long or not one.text), len(columns)))


@dataclass(frozen=True)
class PageSection:
    """A table or figure of the page. `anchor` is its name in links, `name` in headings.

    pictures: (data URI, description); look: what to look for in them.
    missing: why there is none; then it has neither pictures nor tables.
    """

    anchor: str
    name: str
    title: str = ""
    pictures: tuple[tuple[str, str], ...] = ()
    tables: tuple[TableView, ...] = ()
    missing: str = ""
    look: str = ""

    @property
    def figure(self) -> bool:
        return self.anchor.startswith("figure")

    @property
    def third(self) -> bool:
        """Whether it is the claims of third parties."""
        return self.anchor.startswith(_anchor(THIRD_PARTIES))


def sections(reports: Sequence[Report], missing: Mapping[str, str] | None = None) -> list[PageSection]:
    """One section per report, in the order of the command line's; `missing`: name → why there is no such report."""
    found = [(report.name, _section(report)) for report in reports]
    found += [
        (name, PageSection(_anchor(name), _name(name), missing=reason)) for name, reason in (missing or {}).items()
    ]
    return [section for _, section in sorted(found, key=lambda one: report_order(one[0]))]


def in_words(variant: str) -> list[str]:
    """The parts of what a file's name says of a variant: ".limit=4.seed=1" is "limit=4" and "seed=1"."""
    return [part for part in re.split(r"\.(?=[a-z]+=)", variant) if part]


def _section(report: Report) -> PageSection:
    name, sheets = _name(report.name, report.variant), report.sheets
    title = sheets[0].title if sheets else name
    if len(sheets) > 1 and all(sheet.columns == sheets[0].columns for sheet in sheets):
        title = title.partition(": ")[0]  # one per example
    images = [report.pictures["png"]] if "png" in report.pictures else []
    images += [one for key, one in report.extra.items() if key.endswith(".png") and isinstance(one, bytes)]
    described = []
    for number, content in enumerate(images, start=1):
        part = f", part {number} of {len(images)}" if len(images) > 1 else ""
        numbers = " The numbers are in the table that follows." if sheets else ""
        source = f"data:image/png;base64,{base64.b64encode(content).decode('ascii')}"
        described.append((source, f"{title}{part}.{numbers}"))
    anchor = _anchor(report.name + report.variant)
    return PageSection(anchor, name, title, tuple(described), tuple(map(TableView, sheets)), look=report.look)


def _anchor(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _name(name: str, variant: str = "") -> str:
    """Table 1 for table1, with what a file's name says of a variant."""
    shown = re.sub(r"(\d+)$", r" \1", name.capitalize().replace("_", " "))
    return f"{shown} ({', '.join(in_words(variant))})" if variant else shown


def runs(folder: Path) -> tuple[list[Manifest], list[str]]:
    """The runs of `folder`/manifests, oldest first, and for each file that cannot be read a sentence that says why."""
    found, damaged = [], []
    for path in sorted((folder / "manifests").glob("*.json")):
        try:
            found.append(Manifest.load(path))
        except ReportError as error:
            damaged.append(str(error))
    return found, damaged


def whole(run: Manifest) -> str:
    """All of a manifest, to be read."""
    return json.dumps(run.content(), indent=1, ensure_ascii=False)


def took(run: Manifest) -> str:
    """How long a run took; n/a where it has not ended, or was killed."""
    if run.ended is None:
        return NA
    started, ended = map(datetime.fromisoformat, (run.started, run.ended))
    minutes, seconds = divmod(round((ended - started).total_seconds()), 60)
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


def measured(reports: Sequence[Report], found: Sequence[Manifest]) -> list[tuple[str, list[str]]]:
    """What, on what and when: names with their lines."""
    cells = {cell.path: cell for report in reports for part in report.parts for cell in part.cells.values()}.values()
    answered = f"{len(cells)} cells (model × method with its setting × benchmark), {sum(c.n for c in cells):,} answers"
    failed = sum(cell.errors for cell in cells)
    days = sorted({run.started[:10] for run in found})
    lines = {
        "Models": {
            f"{cell.model} from {cell.checkpoint} ({cell.revision.removeprefix('sha256:')[:10]}), {cell.dtype}"
            for cell in cells
        },
        "Measured": {answered + (f", {failed:,} sample{'s' * (failed > 1)} failed" if failed else "")},
        "Hardware": {cell.hardware for cell in cells},
        "Software": {
            ", ".join(f"{name} {at}" for name, at in sorted(cell.versions.items())) or "unrecorded" for cell in cells
        },
        "Runs": {f"{len(found)}, {' to '.join(dict.fromkeys((days[0], days[-1])))}"} if days else set(),
    }
    return [(name, sorted(said) or [NA]) for name, said in lines.items()]
