"""What the command line asks of a report, and a report ready to be written."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from plphp_core.analysis.comparable import admits, one_protocol, same_documents, same_run
from plphp_core.analysis.results import NothingToShow, Results, evaluate, protocol
from plphp_core.analysis.usual_kind import Choice, usual_kind
from plphp_core.config.benchmark_catalogue import catalogue
from plphp_core.config.report_choices import Filters, Options
from plphp_core.config.report_settings import MODEL, ReportSettings
from plphp_core.config.run_settings import PROTOCOL_PROMPTS
from plphp_core.records.attention_result import AttentionResult, load_readings
from plphp_core.records.cell_result import CellResult
from plphp_core.records.record import visible
from plphp_core.reporting import render
from plphp_core.reporting.attention_results import by_model, usual_readings
from plphp_core.reporting.configured import (
    benchmarks_configured,
    dtype_configured,
    is_planned,
    rows_configured,
)
from plphp_core.reporting.table_model import Table

if TYPE_CHECKING:
    from plphp_core.claims.claim_finding import ClaimFinding

FIGURES = ("figure", "token_maps")  # how the names of figures begin
LEDGER, THIRD_PARTIES, ENGINES = "claims", "third_parties", "engines"
LAST = ("sweep", ENGINES, LEDGER, THIRD_PARTIES)  # the ledgers judge what the others show
ONE_FOR_ALL = ("protocol", "prompts", "limit", "limit_seed")  # dtype and checkpoint are each model's own


def report_order(name: str) -> tuple:
    """Sorts reports: the paper's tables, tables of one's own, figures, LAST."""
    place = LAST.index(name) + 1 if name in LAST else 0
    return place, name.startswith(FIGURES), not re.fullmatch(r"table\d+", name), name


@dataclass(frozen=True)
class Report:
    """A table or figure ready to be written: its sheets and the models behind it. `name` starts its files' names.

    tables: suffix of the name → what the csv file holds; pictures: file type → content; extra: further files by name.
    planned: whether a place without a finished cell is missing; otherwise the rows are whatever was run.
    latex: whether there is a .tex file; findings: of the claims ledger; look: what to look for in the pictures.
    """

    name: str
    variant: str
    sheets: Sequence[Table]
    parts: Sequence[Results]
    tables: Mapping[str, pd.DataFrame]
    pictures: Mapping[str, bytes] = field(default_factory=dict)
    extra: Mapping[str, str | bytes] = field(default_factory=dict)
    planned: bool = True
    latex: bool = True
    findings: Sequence[ClaimFinding] = ()
    look: str = ""

    def files(self) -> dict[str, str | bytes]:
        """File name → content."""
        csv = {"index": False, "na_rep": "n/a", "float_format": "%.8g"}
        return {
            **{
                f"{self.name}{kind}{self.variant}.csv": visible(table.to_csv(**csv))
                for kind, table in self.tables.items()
            },
            f"{self.name}{self.variant}.md": render.markdown(self.sheets),
            **({f"{self.name}{self.variant}.tex": render.latex(self.sheets)} if self.latex else {}),
            **{f"{self.name}{self.variant}.{kind}": content for kind, content in self.pictures.items()},
            **self.extra,
        }


@dataclass(frozen=True)
class ReportRequest:
    """What the command line asks for. `options` are its own; paths below `root` are shown relative to it."""

    cells: Sequence[CellResult]
    options: ReportSettings
    root: Path
    said: dict[str, None] = field(default_factory=dict)  # what was taken of several kinds, line by line, each once

    def usual_cells(
        self, models: Collection[str] = (), cells: Sequence[CellResult] | None = None, leave: Collection[str] = ()
    ) -> list[CellResult]:
        """The cells as `usual_kind` leaves those of `models`, or all if none are named; what it took is noted.

        Args:
            cells: among which to choose, instead of all.
            leave: fields that stay as they are.
        """

        def admitted(cell: CellResult) -> bool:
            return admits(self.filters, cell) and (not models or cell.model in models)

        every = self.cells if cells is None else cells
        found = usual_kind(every, self.filters, self.usual_dtype, admitted, leave)
        self.note(found)
        return found.results

    def note(self, found: Choice) -> None:
        """Keep what a choice says, for the command to print."""
        if found.said:
            self.said[found.said] = None

    @property
    def filters(self) -> Filters:
        """Which finished cells were asked for."""
        return self.options.filters

    @property
    def choices(self) -> Options:
        """How to count what the paper leaves open."""
        return self.options.choices

    @property
    def own_cells(self) -> list[CellResult]:
        """Of the model that most tables are about."""
        return self.usual_cells([self.options.model])

    def attention(self) -> dict[str, list[AttentionResult]]:
        """Model → its attention readings. Raises ReportError as `readings` does."""
        found = usual_readings(load_readings(self.folder / "attention"), self.filters, self.usual_dtype)
        self.note(found)
        return by_model(found.results, self.filters)

    def usual_dtype(self, model: str) -> str | None:
        """What a run of `model` computes in unless it is told otherwise; None if that is not known."""
        return dtype_configured(self.profile, model)

    @property
    def of_model(self) -> Filters:
        """The filters, for tables about one model."""
        return replace(self.filters, model=self.options.model)

    @property
    def profile(self) -> str:
        return self.options.profile

    @property
    def folder(self) -> Path:
        """Where the profile's results lie."""
        return self.options.results / self.options.profile


def on_benchmarks(name: str, asked: ReportRequest) -> tuple[Results, list[str], str]:
    """The rows of a table on its benchmarks or those chosen with tasks=…, these labels, and what files' names say."""
    labels = benchmarks_asked(name, asked)
    (results,) = evaluate_models(name, asked, [asked.options.model], labels)
    return results, labels, model_suffix(asked.options) + file_suffix(name, asked, [results], labels)


def benchmarks_asked(name: str, asked: ReportRequest) -> list[str]:
    """The labels of tasks=…, else those of the table; of a table that plans nothing, whatever has been run."""
    if asked.options.tasks is not None or is_planned(name):
        return benchmarks_configured(asked.options.tasks, name)
    return catalogue().ordered(cell.benchmark for cell in asked.own_cells if admits(asked.of_model, cell))


def evaluate_models(
    name: str,
    asked: ReportRequest,
    models: Sequence[str],
    labels: Sequence[str],
    skip: Collection[tuple[str, str]] = (),
) -> list[Results]:
    """The rows of a table under each of `models`; one without a finished cell has no numbers.

    A table that plans no rows has one for every setting that was run.

    Args:
        labels: of its benchmarks; skip: (model, label) places that it leaves out.
    Raises:
        NothingToShow: none of the models has a finished cell.
        ReportError: the choice of cells is ambiguous, or models were run differently.
    """
    cells = [cell for cell in asked.usual_cells(models) if cell.benchmark in labels]
    parts = []
    for model in models:
        rows = rows_configured(name, asked.profile, model) if is_planned(name) else None
        skipped = tuple(label for one, label in skip if one == model)
        try:
            parts.append(evaluate(cells, rows, replace(asked.filters, model=model), asked.choices, labels, skipped))
        except NothingToShow:
            ordered = tuple(catalogue().ordered(labels))
            parts.append(Results(model, tuple(rows or ()), asked.choices, ordered, skipped))
    chosen = [cell for part in parts for cell in part.cells.values()]
    if not chosen:
        raise NothingToShow(
            f"none of the {len(asked.cells)} finished cells belongs in {name} ({', '.join(models)}) with these options"
        )
    same_run(chosen, ONE_FOR_ALL)
    same_documents(chosen)
    return parts


def file_suffix(name: str, asked: ReportRequest, parts: Sequence[Results], labels: Sequence[str]) -> str:
    """What the names of a table's files say of its benchmarks and cells, where they are not the usual ones."""
    tasks = asked.options.tasks or ""
    usual = not tasks or (is_planned(name) and labels == benchmarks_configured(None, name))
    return ("" if usual else f".tasks={joined(tasks)}") + selection_suffix(asked, parts)


def joined(tasks: str) -> str:
    """Tasks as a file's name has them."""
    return "+".join(name.strip() for name in tasks.strip("[]").split(","))


def model_suffix(options: ReportSettings) -> str:
    return "" if options.model == MODEL else f".model={options.model}"


def selection_suffix(asked: ReportRequest, parts: Sequence[Results]) -> str:
    """What a file's name says of a table that is not the full one under the default protocol, so as not to replace it.

    A subset, another protocol, prompts that are not the protocol's own, a dtype that was asked for and is not usual.
    """
    cell = next(cell for part in parts for cell in part.cells.values())
    used = next(name for name in map(protocol, parts) if name)
    dtype = _other_dtype(asked, [part.model for part in parts])
    return _suffix(used, cell.prompts, cell.engine, cell.limit, cell.limit_seed) + dtype


def _suffix(used: str, prompts: str, engine: str, limit: int | None, seed: int | None) -> str:
    found = [f".protocol={used}"] * (used != "lmms_eval")
    found += [f".prompts={prompts}"] * (prompts != PROTOCOL_PROMPTS.get(used, prompts))
    found += [f".engine={engine}"] * (engine != "generate")
    if limit is not None:
        found += [f".limit={limit}"] + [f".seed={seed}"] * bool(seed)
    return "".join(found)


def _other_dtype(asked: ReportRequest, models: Sequence[str]) -> str:
    dtype = asked.filters.dtype
    return "" if dtype in (None, *map(asked.usual_dtype, models)) else f".dtype={dtype}"


def asked_suffix(asked: ReportRequest) -> str:
    """As `selection_suffix`, of everything that is asked for together, also where nothing of it is finished.

    What the command line leaves open is what all cells agree in that are left after `usual_kind`, otherwise the
    usual.
    """
    fits = partial(admits, asked.filters)
    admitted = list(filter(fits, usual_kind(asked.cells, asked.filters, asked.usual_dtype, fits).results))
    uncaptioned = [cell for cell in admitted if not one_protocol(cell.benchmark)]

    def common(name: str, usual: Any, cells: Sequence[CellResult] = admitted) -> Any:
        given = getattr(asked.filters, name)
        found = {getattr(cell, name) for cell in cells}
        return given if asked.filters.given(name) else found.pop() if len(found) == 1 else usual

    used = common("protocol", "lmms_eval", uncaptioned)
    prompts = common("prompts", PROTOCOL_PROMPTS.get(used), uncaptioned)
    engine, limit, seed = common("engine", "generate"), common("limit", None), common("limit_seed", None)
    dtype = _other_dtype(asked, [asked.options.model])
    return model_suffix(asked.options) + _suffix(used, prompts, engine, limit, seed) + dtype
