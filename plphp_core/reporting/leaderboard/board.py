"""The leaderboard's tables and files: one table per model, what was refused, who submitted what, and how to read it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from plphp_core.analysis.bootstrap import DECODE, KV_SAVED, RETENTION
from plphp_core.config.report_choices import Filters, Options
from plphp_core.records.atomic import write_atomically
from plphp_core.records.record import visible
from plphp_core.reporting import render
from plphp_core.reporting.leaderboard.ranking import BANDS, Ranking, Refusal, rankings
from plphp_core.reporting.leaderboard.submission import Submission, submissions
from plphp_core.reporting.page.html_page import filled_template
from plphp_core.reporting.page.sections import TableView
from plphp_core.reporting.score_columns import scores
from plphp_core.reporting.table_model import NA, Table, TableCell, TableColumn, TableRow
from plphp_core.reporting.table_spec import (
    NumberColumn,
    TableSpec,
    WordColumn,
    nothing,
    share,
    signed_percent,
    where,
)

NAME = "leaderboard"
LONGEST = 80  # characters of a name that somebody else chose
HEAD = tuple(TableColumn(name, text=True) for name in ("Budget", "Method", "Setting", "Submission"))
READING = (
    "Budget: how many of the vision tokens a row keeps, as measured. Best and second are those of a budget; "
    "uncompressed rows do not compete.",
    "Average change: unweighted mean over the score columns of the change against the uncompressed row of the same "
    "submission, or the first one's; n/a where a row lacks a benchmark of the table. In parentheses 95% intervals: all "
    "rows are drawn on the same samples.",
    "Vision kept: share of the vision tokens in the cache, mean over layers, samples and the row's benchmarks. Decode: "
    "median per token, mean over the row's benchmarks; compare it on the same hardware only.",
)
CHECKED = (
    "Checked of each cell: that it can be read, that its value is the mean of its samples' scores, that nothing in it "
    "was changed after it was written, and that it can be compared. Not checked: whether somebody measured what it "
    "says. The answers behind a submission are in its journal."
)


@dataclass(frozen=True)
class Board:
    """All that is shown. `said`: one sentence on what there is."""

    profile: str
    submitted: Sequence[Submission]
    rankings: Sequence[Ranking]
    refused: Sequence[Refusal]

    @property
    def damaged(self) -> list[tuple[str, str, str]]:
        """Submission, file and what is wrong with it."""
        return [(one.name, file, why) for one in self.submitted for file, why in one.damaged.items()]

    @property
    def said(self) -> str:
        rows = sum(len(one.results.rows) for one in self.rankings)
        methods = {row.method for one in self.rankings for row in one.results.rows} - {"none"}
        benchmarks = {name for one in self.rankings for name in one.results.benchmarks}
        counts = [(rows, "row"), (len(methods), "method"), (len(self.rankings), "model"),
                  (len(benchmarks), "benchmark"), (len(self.submitted), "submission")]  # fmt: skip
        there = ", ".join(f"{count} {name}{'s' * (count != 1)}" for count, name in counts)
        refused, damaged = len(self.refused), len(self.damaged)
        lost = f"{refused or 'No'} row{'s' * (refused != 1)} refused, {damaged or 'no'} file{'s' * (damaged != 1)}"
        return f"{there}. {lost} damaged."

    @property
    def tables(self) -> list[Table]:
        """One per model, then what is not in them, then the submissions."""
        found = [_table(one, self.profile) for one in self.rankings]
        found += [_refused(self.refused)] * bool(self.refused) + [_damaged(self.damaged)] * bool(self.damaged)
        return [*found, _submissions(self.submitted)]

    @property
    def frame(self) -> pd.DataFrame:
        """One line per model, row, benchmark and metric. Scores and shares are fractions."""
        lines = [line for one in self.rankings for line in _lines(one)]
        columns = ["model", "benchmark", "metric", "method", "setting", "submission", "score", "low", "high", "n",
                   "vision_kept", "kv_saved", "decode_ms_per_token", "hardware", "versions"]  # fmt: skip
        return pd.DataFrame(lines, columns=columns)


def made(folders: Sequence[Path], profile: str, filters: Filters, options: Options) -> Board:
    """The leaderboard of these results folders."""
    found = submissions(folders, profile)
    return Board(profile, found, *rankings(found, filters, options, profile))


def written(board: Board, folder: Path) -> list[Path]:
    """Write the page, then leaderboard.md and .csv, into `folder`. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    csv = board.frame.map(lambda one: _plain(one) if isinstance(one, str) else one)
    views = list(map(TableView, board.tables))  # under the same rules as the report's page: they may come from anybody
    page = {"said": board.said, "profile": board.profile, "tables": views, "browser": {"sets": []}}
    content = {
        "html": filled_template("leaderboard.html", page),
        "md": render.markdown(board.tables).encode(),
        "csv": visible(csv.to_csv(index=False, na_rep=NA, float_format="%.8g")).encode(),
    }
    for kind, data in content.items():
        write_atomically(folder / f"{NAME}.{kind}", data)
    return [folder / f"{NAME}.{kind}" for kind in content]


def _table(one: Ranking, profile: str) -> Table:
    """A model's rows: key columns, scores with intervals, times."""
    results = one.results

    def machines(at: int) -> TableCell:
        hardware = dict.fromkeys(cell.hardware for (own, _), cell in results.cells.items() if own == at)
        return TableCell(_short(", ".join(hardware)))

    columns: list[NumberColumn | WordColumn] = [
        NumberColumn(
            TableColumn("change", "Average"), one.change, signed_percent, ranked=True, inline=True,
            instead=lambda at: "reference" if one.reference(at) == at else None,
        ),
        NumberColumn(TableColumn("kept", "Vision"), lambda at: one.mean(at, RETENTION), share),
        NumberColumn(TableColumn("saved", "KV"), lambda at: one.mean(at, KV_SAVED), share),
    ]  # fmt: skip
    for column in scores(results, ()):
        heading = replace(column.heading, group=_short(column.heading.group))
        columns.append(replace(column, heading=heading, inline=True, mark=nothing))
    columns.append(NumberColumn(TableColumn("ms/token", "Decode"), lambda at: one.mean(at, DECODE), scale=1))
    columns.append(WordColumn(TableColumn("Hardware", text=True), machines))
    rows = []
    for at, row in enumerate(results.rows):
        band = f"at most {one.band(at):.0%}" if one.band(at) < 1 else "any"
        front = (band, row.label, _short(results.setting(at)), one.submitted[at])
        rows.append(TableRow.of(*front, rule=at == 0 or one.band(at) != one.band(at - 1)))
    pruned = [at for at, row in enumerate(results.rows) if row.method != "none"]
    competing = [[at for at in pruned if one.band(at) == band] for band in BANDS]
    title = f"{_short(results.title)}{where(profile)}"
    return TableSpec(title, HEAD, rows, columns, (*READING, *_conditions(one)), competing).numbers()


def _conditions(one: Ranking) -> list[str]:
    """Under which conditions every row of the table was measured."""
    cell = next(iter(one.results.cells.values()))
    names = ("checkpoint", "revision", "dtype", "attn_implementation", "protocol", "prompts", "engine", "limit")
    said = ", ".join(f"{name} {_short(str(getattr(cell, name)))}" for name in names if getattr(cell, name) is not None)
    sizes = {name: own for (_, name), own in one.results.cells.items()}
    samples = ", ".join(f"{_short(name)} {own.n + own.errors} of {own.population}" for name, own in sizes.items())
    lost = sum(own.errors for own in one.results.cells.values())
    failed = f" {lost} answers failed and are left out of the scores." if lost else ""
    return [f"All rows: {said}. Samples: {samples}.{failed}"]


def _refused(refused: Sequence[Refusal]) -> Table:
    columns = tuple(TableColumn(name, text=True) for name in ("Submission", "Model", "Row", "On", "Why"))
    rows = [
        TableRow.of(
            one.submission, _short(one.model), _short(f"{one.row.label} {one.row.setting}".strip()),
            ", ".join(map(_short, one.benchmarks)), _short(one.why, 400),
        )
        for one in refused
    ]  # fmt: skip
    note = (
        "The first submission that has a model, in the order of results=[…], says under which conditions its rows are."
    )
    return Table("Refused: rows that cannot be compared", columns, tuple(rows), (note,))


def _damaged(damaged: Sequence[tuple[str, str, str]]) -> Table:
    columns = tuple(TableColumn(name, text=True) for name in ("Submission", "File", "What is wrong"))
    rows = [TableRow.of(*(_short(part, 400) for part in one)) for one in damaged]
    return Table("Damaged: files that are not in the tables", columns, tuple(rows))


def _submissions(submitted: Sequence[Submission]) -> Table:
    names = ("Submission", "Cells", "Answers", "Failed", "Hardware", "Versions", "Finished")
    columns = tuple(TableColumn(name, text=name not in names[1:4]) for name in names)
    rows = []
    for one in submitted:
        hardware = sorted({cell.hardware for cell in one.cells})
        days = sorted({cell.finished[:10] for cell in one.cells})
        counts = [len(one.cells), sum(cell.n for cell in one.cells), sum(cell.errors for cell in one.cells)]
        texts = (", ".join(hardware), "; ".join(sorted({_versions(cell) for cell in one.cells})))
        until = " to ".join(dict.fromkeys((days[0], days[-1]))) if days else ""
        shown = [_short(text, 400) or NA for text in (*texts, until)]
        rows.append(TableRow.of(one.name, *(f"{count:,}" for count in counts), *shown))
    return Table("Submissions", columns, tuple(rows), (CHECKED,))


def _versions(cell) -> str:
    return ", ".join(f"{name} {at}" for name, at in sorted(cell.versions.items())) or "unrecorded"


def _lines(one: Ranking) -> list[tuple]:
    results = one.results
    return [
        (
            results.model, name, metric, row.method, results.setting(at), one.submitted[at], score.value, score.low,
            score.high, cell.n, results.value(at, name, RETENTION).value, results.value(at, name, KV_SAVED).value,
            results.value(at, name, DECODE).value, cell.hardware, _versions(cell),
        )
        for at, row in enumerate(results.rows)
        for name, metric, _ in results.score_places()
        if (cell := results.cells.get((at, name))) and (score := results.value(at, name, metric))
    ]  # fmt: skip


def _short(text: str, longest: int = LONGEST) -> str:
    """A text of somebody else's, in a line of bounded length."""
    line = " ".join(text.split())
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def _plain(text: str) -> str:
    """Text that a spreadsheet does not take for a formula."""
    return f"'{text}" if text[:1] in "=+-@\t\r" and text else text
