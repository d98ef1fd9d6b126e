"""Tables and figures as the template wants them: grouped headings, pictures as data, captions, unique names."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from plphp_core.reporting.request import Report, report_order
from plphp_core.reporting.table_model import Table

LONG = 48  # characters of an entry


@dataclass(frozen=True)
class TableView:
    """A table with what the template needs beside it.

    groups: (heading, how many columns it spans) of its first heading line, if it has one; stub: how many leading
    columns name the row; long: places of the columns with sentences, which wrap.
    """

    sheet: Table
    groups: tuple[tuple[str, int], ...]
    stub: int
    long: tuple[int, ...]

    @classmethod
    def of(cls, sheet: Table) -> TableView:
        groups = tuple((name, len(list(own))) for name, own in groupby(column.group for column in sheet.columns))
        places = range(len(sheet.columns))
        long = tuple(at for at in places if any(len(row.cells[at].text) > LONG for row in sheet.rows))
        stub = next((at for at in places if at in long or not sheet.columns[at].text), len(places))
        return cls(sheet, groups if any(name for name, _ in groups) else (), max(1, stub), long)


@dataclass(frozen=True)
class PageSection:
    """A table or figure of the page. `anchor` is its name in links, `name` in headings.

    pictures: (data URI, description). missing: why there is none; then it has neither pictures nor tables.
    """

    anchor: str
    name: str
    title: str
    figure: bool
    pictures: tuple[tuple[str, str], ...] = ()
    tables: tuple[TableView, ...] = ()
    missing: str = ""


def sections(reports: Sequence[Report], missing: Mapping[str, str] | None = None) -> list[PageSection]:
    """One section per report, in the order of the command line's; `missing`: name → why there is no such report."""
    found = [(report.name, _section(report)) for report in reports]
    found += [
        (name, PageSection(_anchor(name), _name(name), "", _is_figure(name), missing=reason))
        for name, reason in (missing or {}).items()
    ]
    return [section for _, section in sorted(found, key=lambda one: report_order(one[0]))]


def in_words(variant: str) -> list[str]:
    """The parts of what a file's name says of a variant: ".limit=4.seed=1" is "limit=4" and "seed=1"."""
    return [part for part in re.split(r"\.(?=[a-z]+=)", variant) if part]


def _section(report: Report) -> PageSection:
    name = _name(report.name, report.variant)
    title = _title(report.sheets) or name
    pictures = [content for kind, content in report.pictures.items() if kind == "png"]
    pictures += [content for key, content in report.extra.items() if key.endswith(".png")]
    described = []
    for number, content in enumerate(pictures, start=1):
        part = f", part {number} of {len(pictures)}" if len(pictures) > 1 else ""
        numbers = " The numbers are in the table that follows." if report.sheets else ""
        source = f"data:image/png;base64,{base64.b64encode(content).decode('ascii')}"
        described.append((source, f"{title}{part}.{numbers}"))
    views = tuple(map(TableView.of, report.sheets))
    anchor = _anchor(report.name + report.variant)
    return PageSection(anchor, name, title, _is_figure(report.name), tuple(described), views)


def _title(sheets: Sequence[Table]) -> str:
    """The first table's title; of tables that are alike, one per example, what their titles begin with."""
    titles = [sheet.title for sheet in sheets]
    if len(titles) < 2 or any(sheet.columns != sheets[0].columns for sheet in sheets):
        return titles[0] if titles else ""
    begins = {title.partition(": ")[0] for title in titles}
    return begins.pop() if len(begins) == 1 else titles[0]


def _anchor(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _is_figure(name: str) -> bool:
    return name.startswith("figure")


def _name(name: str, variant: str = "") -> str:
    """Table 1 for table1, with what a file's name says of a variant."""
    found = re.fullmatch(r"(table|figure)(\d+)", name)
    shown = f"{found[1].capitalize()} {found[2]}" if found else name.capitalize()
    return f"{shown} ({', '.join(in_words(variant))})" if variant else shown
