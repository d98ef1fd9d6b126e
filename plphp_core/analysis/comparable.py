"""Which finished cell belongs in which place of a table.

A table compares like with like: one model, checkpoint, revision, precision, protocol and sample limit throughout, and
on every benchmark the same documents in every row. Which of several kinds is meant where nobody says is `usual_kind`'s
business; where the cells that come here disagree, the report refuses and names the files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from operator import attrgetter
from pathlib import Path
from typing import Any

from plphp_core.analysis.method_style import method_order, method_style
from plphp_core.config.benchmark_catalogue import catalogue
from plphp_core.config.report_choices import Filters
from plphp_core.config.table_rows import SYMBOLS
from plphp_core.records.cell_result import CellResult
from plphp_core.records.errors import ReportError, shortlist

SHARED = (
    "model", "checkpoint", "revision", "dtype", "attn_implementation", "protocol", "prompts", "engine", "limit",
    "limit_seed",
)  # fmt: skip
KEYS = {"checkpoint": "model.checkpoint", "revision": "model.revision"}  # of the configuration; others are as here
EXCLUDE = "report.exclude"
LEAVE_OUT = f"leave files out with {EXCLUDE}=[PATTERN]"
PER_BENCHMARK = ("task", "task_version", "data_revision", "population")


def one_protocol(benchmark: str) -> bool:
    """Whether the benchmark is asked and scored alike under every protocol."""
    return not catalogue()[benchmark].by_protocol


@dataclass(frozen=True)
class RowSpec:
    """A row of a table: a method and the parameters that name it. Parameters it leaves open may have any single value.

    `text` is how the setting is printed; without it the parameters are listed. `on`: benchmark → its own parameters,
    where they differ from one to the next; None: the row has no place there.
    """

    method: str
    params: dict[str, float | int | str] = field(default_factory=dict)
    text: str = ""
    on: Mapping[str, Mapping[str, Any] | None] = field(default_factory=dict)

    @property
    def label(self) -> str:
        return method_style(self.method).label

    @property
    def setting(self) -> str:
        return self.text or ", ".join(f"{SYMBOLS.get(name, name)}={value}" for name, value in self.params.items())

    def matches(self, cell: CellResult) -> bool:
        """True for cells of this method whose parameters include this row's."""
        own = self.on.get(cell.benchmark, {})
        if own is None or cell.method != self.method:
            return False
        return all(_same(cell.params.get(name), value) for name, value in {**self.params, **own}.items())


def _same(found: object, wanted: object) -> bool:
    if isinstance(found, (int, float)) and isinstance(wanted, (int, float)):
        return abs(found - wanted) < 1e-9
    return found == wanted


def admits(filters: Filters, cell: CellResult) -> bool:
    """Whether the user asked for such cells."""
    for name in SHARED:
        wanted, found = getattr(filters, name), getattr(cell, name)
        free = one_protocol(cell.benchmark) if name == "protocol" else name == "limit_seed" and cell.limit is None
        if filters.given(name) and wanted != found and not free:
            return False
    for (method, name), wanted in filters.params.items():
        if cell.method == method and not _written_alike(cell.params.get(name), wanted):
            return False
    return not any(fnmatch(cell.path.name, pattern) for pattern in filters.exclude)


def _written_alike(found: object, wanted: str) -> bool:
    try:
        return _same(found, float(wanted))
    except ValueError:
        return str(found) == wanted


def rows_found(cells: Iterable[CellResult]) -> list[RowSpec]:
    """One row per method and parameters among `cells`, in the paper's order of methods, then by parameters."""
    found: list[RowSpec] = []
    for cell in cells:  # a cell that several tables share is labelled by the one that ran it
        if not any(row.method == cell.method and row.params == cell.params for row in found):
            found.append(RowSpec(cell.method, cell.params, cell.setting))

    def order(row: RowSpec) -> tuple[object, ...]:
        numbers = {name: value for name, value in row.params.items() if isinstance(value, (int, float))}
        # in the parameters' own order; FastV lists the row that drops most first
        key = [(name, -value if name == "R" else value) for name, value in numbers.items()]
        return method_order(row.method), key, str(row.params)

    return sorted(found, key=order)


def comparable(
    cells: Sequence[CellResult], rows: Sequence[RowSpec], benchmarks: Sequence[str], filters: Filters
) -> dict[tuple[int, str], CellResult]:
    """{(row index, benchmark): cell} for every place that has a finished cell.

    Raises ReportError, naming files, if two cells compete for a place or if the chosen cells are not comparable.
    """
    chosen: dict[tuple[int, str], CellResult] = {}
    candidates = [cell for cell in cells if admits(filters, cell) and cell.benchmark in benchmarks]
    used = [cell for cell in candidates if any(row.matches(cell) for row in rows)]
    styles = {cell.prompts for cell in used if not one_protocol(cell.benchmark)}
    if len(styles) == 1:  # captions of the other style belong to the other protocol's table
        used = [cell for cell in used if cell.prompts in styles]
    same_run(used, SHARED)
    protocols: set[str | None] = {cell.protocol for cell in used if not one_protocol(cell.benchmark)}
    protocols = protocols or {filters.protocol}
    for index, row in enumerate(rows):
        for benchmark in benchmarks:
            rivals = [cell for cell in used if cell.benchmark == benchmark and row.matches(cell)]
            if len(rivals) > 1 and one_protocol(benchmark):
                # one task, run under both protocols: take the table's own
                rivals = [cell for cell in rivals if cell.protocol in protocols] or rivals
            if len(rivals) > 1:
                raise ReportError(_rivalry(row, benchmark, rivals))
            if rivals:
                chosen[index, benchmark] = rivals[0]
    same_documents(chosen.values())
    return chosen


def same_run(cells: Iterable[CellResult], names: Sequence[str]) -> None:
    """See that all cells agree in these fields of SHARED. Raises ReportError naming files and the option to choose."""
    cells = list(cells)
    for name in names:
        of_field = cells if name != "protocol" else [cell for cell in cells if not one_protocol(cell.benchmark)]
        _refuse_mixture(of_field, name, attrgetter(name), KEYS.get(name, name))


def same_documents(cells: Iterable[CellResult]) -> None:
    """See that all cells of a benchmark rest on the same documents. Raises ReportError naming files that do not."""
    columns: dict[str, list[CellResult]] = {}
    for cell in cells:
        columns.setdefault(cell.benchmark, []).append(cell)
    for column in columns.values():
        for name in PER_BENCHMARK:
            _refuse_mixture(column, name, attrgetter(name), EXCLUDE)
        _refuse_mixture(column, "number of samples", lambda cell: cell.n + cell.errors, EXCLUDE)


def _refuse_mixture(cells: Sequence[CellResult], name: str, value: Callable[[CellResult], object], option: str) -> None:
    files: dict[object, list[Path]] = {}
    for cell in cells:
        files.setdefault(value(cell), []).append(cell.path)
    if len(files) > 1:
        lines = [f"  {shown(key)}: {shortlist([path.name for path in paths], 4)}" for key, paths in files.items()]
        advice = LEAVE_OUT if option == EXCLUDE else f"choose with {option}=…"
        raise ReportError("\n".join([f"finished cells differ in {name}, one table cannot mix them; {advice}:", *lines]))


def _rivalry(row: RowSpec, benchmark: str, rivals: Sequence[CellResult]) -> str:
    names = sorted({name for cell in rivals for name in cell.params})
    differing = [name for name in names if len({str(cell.params.get(name)) for cell in rivals}) > 1]
    choose = f"choose with method={row.method} method.{differing[0]}=…" if differing else ""
    advice = choose or LEAVE_OUT
    lines = []
    for cell in rivals:
        parameters = ", ".join(f"{name}={value}" for name, value in cell.params.items())
        lines.append(f"  {cell.path.name}: {parameters or 'no parameters'}")
    place_name = f"{row.label} {row.setting}".strip()
    return "\n".join([f"{len(rivals)} finished cells compete for {place_name} on {benchmark}; {advice}:", *lines])


def shown(value: object) -> str:
    """A field's value as the configuration spells it."""
    return "null" if value is None else str(value)
