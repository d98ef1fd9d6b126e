"""Whatever was run, one line per method and parameters: the summary of a sweep."""

from __future__ import annotations

import math

import pandas as pd

from plphp_core.analysis.baseline_comparison import best
from plphp_core.analysis.bootstrap import Estimate
from plphp_core.analysis.results import Results
from plphp_core.config.table_rows import SYMBOLS
from plphp_core.reporting import notes
from plphp_core.reporting.table_model import NA, Table, TableCell, TableColumn, TableRow, bounds, number, percent
from plphp_core.reporting.table_spec import where

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
    parameters = _parameters(results)
    lines = []
    for index, row in enumerate(results.rows):
        found = averages(results, index)
        line = {"model": results.model, "method": row.method}
        line |= {name: row.params.get(name) for name in parameters}
        line |= {f"{name}_{metric}": results.score(index, name, metric).value for name, metric in results.columns()}
        line |= _interval("relative_to_none", found["change"])
        line |= {"best_baseline": NA if found["rival"] is None else results.label(found["rival"])}
        line |= _interval("relative_to_baseline", found["against"])
        line |= {name: found[name] for name in ("retention", "kv_saved", "kv_bytes")}
        line["kv_bytes_saved"] = found["kv_bytes_full"] - found["kv_bytes"]
        line |= {name: found[name] for name in ("prefill_ms", "decode_ms_per_token", "n", "errors")}
        lines.append(line | {"benchmarks": len(own(results, index))})
    return pd.DataFrame(lines)


def sheets(results: Results, profile: str) -> list[Table]:
    """One line per row, in the order of methods and parameters."""
    parameters = [name for name, printed in _parameters(results).items() if printed]
    shown = results.score_places(results.finished())
    columns = (
        TableColumn("Method", text=True),
        *[TableColumn(SYMBOLS.get(name, name), text=True) for name in parameters],
        *[TableColumn(label, group) for group, _, label in shown],
        *[TableColumn(name, "Average") for name in ("change", "interval")],
        *[TableColumn(name, "vs. best baseline") for name in ("change", "interval")],
        TableColumn("kept", "Vision"),
        *[TableColumn(name, "KV") for name in ("saved", "saved MiB")],
        TableColumn("ms/token", "Decode"),
        *[TableColumn(name, "Over") for name in ("benchmarks", "n")],
    )
    rows = []
    for index, row in enumerate(results.rows):
        starts = index == 0 or results.rows[index - 1].method != row.method
        values = [f"{value:g}" if isinstance(value, float) else str(value) for value in _values(row.params, parameters)]
        scores = [
            TableCell(number(results.catalogue[name].scale * results.score(index, name, metric).value))
            for name, metric, _ in shown
        ]
        rows.append(
            TableRow((TableCell(row.label), *map(TableCell, values), *scores, *_averages(results, index)), rule=starts)
        )
    title = f"Sweep{where(profile)}: every setting with finished cells, {results.title}"
    return [Table(title, columns, tuple(rows), tuple(_notes(results, profile)))]


def _parameters(results: Results) -> dict[str, bool]:
    """The parameters of all rows, in their methods' order → whether they are worth a printed column.

    Numbers are; a choice between words only if the sweep has several.
    """
    values: dict[str, dict[str, object]] = {}
    for row in results.rows:
        for name, value in row.params.items():
            values.setdefault(name, {})[repr(value)] = value  # a parameter may be a list
    return {name: len(some) > 1 or not isinstance(next(iter(some.values())), str) for name, some in values.items()}


def _values(params: dict, names: list[str]) -> list:
    return [params.get(name, "") for name in names]


def _interval(name: str, found: Estimate | None) -> dict[str, float]:
    numbers = (math.nan,) * 3 if found is None else (found.value, found.low, found.high)
    return dict(zip((name, f"{name}_low", f"{name}_high"), numbers, strict=True))


def _averages(results: Results, index: int) -> list[TableCell]:
    found = averages(results, index)
    names = own(results, index)
    mark = FEWER * (len(names) < len(results.finished()))

    def change(one: Estimate | None, base: int | None) -> list[TableCell]:
        if index == base:
            return [TableCell("reference"), TableCell("")]
        if one is None:
            return [TableCell(), TableCell()]
        known = not math.isnan(one.value)
        return [TableCell(percent(one.value), mark=mark * known), TableCell(bounds(one.low, one.high, signed=True))]

    saved = (found["kv_bytes_full"] - found["kv_bytes"]) / 2**20
    return [
        *change(found["change"], results.reference),
        *change(found["against"], found["rival"]),
        TableCell(percent(found["retention"], 1, signed=False), mark=mark),
        TableCell(percent(found["kv_saved"], 1, signed=False), mark=mark),
        TableCell(number(saved), mark=mark),
        TableCell(number(found["decode_ms_per_token"]), mark=mark),
        TableCell(f"{len(names)} of {len(results.finished())}"),
        TableCell(str(found["n"]), mark=f"†{found['errors']}" if found["errors"] else ""),
    ]


def _notes(results: Results, profile: str) -> list[str]:
    """Most important first."""
    parts, options = [results], results.options
    found = [notes.profile(profile, several=False), *notes.run(parts), *notes.samples(parts), *notes.images(parts)]
    found.append(notes.scores(parts))
    found.append(
        "Average change: unweighted mean over the score columns that the row has of the change relative to "
        f"Uncompressed or to the best baseline, with its {options.confidence:.0%} interval: percentile bootstrap, both "
        "rows drawn on the same samples. Best baseline: the rival of PLPHP in this sweep with the highest average "
        "change over the row's benchmarks, chosen on these very samples, which favours it; the .csv names it."
        f"{notes.unreferenced(parts)}"
    )
    found.append(
        "Vision kept, KV saved, decode ms/token (median per benchmark): means over benchmarks. Times depend on "
        "hardware, engine and batch size and are not compared here; Tables 4 and 5 do that."
    )
    if any(len(own(results, index)) < len(results.finished()) for index in range(len(results.rows))):
        found.append(
            f"{FEWER} over fewer benchmarks than others of this sweep, so not comparable with them; tasks=… makes a "
            "summary of the benchmarks that all rows have. n/a: not run, or nothing to compare with."
        )
    return found + notes.failures(parts)
