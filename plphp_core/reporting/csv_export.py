"""The numbers behind tables of scores and of costs, one line each, as the csv files have them."""

from __future__ import annotations

import pandas as pd

from plphp_core.analysis.baseline_comparison import best
from plphp_core.analysis.bootstrap import (
    DECODE,
    EVALUATION,
    KV,
    KV_SAVED,
    MEDIANS,
    PREFILL,
    RETENTION,
    Estimate,
    typical_cost,
)
from plphp_core.analysis.results import Results, protocol
from plphp_core.records.cell_result import EFFICIENCY

AGAINST = ("relative_to_none", "relative_low", "relative_high", "n_none", "best_baseline", "relative_to_baseline",
           "baseline_low", "baseline_high", "n_baseline")  # fmt: skip
CSV_COLUMNS = ("model", "method", "setting", "benchmark", "metric", "value", "ci_low", "ci_high", "n", "errors",
               *AGAINST, *EFFICIENCY, "protocol")  # fmt: skip
SAVED = ("retention_low", "retention_high", "kv_saved", "kv_saved_low", "kv_saved_high")
QUANTITIES = (RETENTION, KV, DECODE, PREFILL, EVALUATION)
COST_COLUMNS = ("model", "method", "setting", "benchmark", "metric", "statistic", "value", "ci_low", "ci_high",
               "relative_to_none", "relative_low", "relative_high", "n", "errors", "hardware", "dtype", "engine",
               "batch_size", "protocol")  # fmt: skip


def long_table(results: Results) -> pd.DataFrame:
    """One line per row, benchmark and metric: fractions, bytes, milliseconds; empty without a cell.

    The columns: CSV_COLUMNS, the rows' parameters after the first three, SAVED at the end.
    """
    lines = []
    names = list(dict.fromkeys(name for row in results.rows for name in row.params))
    for benchmark in results.asked():
        rival = best(results, [benchmark])
        for index, row in enumerate(results.rows):
            cell = results.cells.get((index, benchmark))
            wanted = list(results.headings(benchmark))
            line: dict[str, object] = {"model": results.model, "method": row.method, "setting": results.setting(index)}
            line |= {"row": index, "benchmark": benchmark, **{name: row.params.get(name) for name in names}}
            if cell is None:
                lines += [{**line, "metric": metric, "protocol": protocol(results)} for metric in wanted]
                continue
            line |= {"n": cell.n, "errors": cell.errors, "protocol": cell.protocol}
            line |= {name: typical_cost(cell, name) for name in EFFICIENCY}
            line |= _saved(results, index, benchmark)
            for metric in dict.fromkeys([*wanted, *sorted(cell.metrics)]):
                score = results.value(index, benchmark, metric)
                found = {"metric": metric, "value": score.value, "ci_low": score.low, "ci_high": score.high}
                lines.append(line | found | _against(results, index, benchmark, metric, rival))
    columns = [*CSV_COLUMNS[:3], *names, *CSV_COLUMNS[3:], *SAVED]
    table = pd.DataFrame(lines, columns=["row", *columns]).sort_values("row", kind="stable", ignore_index=True)
    return table[columns].astype({"n": "Int64", "errors": "Int64", "n_none": "Int64", "n_baseline": "Int64"})


def _against(results: Results, index: int, benchmark: str, metric: str, rival: int | None) -> dict:
    """Changes relative to Uncompressed and to the best baseline on the benchmark, paired (AGAINST)."""
    change = results.change(index, benchmark, metric)
    found: dict[str, object] = {
        "relative_to_none": change.value,
        "relative_low": change.low,
        "relative_high": change.high,
    }
    found["n_none"] = results.paired(index, results.reference, benchmark) or None
    if rival is not None:
        change = results.change(index, benchmark, metric, rival)
        found |= {
            "best_baseline": results.label(rival),
            "relative_to_baseline": change.value,
            "baseline_low": change.low,
            "baseline_high": change.high,
            "n_baseline": results.paired(index, rival, benchmark),
        }
    return found


def _saved(results: Results, index: int, benchmark: str) -> dict[str, float]:
    retention, kv = (results.value(index, benchmark, name) for name in (RETENTION, KV_SAVED))
    numbers = (retention.low, retention.high, kv.value, kv.low, kv.high)
    return dict(zip(SAVED, numbers, strict=True))


def relative_table(results: Results) -> pd.DataFrame:
    """Changes relative to the uncompressed row with paired intervals: per score, then averages ("average …")."""
    lines = []
    groups = {results.catalogue[name].group for name in results.benchmarks} - {""}
    scopes = {"all": results.benchmarks}
    for group, title in (("multi_image", "multi-image"), ("caption", "captions")):
        scopes[title] = results.catalogue.group(group, results.benchmarks)
    scopes |= {
        group: results.catalogue.group(group, results.benchmarks)
        for group in sorted(groups - {"multi_image", "caption"})
    }
    for index, row in enumerate(results.rows):
        head = {"model": results.model, "method": row.method, "setting": results.setting(index)}
        both = [name for name in results.benchmarks if {(index, name), (results.reference, name)} <= set(results.cells)]
        for benchmark in both:
            shared = results.paired(index, results.reference, benchmark)
            for metric in results.cells[index, benchmark].metrics:
                change = results.change(index, benchmark, metric)
                lines.append(
                    {**head, "benchmark": benchmark, "metric": metric, **_interval(change), "n_common": shared}
                )
        for scope, names in scopes.items():
            whole = results.average_change(index, names)
            lines.append({**head, "benchmark": f"average {scope}", "metric": "scores", **_interval(whole)})
    columns = ["model", "method", "setting", "benchmark", "metric", "relative_to_none", "ci_low", "ci_high", "n_common"]
    return pd.DataFrame(lines, columns=columns).astype({"n_common": "Int64"})


def _interval(change: Estimate) -> dict[str, float]:
    return {"relative_to_none": change.value, "ci_low": change.low, "ci_high": change.high}


def cost_table(results: Results, benchmark: str) -> pd.DataFrame:
    """One line per row and metric (COST_COLUMNS): scores as fractions, then costs; empty without a cell or a number.

    `evaluation_s` is the sum over samples, its interval that of the mean per sample times their number.
    """
    lines = []
    wanted = list(results.headings(benchmark))
    for index, row in enumerate(results.rows):
        cell = results.cells.get((index, benchmark))
        line: dict[str, object] = {"model": results.model, "method": row.method, "setting": results.setting(index)}
        line["benchmark"] = benchmark
        if cell is None:
            lines += [{**line, "metric": metric} for metric in (*wanted, *QUANTITIES)]
            continue
        line |= {name: getattr(cell, name) for name in COST_COLUMNS[-7:]}
        for metric in dict.fromkeys([*wanted, *sorted(cell.metrics)]):
            score, change = (give(index, benchmark, metric) for give in (results.value, results.change))
            lines.append(line | {"metric": metric, "statistic": "score"} | _numbers(score, change))
        for quantity in QUANTITIES:
            cost, change = (give(index, benchmark, quantity) for give in (results.value, results.change))
            statistic = "median" if quantity in MEDIANS else "mean"
            lines.append(line | {"metric": quantity, "statistic": statistic} | _numbers(cost, change))
            if quantity == EVALUATION:
                total = line | {"metric": "evaluation_s", "statistic": "sum"}
                lines.append(total | _numbers(results.seconds(index, benchmark), change))
        saved = results.value(index, benchmark, KV_SAVED).value
        lines.append(line | {"metric": "kv_saved", "statistic": "share", "value": saved})
    table = pd.DataFrame(lines, columns=list(COST_COLUMNS))
    return table.astype({"n": "Int64", "errors": "Int64", "batch_size": "Int64"})


def _numbers(value: Estimate, change: Estimate) -> dict[str, float]:
    return {
        "value": value.value,
        "ci_low": value.low,
        "ci_high": value.high,
        "relative_to_none": change.value,
        "relative_low": change.low,
        "relative_high": change.high,
    }


def sample_table(results: Results, benchmark: str) -> pd.DataFrame:
    """One line per row and document: everything a curve over samples needs. `position` counts documents in order."""
    cells = results.on(benchmark)
    documents = sorted({doc for cell in cells.values() for doc in cell.doc_ids.tolist()})
    position = {doc: number for number, doc in enumerate(documents, start=1)}
    parts = []
    for index, cell in cells.items():
        docs = cell.doc_ids.tolist()
        part = pd.DataFrame({"position": [position[doc] for doc in docs], "doc_id": docs} | cell.costs)
        front = {
            "model": results.model,
            "method": results.rows[index].method,
            "setting": results.setting(index),
            "benchmark": benchmark,
        }
        for at, (name, value) in enumerate(front.items()):
            part.insert(at, name, value)
        for name in ("hardware", "dtype", "engine", "batch_size", "protocol"):
            part[name] = getattr(cell, name)
        parts.append(part.sort_values("position"))
    return pd.concat(parts, ignore_index=True)
