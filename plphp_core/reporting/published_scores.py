"""Scores that others have printed for a protocol: `<table>.yaml` beside the paper's own numbers, with their sources."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from plphp_core.analysis.method_style import method_style
from plphp_core.records.errors import ReportError

APART = 0.002  # printed values that differ by more than this share of the larger one contradict each other


@dataclass(frozen=True)
class Source:
    """Where rows are printed.

    Attributes:
        short: as the column of sources names it; said: in full, a sentence without its stop.
        own: whether its rows are of its authors' own method, unless a row says otherwise.
        full: scores of the uncompressed model in the same place, by column.
    """

    short: str
    said: str
    own: bool
    full: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class PublishedRow:
    """One printed row.

    Attributes:
        model: of the configuration; budget: as the source names it; None: none, or no budget of the table.
        method: the name of ours, or what it would be; label: as the source calls it; setting: its parameters.
        own: whether the source is the method's own paper or README.
        scores: by column, in the units that our tables print.
    """

    model: str
    budget: float | None
    method: str
    label: str
    setting: str
    source: Source
    own: bool
    scores: Mapping[str, float]


@dataclass(frozen=True)
class PublishedScores:
    """The rows of a protocol, in the file's order. columns: benchmarks, or a score of one as `MME/Perception`."""

    columns: tuple[str, ...]
    rows: tuple[PublishedRow, ...]

    def of(self, model: str) -> PublishedScores:
        """Those of a model."""
        return replace(self, rows=tuple(row for row in self.rows if row.model == model))

    def at(self, budget: float | None) -> list[PublishedRow]:
        """Those of a budget."""
        return [row for row in self.rows if row.budget == budget]

    def contradicted(self, row: PublishedRow, column: str) -> bool:
        """Whether another source prints another number for the same method at the same budget."""
        value = row.scores[column]
        others = (
            one for one in self.rows if (one.model, one.budget, one.method) == (row.model, row.budget, row.method)
        )
        known = (one.scores[column] for one in others if column in one.scores and one.setting == row.setting)
        return any(abs(value - other) > APART * max(value, other) for other in known)


def load_published_scores(folder: Path, table: str) -> PublishedScores:
    """The rows of `folder/<table>.yaml`; none where there is no such file.

    Raises:
        ReportError: the file is malformed; the message names it and what is wrong.
    """
    path = folder / f"{table}.yaml"
    if not path.exists():
        return PublishedScores((), ())
    try:
        plain = yaml.safe_load(path.read_text(encoding="utf-8"))
        columns, factors = tuple(plain["columns"]), plain.get("factors") or {}

        def scores(printed: Any) -> dict[str, float]:
            if len(printed) != len(columns):
                raise ValueError(f"{printed} has {len(printed)} scores for {len(columns)} columns")
            pairs = zip(columns, printed, strict=True)
            return {name: float(value) * factors.get(name, 1) for name, value in pairs if value is not None}

        sources = {
            name: Source(one["short"], one["said"], one["own"], scores(one["full"]) if "full" in one else {})
            for name, one in plain["sources"].items()
        }
        rows = tuple(
            PublishedRow(
                model=one.get("model", plain["model"]),
                budget=one["budget"],
                method=one["method"],
                label=one.get("label") or method_style(one["method"]).label,
                setting=one.get("setting", ""),
                source=sources[one["source"]],
                own=one.get("own", sources[one["source"]].own),
                scores=scores(one["scores"]),
            )
            for one in plain["rows"]
        )
    except (yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise ReportError(f"{path}: no list of published scores ({type(error).__name__}: {error})") from error
    return PublishedScores(columns, rows)
