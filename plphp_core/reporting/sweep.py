"""The summary of a sweep: whatever was run, a line per method and parameters, averages over what each row has."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from plphp_core.analysis.bootstrap import MISSING, Estimate, exactly, typical_cost
from plphp_core.analysis.paired_contrasts import best
from plphp_core.analysis.results import Results
from plphp_core.reporting.csv_export import named
from plphp_core.reporting.table_content import TableContent
from plphp_core.reporting.table_model import NA, TableCell, TableColumn, number
from plphp_core.reporting.table_spec import Columns, NumberColumn, WordColumn, change_columns, share

FEWER = "‡"  # beside averages over fewer benchmarks than the sweep has
ENDS = ("", "_low", "_high")  # of the names of a change and its interval
COSTS = ("retention", "kv_bytes", "kv_bytes_full", "prefill_ms", "decode_ms_per_token")


@dataclass(frozen=True)
class OwnAverages:
    """A row's averages over the `benchmarks` that it has finished.

    change: against Uncompressed; `against`: the best baseline on them, which is row `rival`; costs: means over the
    benchmarks, of times in milliseconds, with `kv_saved`, a fraction; n, errors: samples answered and failed.
    """

    benchmarks: tuple[str, ...]
    change: Estimate
    rival: int | None
    against: Estimate
    costs: dict[str, float]
    n: int
    errors: int

    @classmethod
    def of(cls, results: Results, index: int) -> OwnAverages:
        names = [name for name in results.finished() if (index, name) in results.cells]
        cells = [results.cells[index, name] for name in names]
        places = [{name: typical_cost(cell, name) for name in COSTS} for cell in cells]
        for one in places:
            one["kv_saved"] = 1 - one["kv_bytes"] / one["kv_bytes_full"] if one["kv_bytes_full"] else math.nan
        return cls(
            tuple(names),
            results.average_change(index, names),
            rival := best(results, names),
            MISSING if rival is None else results.average_change(index, names, rival),
            {name: sum(one[name] for one in places) / len(places) for name in (*COSTS, "kv_saved")},
            sum(cell.n for cell in cells),
            sum(cell.errors for cell in cells),
        )


def table(results: Results) -> pd.DataFrame:
    """One line per row: parameters, a score (a fraction) per benchmark and metric, averages over the row's benchmarks.

    kv_bytes_saved: mean bytes of the prompt's KV cache that are not held; times in milliseconds.
    """
    names, lines = parameters(results), []
    for index, row in enumerate(results.rows):
        own = OwnAverages.of(results, index)
        line: dict[str, object] = {"model": results.model, "method": row.method}
        line |= {name: row.params.get(name) for name in names}
        line |= {f"{name}_{metric}": results.value(index, name, metric).value for name, metric in results.columns()}
        line |= named(own.change, [f"relative_to_none{end}" for end in ENDS])
        line["best_baseline"] = NA if own.rival is None else results.label(own.rival)
        line |= named(own.against, [f"relative_to_baseline{end}" for end in ENDS])
        line |= {name: own.costs[name] for name in ("retention", "kv_saved", "kv_bytes")}
        line["kv_bytes_saved"] = own.costs["kv_bytes_full"] - own.costs["kv_bytes"]
        line |= {name: own.costs[name] for name in ("prefill_ms", "decode_ms_per_token")}
        lines.append(line | {"n": own.n, "errors": own.errors, "benchmarks": len(own.benchmarks)})
    return pd.DataFrame(lines)


def columns(results: Results) -> Columns:
    """Averages over each row's own benchmarks."""
    rows = [OwnAverages.of(results, index) for index in range(len(results.rows))]
    finished = results.finished()

    def fewer(index: int) -> str:
        return FEWER * (len(rows[index].benchmarks) < len(finished))

    def change(group: str, found: Callable[[int], Estimate], base: Callable[[int], int | None]) -> Columns:
        return change_columns(
            group,
            found,
            lambda index: "reference" if index == base(index) else None,
            lambda index: "" if math.isnan(found(index).value) else fewer(index),
        )

    def mean(
        group: str, label: str, cost: Callable[[dict[str, float]], float], text: Callable[[float], str], scale: float
    ) -> NumberColumn:
        heading = TableColumn(label, group)
        return NumberColumn(heading, lambda index: exactly(cost(rows[index].costs)), text, scale, mark=fewer)

    def over(index: int) -> TableCell:
        return TableCell(f"{len(rows[index].benchmarks)} of {len(finished)}")

    def samples(index: int) -> TableCell:
        return TableCell(str(rows[index].n), mark=f"†{rows[index].errors}" if rows[index].errors else "")

    return [
        *change("Average", lambda index: rows[index].change, lambda index: results.reference),
        *change("vs. best baseline", lambda index: rows[index].against, lambda index: rows[index].rival),
        mean("Vision", "kept", lambda one: one["retention"], share, 100),
        mean("KV", "saved", lambda one: one["kv_saved"], share, 100),
        mean("KV", "saved MiB", lambda one: one["kv_bytes_full"] - one["kv_bytes"], number, 2**-20),
        mean("Decode", "ms/token", lambda one: one["decode_ms_per_token"], number, 1),
        WordColumn(TableColumn("benchmarks", "Over"), over),
        WordColumn(TableColumn("n", "Over"), samples),
    ]


def parameters(results: Results) -> dict[str, bool]:
    """The parameters of all rows, in their methods' order → whether they are worth a printed column.

    Numbers are; a choice between words, or what nobody has set, only if the sweep has several.
    """
    values: dict[str, dict[str, object]] = {}
    for row in results.rows:
        for name, value in row.params.items():
            values.setdefault(name, {})[repr(value)] = value  # a parameter may be a list
    return {
        name: len(some) > 1 or not isinstance(next(iter(some.values())), str | None) for name, some in values.items()
    }


def notes(content: TableContent) -> list[str]:
    """What the averages are."""
    results = content.parts[0]
    found = [
        "Average change: unweighted mean over the score columns that the row has of the change relative to "
        f"Uncompressed or to the best baseline, with its {results.options.confidence:.0%} interval: percentile "
        "bootstrap, both rows drawn on the same samples. Best baseline: the rival of PLPHP in this sweep with the "
        "highest average change over the row's benchmarks, chosen on these very samples, which favours it; the .csv "
        "names it.",
        "Vision kept, KV saved, decode ms/token (median per benchmark): means over benchmarks. Times depend on "
        "hardware, engine and batch size and are not compared here; Tables 4 and 5 do that.",
    ]
    if len(results.cells) < len(results.rows) * len(results.finished()):
        found.append(
            f"{FEWER} over fewer benchmarks than others of this sweep, so not comparable with them; tasks=… makes a "
            "summary of the benchmarks that all rows have. n/a: not run, or nothing to compare with."
        )
    return found
