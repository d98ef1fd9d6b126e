"""Do both engines answer alike? What `generate` and `fast` answered, kept and took, cell by cell, sample by sample.

Greedy decoding takes the largest logit. Where two are as good as equal, the last bits of a sum decide, and these depend
on shapes: a few answers may differ, more of them in half precision. Every difference is counted and its cell named.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from plphp_core.analysis.comparable import SHARED, RowSpec, admits, comparable, same_documents, same_run
from plphp_core.analysis.results import NothingToShow, Results
from plphp_core.config.benchmark_catalogue import catalogue
from plphp_core.config.report_choices import Filters, Options
from plphp_core.config.run_settings import ENGINES
from plphp_core.records.cell_result import CellResult
from plphp_core.records.errors import ReportError
from plphp_core.reporting import notes
from plphp_core.reporting.cell_answers import answers
from plphp_core.reporting.configured import rows_configured
from plphp_core.reporting.request import Report, ReportRequest, model_suffix, selection_suffix
from plphp_core.reporting.table_model import TableCell, TableColumn, TableRow, number
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
class Pair:
    """A cell finished under both engines.

    row: its row's index; cells: one per engine; lines: per sample that both answered the journal lines of both, by
    sample number.
    """

    row: int
    benchmark: str
    cells: tuple[CellResult, CellResult]
    lines: tuple[tuple[dict, dict], ...]

    def unlike(self, what: str) -> list[tuple[dict, dict]]:
        """The lines that do not agree in one of FIELDS."""
        return [both for both in self.lines if any(both[0][name] != both[1][name] for name in FIELDS[what])]

    @property
    def unpaired(self) -> int:
        """Samples that only one engine answered."""
        return sum(cell.n for cell in self.cells) - 2 * len(self.lines)

    @property
    def timed_alike(self) -> bool:
        """Whether times can be compared: one machine, one batch size."""
        machines = {cell.hardware for cell in self.cells}
        return len(machines) == 1 and "; " not in min(machines) and len({cell.batch_size for cell in self.cells}) == 1


@dataclass(frozen=True, eq=False)
class Comparison:
    """`parts`: what is finished under each of ENGINES; `pairs`: what is finished under both, row by row."""

    parts: tuple[Results, ...]
    pairs: tuple[Pair, ...]

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
    parts = tuple(Results(paired[0].model, tuple(rows), options, names, cells=some) for some in found)
    return Comparison(
        parts,
        tuple(
            _pair(at, (found[0][at], found[1][at])) for at in sorted(both, key=lambda at: (at[0], names.index(at[1])))
        ),
    )


def _pair(at: tuple[int, str], cells: tuple[CellResult, CellResult]) -> Pair:
    one, other = map(_lines, cells)
    return Pair(*at, cells, tuple((one[doc], other[doc]) for doc in sorted(one.keys() & other.keys())))


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
        line = _head(found, pair.row, pair.benchmark) | _numbers([pair])
        if different := pair.unlike("answers"):
            line["example_doc_id"] = different[0][0]["doc_id"]
            line |= {f"example_{name}": one["text"] for name, one in zip(ENGINES, different[0], strict=True)}
        lines.append(line)
    for at, engines in found.missing().items():
        lines.append(_head(found, *at) | {"missing": " and ".join(engines)})
    lines.append({"model": found.parts[0].model, "method": "all", "benchmark": "all"} | _numbers(found.pairs))
    return pd.DataFrame(lines, columns=CSV_COLUMNS).astype(dict.fromkeys([*COUNTS, "example_doc_id"], "Int64"))


def _head(found: Comparison, row: int, benchmark: str) -> dict:
    results = found.parts[0]
    return {
        "model": results.model,
        "method": results.rows[row].method,
        "setting": results.setting(row),
        "benchmark": benchmark,
    }


def _numbers(pairs: Sequence[Pair]) -> dict[str, float]:
    """Samples of the pairs together and how many agree; medians over samples of the time per token, fast's share."""
    samples = sum(len(pair.lines) for pair in pairs)
    equal = {what: samples - sum(len(pair.unlike(what)) for pair in pairs) for what in FIELDS}
    generate, fast = (_median([pair.cells[at].costs["decode_ms_per_token"] for pair in pairs]) for at in (0, 1))
    alike = all(pair.timed_alike for pair in pairs)
    return {
        "samples": samples,
        "equal": equal["answers"],
        "different": samples - equal["answers"],
        "retention_equal": equal["retention"],
        "kv_bytes_equal": equal["KV bytes"],
        "generate_ms_per_token": generate,
        "fast_ms_per_token": fast,
        "ratio": fast / generate if alike else math.nan,
    }


def _median(samples: Sequence[np.ndarray]) -> float:
    """Of all samples that were decoded beyond their first token; nan without any."""
    known = np.concatenate(samples)
    known = known[~np.isnan(known)]
    return float(np.median(known)) if len(known) else math.nan


def spec(found: Comparison, profile: str) -> TableSpec:
    """One row per pair, and their sum."""
    results = found.parts[0]
    numbers = [_numbers(pairs) for pairs in (*([pair] for pair in found.pairs), found.pairs)]
    rows, above = [], None
    for pair in found.pairs:
        front = (results.rows[pair.row].label, results.setting(pair.row), pair.benchmark)
        rows.append(TableRow.of(*front, rule=pair.row != above))
        above = pair.row
    rows.append(TableRow.of("All cells", "", "", rule=True))

    def column(name: str) -> WordColumn:
        text = "{:,}".format if name in COUNTS else number
        return WordColumn(NUMBERS[name], lambda index: TableCell(text(numbers[index][name])))

    what = f"generate and fast on {results.title}, {found.pairs[0].cells[0].dtype}"
    columns = list(map(column, NUMBERS))
    return TableSpec(f"Engines{where(profile)}", what, results, columns, _notes(found, profile), (), rows, HEAD)


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
    sheets = [spec(found, asked.profile).numbers()]
    return Report("engines", variant, sheets, found.parts, {"": table(found)}, latex=False)


def _notes(found: Comparison, profile: str) -> list[str]:
    samples = sum(len(pair.lines) for pair in found.pairs)
    cells = f"all {len(found.pairs)} cells" if len(found.pairs) > 1 else "the one cell"
    verdicts = [_unlike(found, what) for what in FIELDS]
    said = [verdict for verdict in verdicts if verdict]
    if not said:
        said = [f"Identical in {cells}: {samples:,} answers, the retention of every layer and the KV bytes."]
    if verdicts[0]:
        said.append(_largest_change(found))
    if missing := found.missing():
        absent = [f"{found.name(*at)} ({' and '.join(engines)})" for at, engines in missing.items()]
        said.append(f"Not compared, since not finished under an engine: {_listed(absent)}.")
    alone = {found.name(pair.row, pair.benchmark): pair.unpaired for pair in found.pairs if pair.unpaired}
    if alone:
        listed = _listed([f"{name}: {count}" for name, count in alone.items()])
        said.append(f"Samples that only one engine answered, and that are not compared: {listed}.")
    return [
        *said,
        "Time per token: median over samples of one run each, a batch's time shared by its samples, worth comparing "
        "only if the machine did nothing else; ratio: fast / generate, n/a where machine or batch size differ.",
        notes.profile(profile, several=False),
        *dict.fromkeys(notes.run(found.parts)),
    ]


def _unlike(found: Comparison, what: str) -> str:
    """Which cells do not agree in one of FIELDS; empty if all do."""
    counts = {found.name(pair.row, pair.benchmark): len(pair.unlike(what)) for pair in found.pairs}
    differing = [f"{name} ({count})" for name, count in counts.items() if count]
    if not differing:
        return ""
    share = f"{sum(counts.values()):,} of {sum(len(pair.lines) for pair in found.pairs):,} samples"
    return (
        f"{what[0].upper()}{what[1:]} differ in {share}, in {len(differing)} of {len(counts)} cells: "
        f"{_listed(differing)}."
    )


def _largest_change(found: Comparison) -> str:
    changes = []
    for pair in found.pairs:
        for metric, head in found.parts[0].headings(pair.benchmark).items():
            values = [cell.metrics[metric].value for cell in pair.cells if metric in cell.metrics]
            if len(values) < 2 or any(map(math.isnan, values)):
                continue
            changes.append((abs(values[1] - values[0]), f"{head} of {found.name(pair.row, pair.benchmark)}"))
    if not changes:
        return "No score is there to be compared between the engines."
    change, place = max(changes)
    return f"Largest change of a score (×100) between the engines: {number(100 * change)}, {place}."


def _listed(names: Sequence[str]) -> str:
    return "; ".join(names[:MOST]) + (f" and {len(names) - MOST} more" if len(names) > MOST else "")
