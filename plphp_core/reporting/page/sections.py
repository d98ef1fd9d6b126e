"""Tables and figures as the template wants them: grouped headings, pictures as data, captions, unique names."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from plphp_core.reporting.request import ORDER, Report
from plphp_core.reporting.table_model import Table

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

    sheet: Table
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
    """A table or figure of the page. `anchor` is its name in links, `name` in headings.

    missing: why there is none; then it has neither pictures nor tables.
    """

    anchor: str
    name: str
    title: str
    pictures: tuple[Picture, ...]
    tables: tuple[TableView, ...]
    figure: bool
    missing: str = ""


def sections(reports: Sequence[Report], clean: Callable, missing: Mapping[str, str] | None = None) -> list[Section]:
    """One section per report, in the order of the command line's; `missing`: name → why there is no such report."""
    found = [(report.name, _section(report, clean)) for report in reports]
    found += [(name, _absent(name, clean(reason))) for name, reason in (missing or {}).items()]
    places = {name: at for at, name in enumerate(ORDER)}
    return [section for _, section in sorted(found, key=lambda one: places.get(one[0], len(places)))]


def in_words(variant: str) -> list[str]:
    """The parts of what a file's name says of a variant: ".limit=4.seed=1" is "limit=4" and "seed=1"."""
    return [part for part in re.split(r"\.(?=[a-z]+=)", variant) if part]


def _absent(name: str, reason: str) -> Section:
    return Section(_anchor(name), _name(name), "", (), (), _is_figure(name), reason)


def _section(report: Report, clean: Callable) -> Section:
    name = _name(report.name, report.variant)
    title = clean(_title(report.sheets)) or name
    pictures = {f"{report.name}.{kind}": content for kind, content in report.pictures.items()}
    pictures |= {key: content for key, content in report.extra.items() if isinstance(content, bytes)}
    shown = {key: content for key, content in pictures.items() if key.endswith(".png")}
    return Section(
        anchor=_anchor(report.name + report.variant),
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
        figure=_is_figure(report.name),
    )


def _title(sheets: Sequence[Table]) -> str:
    """The first sheet's title; of sheets that are alike, one per case, what their titles begin with."""
    titles = [sheet.title for sheet in sheets]
    if len(titles) < 2 or any(sheet.columns != sheets[0].columns for sheet in sheets):
        return titles[0] if titles else ""
    begins = {title.partition(": ")[0] for title in titles}
    return begins.pop() if len(begins) == 1 else titles[0]


def _part(number: int, count: int) -> str:
    return f", part {number} of {count}" if count > 1 else ""


def _anchor(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _is_figure(name: str) -> bool:
    return name.startswith("figure")


def _name(name: str, variant: str = "") -> str:
    """Table 1 for table1, with what a file's name says of a variant."""
    found = re.fullmatch(r"(table|figure)(\d+)", name)
    shown = f"{found[1].capitalize()} {found[2]}" if found else name.capitalize()
    return f"{shown} ({', '.join(in_words(variant))})" if variant else shown


def _view(sheet: Table, clean: Callable) -> TableView:
    groups = tuple(
        Head(group, len(list(members)), False) for group, members in groupby(column.group for column in sheet.columns)
    )
    places = range(len(sheet.columns))
    long = tuple(at for at in places if any(len(row.cells[at].text) > LONG for row in sheet.rows))
    stub = next((at for at in places if at in long or not sheet.columns[at].text), len(places))
    cleaned = Table(
        clean(sheet.title), sheet.columns, sheet.rows, tuple(clean(note) for note in sheet.notes), sheet.marks
    )
    return TableView(cleaned, groups if any(head.label for head in groups) else (), max(1, stub), long)
