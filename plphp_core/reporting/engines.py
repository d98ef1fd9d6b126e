"""Do both engines answer alike? What `generate` and `fast` answered, kept and took, cell by cell, sample by sample.

Greedy decoding takes the largest logit. Where two are as good as equal, the last bits of a sum decide, and these depend
on shapes: a few answers may differ, more of them in half precision. Every difference is counted and its cell named.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from plphp_core.analysis.comparable import SHARED, RowSpec, comparable, same_documents, same_run
from plphp_core.analysis.results import NothingToShow, Results
from plphp_core.config.benchmark_catalogue import catalogue
from plphp_core.config.report_choices import Filters, Options
from plphp_core.config.run_settings import ENGINES
from plphp_core.records.cell_result import CellResult
from plphp_core.records.errors import ReportError
from plphp_core.reporting.cell_answers import answers

FIELDS = {"answers": ("text", "new_tokens"), "retention": ("retention",), "KV bytes": ("kv_bytes", "kv_bytes_full")}


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
