"""Tables and figures as the template wants them: grouped headings, pictures as data, captions, unique names."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

from plphp_core.reporting.request import Report
from plphp_core.reporting.sheet import Sheet

LONG = 48  # characters of an entry


@dataclass(frozen=True)
class Head:
    """A heading over `span` columns; `leaf` ones name a single column."""

    label: str
    span: int
    text: bool


@dataclass(frozen=True)
class TableView:
    """A sheet with what the template needs beside it.

    stub: how many leading columns name the row; long: places of the columns with sentences, which wrap.
    """

    sheet: Sheet
    groups: tuple[Head, ...]
    stub: int
    long: tuple[int, ...]


@dataclass(frozen=True)
class Picture:
    """A picture as a data URI with its text."""

    source: str
    alt: str


@dataclass(frozen=True)
class Section:
    """A table or figure of the page. `anchor` is its name in links, `name` in headings."""

    anchor: str
    name: str
    title: str
    pictures: tuple[Picture, ...]
    tables: tuple[TableView, ...]


def sections(reports: Sequence[Report], clean: Callable) -> list[Section]:
    """One section per report, in order."""
    return [_section(report, clean) for report in reports]


def _section(report: Report, clean: Callable) -> Section:
    name = _name(report)
    title = clean(_title(report.sheets)) or name
    pictures = {f"{report.name}.{kind}": content for kind, content in report.pictures.items()}
    pictures |= {key: content for key, content in report.extra.items() if isinstance(content, bytes)}
    shown = {key: content for key, content in pictures.items() if key.endswith(".png")}
    return Section(
        anchor=re.sub(r"[^a-z0-9]+", "-", f"{report.name}{report.variant}".lower()).strip("-"),
        name=name,
        title=title,
        pictures=tuple(
            Picture(
                f"data:image/png;base64,{base64.b64encode(content).decode('ascii')}",
                f"{title}{_part(number, len(shown))}."
                + (" The numbers are in the table that follows." * bool(report.sheets)),
            )
            for number, content in enumerate(shown.values(), start=1)
        ),
        tables=tuple(_view(sheet, clean) for sheet in report.sheets),
    )


def _title(sheets: Sequence[Sheet]) -> str:
    """The first sheet's title; of sheets that are alike, one per case, what their titles begin with."""
    titles = [sheet.title for sheet in sheets]
    if len(titles) < 2 or any(sheet.columns != sheets[0].columns for sheet in sheets):
        return titles[0] if titles else ""
    begins = {title.partition(": ")[0] for title in titles}
    return begins.pop() if len(begins) == 1 else titles[0]


def _part(number: int, count: int) -> str:
    return f", part {number} of {count}" if count > 1 else ""


def _name(report: Report) -> str:
    """Table 1 for table1, with what a file's name says of a variant."""
    found = re.fullmatch(r"(table|figure)(\d+)", report.name)
    name = f"{found[1].capitalize()} {found[2]}" if found else report.name.capitalize()
    variant = ", ".join(part for part in re.split(r"\.(?=[a-z]+=)", report.variant) if part)
    return f"{name} ({variant})" if variant else name


def _view(sheet: Sheet, clean: Callable) -> TableView:
    groups = tuple(
        Head(group, len(list(members)), False) for group, members in groupby(column.group for column in sheet.columns)
    )
    places = range(len(sheet.columns))
    long = tuple(at for at in places if any(len(row.entries[at].text) > LONG for row in sheet.rows))
    stub = next((at for at in places if at in long or not sheet.columns[at].text), len(places))
    cleaned = Sheet(
        clean(sheet.title), sheet.columns, sheet.rows, tuple(clean(note) for note in sheet.notes), sheet.marks
    )
    return TableView(cleaned, groups if any(head.label for head in groups) else (), max(1, stub), long)
