"""A figure as data: what it shows, the numbers behind it, how it is drawn. `report` makes every file from that."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

import pandas as pd
from matplotlib.figure import Figure

from plphp_core.analysis.results import Results
from plphp_core.reporting.figures import drawing
from plphp_core.reporting.request import Report, ReportRequest
from plphp_core.reporting.table_model import Table
from plphp_core.reporting.table_spec import where

Content = TypeVar("Content")


@dataclass(frozen=True)
class Page:
    """What is printed around a figure's numbers.

    profile: whose results; title: such as "Figure 7 (toy profile)"; files: a sentence on where the picture is.
    """

    profile: str
    title: str
    files: str

    @property
    def where(self) -> str:
        """What a title says of the profile: nothing of the paper's."""
        return where(self.profile)


@dataclass(frozen=True)
class Shown(Generic[Content]):
    """What a figure shows. variant: what its files' names say of the choice; parts: the results of cells behind it."""

    content: Content
    variant: str
    parts: Sequence[Results] = ()


@dataclass(frozen=True)
class FigureSpec(Generic[Content]):
    """One figure, the paper's or another.

    Attributes:
        name: starts its files' names, "figure7".
        gather: what is shown, from what was asked for. Raises NothingToShow without finished work, ReportError.
        frames: suffix of the csv file's name → the numbers.
        tables: the numbers as tables with notes, for the md file.
        pictures: suffix of the picture's name → what draws it. "", the first, is a pdf too.
        beside: completes "The figure: figure7.png and the .pdf beside it; …".
        caption: what to look for; the first note of the first table.
        from_cells: whether it shows cells, of which some can be missing.
        latex: whether its tables are numbers that LaTeX can set.
        heading: of one that is not the paper's, in place of "Figure 7".
    """

    name: str
    gather: Callable[[ReportRequest], Shown[Content]]
    tables: Callable[[Content, Page], list[Table]]
    pictures: Mapping[str, Callable[[Content, Page], Figure]]
    beside: str
    caption: str
    frames: Mapping[str, Callable[[Content], pd.DataFrame]] = field(default_factory=dict)
    from_cells: bool = True
    latex: bool = True
    heading: str = ""

    def page(self, profile: str, variant: str = "") -> Page:
        """The page of the figure under a profile."""
        files = f"The figure: {self.name}{variant}.png and the .pdf beside it; {self.beside.format(variant=variant)}."
        heading = self.heading or f"Figure {self.name.removeprefix('figure')}"
        return Page(profile, f"{heading}{where(profile)}", files)

    def draw(self, content: Content, page: Page) -> dict[str, dict[str, bytes]]:
        """Suffix of the picture's name → file type → content."""
        with drawing.style():
            return {name: drawing.files(draw(content, page)) for name, draw in self.pictures.items()}

    def report(self, asked: ReportRequest) -> Report:
        """The figure with all its files."""
        shown = self.gather(asked)
        page = self.page(asked.profile, shown.variant)
        drawn = self.draw(shown.content, page)
        first, *others = self.tables(shown.content, page)
        return Report(
            self.name,
            shown.variant,
            [replace(first, notes=(self.caption, *first.notes)), *others],
            shown.parts,
            {name: make(shown.content) for name, make in self.frames.items()},
            drawn.pop(""),
            {f"{self.name}{name}{shown.variant}.png": one["png"] for name, one in drawn.items()},
            planned=self.from_cells,
            latex=self.latex,
            look=self.caption,
        )
