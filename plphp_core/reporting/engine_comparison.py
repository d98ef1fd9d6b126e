"""Do both engines answer alike? What `generate` and `fast` answered, kept and took, cell by cell, sample by sample.

Greedy decoding takes the largest logit. Where two are as good as equal, the last bits of a sum decide, and these depend
on shapes: a few answers may differ, more of them in half precision. Every difference is counted and its cell named.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from plphp_core.analysis.comparable import SHARED, RowSpec, admits, comparable, same_documents, same_run
from plphp_core.analysis.results import NothingToShow, Results
from plphp_core.config.benchmark_catalogue import catalogue
from plphp_core.config.report_choices import Filters, Options
from plphp_core.config.run_settings import ENGINES
from plphp_core.records.cell_result import CellResult
from plphp_core.records.errors import ReportError, shortlist
from plphp_core.reporting import notes
from plphp_core.reporting.cell_answers import answers
from plphp_core.reporting.configured import rows_configured
from plphp_core.reporting.request import Report, ReportRequest, model_suffix, selection_suffix
from plphp_core.reporting.table_model import Table, TableCell, TableColumn, TableRow, number
from plphp_core.reporting.table_spec import TableSpec, WordColumn, where

FIELDS = {"answers": ("text", "new_tokens"), "retention": ("retention",), "KV bytes": ("kv_bytes", "kv_bytes_full")}
HEAD = tuple(TableColumn(name, text=True) for name in ("Method", "Setting", "Benchmark"))
NUMBERS = {  # name in the csv file → heading
    "samples": TableColumn("Samples"),
    "equal": TableColumn("equal", "Answers"),
    "different": TableColumn("different", "Answers"),
    "retention_equal": TableColumn("equal", "Retention"),
    "kv_bytes_equal": TableColumn("equal", "KV bytes"),
    **{f"{name}_ms_per_token": TableColumn(name, "Decode ms/token") for name in ENGINES},
    "ratio": TableColumn("ratio", "Decode ms/token"),
}
COUNTS = tuple(NUMBERS)[:5]
CSV_COLUMNS = ("model", "method", "setting", "benchmark", *NUMBERS, "example_doc_id",
               *(f"example_{name}" for name in ENGINES), "missing")  # fmt: skip
MOST = 8  # cells that a note names


@dataclass(frozen=True, eq=False)
class Comparison:
    """What is finished under each of ENGINES, and what both answered.

    Attributes:
        pairs: (row index, benchmark) of the cells that are finished under both, row by row.
        answers: a line per sample that both answered: row, benchmark, doc_id, the text of each engine, and whether they
            agree in each of FIELDS.
    """

    parts: tuple[Results, ...]
    pairs: tuple[tuple[int, str], ...]
    answers: pd.DataFrame

    def of(self, pair: tuple[int, str]) -> pd.DataFrame:
        """The answers of a pair."""
        return self.answers[(self.answers.row == pair[0]) & (self.answers.benchmark == pair[1])]

    def cells(self, pair: tuple[int, str]) -> list[CellResult]:
        """One per engine."""
        return [part.cells[pair] for part in self.parts]

    def timed_alike(self, pair: tuple[int, str]) -> bool:
        """Whether times can be compared: one machine, one batch size."""
        kinds = {(cell.hardware, cell.batch_size) for cell in self.cells(pair)}
        return len(kinds) == 1 and "; " not in min(kinds)[0]

    def missing(self) -> dict[tuple[int, str], list[str]]:
        """(row index, benchmark) → the engines under which the cell is not finished."""
        found: dict[tuple[int, str], list[str]] = {}
        for engine, part in zip(ENGINES, self.parts, strict=True):
            for at in part.missing():
                found.setdefault(at, []).append(engine)
        return found

    def name(self, row: int, benchmark: str) -> str:
        """How a note calls a cell."""
        return f"{self.parts[0].label(row)} on {benchmark}"


def under_both(cells: Sequence[CellResult]) -> list[CellResult]:
    """The cells of those kinds (limit, dtype and so on) that either engine has finished; all where no kind is."""
    fields = [name for name in SHARED if name != "engine"]
    kinds = {id(cell): tuple(getattr(cell, name) for name in fields) for cell in cells}
    common = set.intersection(*({kinds[id(cell)] for cell in cells if cell.engine == name} for name in ENGINES))
    return [cell for cell in cells if kinds[id(cell)] in common] or list(cells)


def compare(cells: Sequence[CellResult], rows: Sequence[RowSpec], filters: Filters, options: Options) -> Comparison:
    """Pair the cells of one model; `filters` names no engine.

    Raises:
        NothingToShow: no cell is finished under both engines.
        ReportError: cells that cannot be compared, or a journal without the answers of a cell.
    """
    names = tuple(catalogue().ordered(cell.benchmark for cell in cells))
    found = [comparable(cells, rows, names, replace(filters, engine=engine)) for engine in ENGINES]
    both = [at for at in found[0] if at in found[1]]
    if not both:
        counts = " and ".join(f"{len(some)} under {engine}" for engine, some in zip(ENGINES, found, strict=True))
        raise NothingToShow(f"no cell is finished under both engines ({counts}); `make compare-engines` runs both")
    paired = [cell for at in both for cell in (found[0][at], found[1][at])]
    same_run(paired, [name for name in SHARED if name != "engine"])
    same_documents(paired)
    both.sort(key=lambda at: (at[0], names.index(at[1])))
    parts = tuple(Results(paired[0].model, tuple(rows), options, names, cells=some) for some in found)
    lines = [line for at in both for line in _compared(at, found[0][at], found[1][at])]
    columns = ["row", "benchmark", "doc_id", *ENGINES, *FIELDS]
    return Comparison(parts, tuple(both), pd.DataFrame(lines, columns=columns).astype(dict.fromkeys(FIELDS, bool)))


def _compared(at: tuple[int, str], *cells: CellResult) -> Iterator[tuple]:
    """A line of `Comparison.answers` for each sample that both cells answered."""
    one, other = map(_lines, cells)
    for doc in sorted(one.keys() & other.keys()):
        alike = (all(one[doc][name] == other[doc][name] for name in fields) for fields in FIELDS.values())
        yield *at, doc, one[doc]["text"], other[doc]["text"], *alike


def _lines(cell: CellResult) -> dict[int, dict]:
    """The answers that a cell file was made from, by sample number.

    Raises:
        ReportError: the journal does not hold them all.
    """
    folder = cell.path.parents[1]
    found = answers(cell, folder)
    if len(found.lines) < cell.n:
        raise ReportError(
            f"{folder / cell.journal} does not hold the answers {cell.path.name} was made from"
            f"{f' ({found.missing})' if found.missing else ''}; run it again with rescore=true"
        )
    return found.lines


def table(found: Comparison) -> pd.DataFrame:
    """One line per pair, with its first answers that differ; one per missing cell; the sum. Times in milliseconds."""
    lines = []
    for pair in found.pairs:
        own, line = found.of(pair), _head(found, *pair) | _numbers(found, [pair])
        for one in own[~own.answers].head(1).to_dict("records"):
            line |= {"example_doc_id": one["doc_id"]} | {f"example_{name}": one[name] for name in ENGINES}
        lines.append(line)
    lines += [_head(found, *at) | {"missing": " and ".join(engines)} for at, engines in found.missing().items()]
    whole = {"model": found.parts[0].model, "method": "all", "benchmark": "all"}
    lines.append(whole | _numbers(found, found.pairs))
    return pd.DataFrame(lines, columns=CSV_COLUMNS).astype(dict.fromkeys([*COUNTS, "example_doc_id"], "Int64"))


def _head(found: Comparison, row: int, benchmark: str) -> dict:
    results = found.parts[0]
    return {
        "model": results.model,
        "method": results.rows[row].method,
        "setting": results.setting(row),
        "benchmark": benchmark,
    }


def _numbers(found: Comparison, pairs: Sequence[tuple[int, str]]) -> dict[str, float]:
    """Samples of the pairs together and how many agree; medians over samples of the time per token, fast's share."""
    own = pd.concat(map(found.of, pairs))
    equal = {what: int(own[what].sum()) for what in FIELDS}
    generate, fast = (_median([part.cells[at].costs["decode_ms_per_token"] for at in pairs]) for part in found.parts)
    return {
        "samples": len(own),
        "equal": equal["answers"],
        "different": len(own) - equal["answers"],
        "retention_equal": equal["retention"],
        "kv_bytes_equal": equal["KV bytes"],
        "generate_ms_per_token": generate,
        "fast_ms_per_token": fast,
        "ratio": fast / generate if all(map(found.timed_alike, pairs)) else math.nan,
    }


def _median(samples: Sequence[np.ndarray]) -> float:
    """Of all samples that were decoded beyond their first token; nan without any."""
    known = np.concatenate(samples)
    known = known[~np.isnan(known)]
    return float(np.median(known)) if len(known) else math.nan


def sheet(found: Comparison, profile: str) -> Table:
    """One row per pair, and their sum."""
    results = found.parts[0]
    numbers = [_numbers(found, pairs) for pairs in (*([pair] for pair in found.pairs), found.pairs)]
    rows, above = [], None
    for row, benchmark in found.pairs:
        rows.append(TableRow.of(results.rows[row].label, results.setting(row), benchmark, rule=row != above))
        above = row
    rows.append(TableRow.of("All cells", "", "", rule=True))

    def column(name: str) -> WordColumn:
        text = "{:,}".format if name in COUNTS else number
        return WordColumn(NUMBERS[name], lambda index: TableCell(text(numbers[index][name])))

    dtype = found.cells(found.pairs[0])[0].dtype
    title = f"Engines{where(profile)}: generate and fast on {results.title}, {dtype}"
    return TableSpec(title, HEAD, rows, list(map(column, NUMBERS)), _notes(found, profile)).numbers()


def report(asked: ReportRequest) -> Report:
    """The comparison of both engines on the rows of Table 1, with all its files.

    Raises:
        NothingToShow: an engine is asked for, or no cell is finished under both.
        ReportError: cells that cannot be compared, or a journal without the answers of a cell.
    """
    if asked.filters.engine is not None:
        raise NothingToShow(f"both engines are compared; leave out engine={asked.filters.engine}")
    cells = under_both([cell for cell in asked.cells if admits(asked.of_model, cell)])
    cells = asked.usual_cells(cells=cells, leave=["engine"])
    rows = rows_configured("table1", asked.profile, asked.options.model)
    found = compare(cells, rows, asked.of_model, asked.choices)
    variant = model_suffix(asked.options) + selection_suffix(asked, found.parts)
    return Report("engines", variant, [sheet(found, asked.profile)], found.parts, {"": table(found)}, latex=False)


def _notes(found: Comparison, profile: str) -> list[str]:
    cells = f"all {len(found.pairs)} cells" if len(found.pairs) > 1 else "the one cell"
    verdicts = [_unlike(found, what) for what in FIELDS]
    said = [verdict for verdict in verdicts if verdict]
    if not said:
        said = [f"Identical in {cells}: {len(found.answers):,} answers, the retention of every layer and the KV bytes."]
    if verdicts[0]:
        said.append(_largest_change(found))
    if missing := found.missing():
        absent = [f"{found.name(*at)} ({' and '.join(engines)})" for at, engines in missing.items()]
        said.append(f"Not compared, since not finished under an engine: {shortlist(absent, MOST, '; ')}.")
    counts = {pair: sum(cell.n for cell in found.cells(pair)) - 2 * len(found.of(pair)) for pair in found.pairs}
    if alone := [f"{found.name(*pair)}: {count}" for pair, count in counts.items() if count]:
        said.append(
            f"Samples that only one engine answered, and that are not compared: {shortlist(alone, MOST, '; ')}."
        )
    return [
        *said,
        "Time per token: median over samples of one run each, a batch's time shared by its samples, worth comparing "
        "only if the machine did nothing else; ratio: fast / generate, n/a where machine or batch size differ.",
        notes.profile(profile, several=False),
        *dict.fromkeys(notes.run(found.parts)),
    ]


def _unlike(found: Comparison, what: str) -> str:
    """Which cells do not agree in one of FIELDS; empty if all do."""
    counts = {found.name(*pair): int((~found.of(pair)[what]).sum()) for pair in found.pairs}
    differing = [f"{name} ({count})" for name, count in counts.items() if count]
    if not differing:
        return ""
    share = f"{sum(counts.values()):,} of {len(found.answers):,} samples"
    cells = f"{len(differing)} of {len(counts)} cells"
    return f"{what[0].upper()}{what[1:]} differ in {share}, in {cells}: {shortlist(differing, MOST, '; ')}."


def _largest_change(found: Comparison) -> str:
    changes = [
        (abs(other - one), f"{head} of {found.name(row, benchmark)}")
        for row, benchmark in found.pairs
        for metric, head in found.parts[0].headings(benchmark).items()
        for one, other in [[part.value(row, benchmark, metric).value for part in found.parts]]
        if not math.isnan(one + other)
    ]
    if not changes:
        return "No score is there to be compared between the engines."
    change, place = max(changes)
    return f"Largest change of a score (×100) between the engines: {number(100 * change)}, {place}."
