"""Tables and figures as the template wants them: grouped headings, pictures as data, captions, unique names."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from plphp_core.reporting.figures import MODULES
from plphp_core.reporting.request import THIRD_PARTIES, Report, report_order
from plphp_core.reporting.table_model import Table

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

    pictures: (data URI, description, width in pixels at which its letters can be read); look: what to look for in them.
    missing: why there is none; then it has neither pictures nor tables.
    """

    anchor: str
    name: str
    title: str = ""
    pictures: tuple[tuple[str, str, int], ...] = ()
    tables: tuple[TableView, ...] = ()
    missing: str = ""
    look: str = ""

    @property
    def figure(self) -> bool:
        return any(self.anchor.startswith(_anchor(name)) for name in MODULES)

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
        width = int.from_bytes(content[16:20], "big") // 3  # of a PNG of 300 dots per inch
        described.append((source, f"{title}{part}.{numbers}", width))
    anchor = _anchor(report.name + report.variant)
    return PageSection(anchor, name, title, tuple(described), tuple(map(TableView, sheets)), look=report.look)


def _anchor(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _name(name: str, variant: str = "") -> str:
    """Table 1 for table1, with what a file's name says of a variant."""
    shown = re.sub(r"(\d+)$", r" \1", name.capitalize().replace("_", " "))
    return f"{shown} ({', '.join(in_words(variant))})" if variant else shown
