"""Whatever was run, one line per method and parameters: the summary of a sweep."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pandas as pd

from plphp_core.analysis.baseline_comparison import best
from plphp_core.analysis.bootstrap import MISSING, Estimate
from plphp_core.analysis.results import Results
from plphp_core.reporting.table_content import TableContent
from plphp_core.reporting.table_model import NA, TableCell, TableColumn, number
from plphp_core.reporting.table_spec import NumberColumn, WordColumn, share, signed_percent

FEWER = "‡"  # beside averages over fewer benchmarks than the sweep has
COSTS = ("retention", "kv_saved", "kv_bytes", "kv_bytes_full", "prefill_ms", "decode_ms_per_token")


def own(results: Results, index: int) -> list[str]:
    """The benchmarks that a row has finished: what its averages run over."""
    return [name for name in results.finished() if (index, name) in results.cells]


def averages(results: Results, index: int) -> dict[str, Estimate | float | int | None]:
    """Over the row's own benchmarks: its change, that against the best baseline on them, costs and samples."""
    names = own(results, index)
    cells = [results.cells[index, name] for name in names]
    rival = best(results, names)
    return {
        "change": results.average_change(index, names),
        "rival": rival,
        "against": results.average_change(index, names, rival) if rival is not None else None,
        "n": sum(cell.n for cell in cells),
        "errors": sum(cell.errors for cell in cells),
        **{name: sum(getattr(cell.efficiency, name) for cell in cells) / len(cells) for name in COSTS},
    }


def table(results: Results) -> pd.DataFrame:
    """One line per row: parameters, a score (a fraction) per benchmark and metric, averages over the row's benchmarks.

    kv_bytes_saved: mean bytes of the prompt's KV cache that are not held; times in milliseconds.
    """
    names = parameters(results)
    lines = []
    for index, row in enumerate(results.rows):
        found = averages(results, index)
        line = {"model": results.model, "method": row.method}
        line |= {name: row.params.get(name) for name in names}
        line |= {f"{name}_{metric}": results.value(index, name, metric).value for name, metric in results.columns()}
        line |= _interval("relative_to_none", found["change"])
        line |= {"best_baseline": NA if found["rival"] is None else results.label(found["rival"])}
        line |= _interval("relative_to_baseline", found["against"])
        line |= {name: found[name] for name in ("retention", "kv_saved", "kv_bytes")}
        line["kv_bytes_saved"] = found["kv_bytes_full"] - found["kv_bytes"]
        line |= {name: found[name] for name in ("prefill_ms", "decode_ms_per_token", "n", "errors")}
        lines.append(line | {"benchmarks": len(own(results, index))})
    return pd.DataFrame(lines)


def columns(results: Results) -> list[NumberColumn | WordColumn]:
    """Averages over each row's own benchmarks."""
    found = [averages(results, index) for index in range(len(results.rows))]
    finished = results.finished()

    def fewer(index: int) -> str:
        return FEWER * (len(own(results, index)) < len(finished))

    def change(group: str, name: str, base: Callable[[int], int | None]) -> list[NumberColumn | WordColumn]:
        column = NumberColumn(
            TableColumn("change", group),
            lambda index: found[index][name] or MISSING,
            signed_percent,
            mark=lambda index: "" if math.isnan((found[index][name] or MISSING).value) else fewer(index),
            instead=lambda index: "reference" * (index == base(index)),
        )
        return [column, WordColumn(TableColumn("interval", group), lambda index: _interval_cell(column, index))]

    def mean(group: str, label: str, value: Callable[[dict], float], text: Callable, scale: float) -> NumberColumn:
        return NumberColumn(
            TableColumn(label, group),
            lambda index: replace(MISSING, value=value(found[index])),
            text,
            scale,
            mark=fewer,
        )

    def samples(index: int) -> TableCell:
        errors = found[index]["errors"]
        return TableCell(str(found[index]["n"]), mark=f"†{errors}" if errors else "")

    return [
        *change("Average", "change", lambda index: results.reference),
        *change("vs. best baseline", "against", lambda index: found[index]["rival"]),
        mean("Vision", "kept", lambda one: one["retention"], share, 100),
        mean("KV", "saved", lambda one: one["kv_saved"], share, 100),
        mean("KV", "saved MiB", lambda one: one["kv_bytes_full"] - one["kv_bytes"], number, 2**-20),
        mean("Decode", "ms/token", lambda one: one["decode_ms_per_token"], number, 1),
        WordColumn(
            TableColumn("benchmarks", "Over"),
            lambda index: TableCell(f"{len(own(results, index))} of {len(finished)}"),
        ),
        WordColumn(TableColumn("n", "Over"), samples),
    ]


def _interval_cell(column: NumberColumn, index: int) -> TableCell:
    return TableCell("" if column.instead(index) else column.bounds(index))


def parameters(results: Results) -> dict[str, bool]:
    """The parameters of all rows, in their methods' order → whether they are worth a printed column.

    Numbers are; a choice between words only if the sweep has several.
    """
    values: dict[str, dict[str, object]] = {}
    for row in results.rows:
        for name, value in row.params.items():
            values.setdefault(name, {})[repr(value)] = value  # a parameter may be a list
    return {name: len(some) > 1 or not isinstance(next(iter(some.values())), str) for name, some in values.items()}


def _interval(name: str, found: Estimate | None) -> dict[str, float]:
    numbers = (math.nan,) * 3 if found is None else (found.value, found.low, found.high)
    return dict(zip((name, f"{name}_low", f"{name}_high"), numbers, strict=True))


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
    if any(len(own(results, index)) < len(results.finished()) for index in range(len(results.rows))):
        found.append(
            f"{FEWER} over fewer benchmarks than others of this sweep, so not comparable with them; tasks=… makes a "
            "summary of the benchmarks that all rows have. n/a: not run, or nothing to compare with."
        )
    return found
