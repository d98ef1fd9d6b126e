"""The numbers behind tables of scores and of costs, one line each, as the csv files have them."""

from __future__ import annotations

import pandas as pd

from plphp_core.analysis.baseline_comparison import best
from plphp_core.analysis.bootstrap import Estimate
from plphp_core.analysis.costs import EVALUATION, MEDIANS, QUANTITIES, Costs
from plphp_core.analysis.results import Results, protocol
from plphp_core.analysis.retention_stats import Savings
from plphp_core.records.cell_result import EFFICIENCY

AGAINST = ("relative_to_none", "relative_low", "relative_high", "n_none", "best_baseline", "relative_to_baseline",
           "baseline_low", "baseline_high", "n_baseline")  # fmt: skip
CSV_COLUMNS = ("model", "method", "setting", "benchmark", "metric", "value", "ci_low", "ci_high", "n", "errors",
               *AGAINST, *EFFICIENCY, "protocol")  # fmt: skip
SAVED = ("retention_low", "retention_high", "kv_saved", "kv_saved_low", "kv_saved_high")
COST_COLUMNS = ("model", "method", "setting", "benchmark", "metric", "statistic", "value", "ci_low", "ci_high",
               "relative_to_none", "relative_low", "relative_high", "n", "errors", "hardware", "dtype", "engine",
               "batch_size", "protocol")  # fmt: skip


def long_table(results: Results, saved: Savings) -> pd.DataFrame:
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
            line = {"model": results.model, "method": row.method, "setting": results.setting(index)}
            line |= {"row": index, "benchmark": benchmark, **{name: row.params.get(name) for name in names}}
            if cell is None:
                lines += [{**line, "metric": metric, "protocol": protocol(results)} for metric in wanted]
                continue
            line |= {"n": cell.n, "errors": cell.errors, "protocol": cell.protocol}
            line |= {name: getattr(cell.efficiency, name) for name in EFFICIENCY}
            line |= _saved(saved, index, benchmark)
            for metric in dict.fromkeys([*wanted, *sorted(cell.metrics)]):
                score = results.score(index, benchmark, metric)
                found = {"metric": metric, "value": score.value, "ci_low": score.low, "ci_high": score.high}
                lines.append(line | found | _against(results, index, benchmark, metric, rival))
    columns = [*CSV_COLUMNS[:3], *names, *CSV_COLUMNS[3:], *SAVED]
    table = pd.DataFrame(lines, columns=["row", *columns]).sort_values("row", kind="stable", ignore_index=True)
    return table[columns].astype({"n": "Int64", "errors": "Int64", "n_none": "Int64", "n_baseline": "Int64"})


def _against(results: Results, index: int, benchmark: str, metric: str, rival: int | None) -> dict:
    """Changes relative to Uncompressed and to the best baseline on the benchmark, paired (AGAINST)."""
    change = results.change(index, benchmark, metric)
    found = {"relative_to_none": change.value, "relative_low": change.low, "relative_high": change.high}
    found["n_none"] = results.common.get((index, benchmark))
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


def _saved(saved: Savings, index: int, benchmark: str) -> dict[str, float]:
    retention, kv = (part.get((index, benchmark)) for part in (saved.retention, saved.kv_saved))
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
        for (at, benchmark, metric), change in results.changes.items():
            if at == index:
                shared = results.common[index, benchmark]
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


def cost_table(found: Costs) -> pd.DataFrame:
    """One line per row and metric (COST_COLUMNS): scores as fractions, then costs; empty without a cell or a number.

    `evaluation_s` is the sum over samples, its interval that of the mean per sample times their number.
    """
    results, lines = found.results, []
    wanted = list(results.headings(found.benchmark))
    for index, row in enumerate(results.rows):
        cell = found.cell(index)
        line = {"model": results.model, "method": row.method, "setting": results.setting(index)}
        line["benchmark"] = found.benchmark
        if cell is None:
            lines += [{**line, "metric": metric} for metric in (*wanted, *QUANTITIES)]
            continue
        line |= {name: getattr(cell, name) for name in COST_COLUMNS[-7:]}
        for metric in dict.fromkeys([*wanted, *sorted(cell.metrics)]):
            score, change = (give(index, found.benchmark, metric) for give in (results.score, results.change))
            lines.append(line | {"metric": metric, "statistic": "score"} | _numbers(score, change))
        for quantity in QUANTITIES:
            cost, change = found.value(index, quantity), found.change(index, quantity)
            statistic = "median" if quantity in MEDIANS else "mean"
            lines.append(line | {"metric": quantity, "statistic": statistic} | _numbers(cost, change))
        lines.append(
            line
            | {"metric": "evaluation_s", "statistic": "sum"}
            | _numbers(found.value(index, EVALUATION), found.change(index, EVALUATION), scale=cell.n / 1e3)
        )
        lines.append(line | {"metric": "kv_saved", "statistic": "share", "value": cell.efficiency.kv_saved})
    table = pd.DataFrame(lines, columns=list(COST_COLUMNS))
    return table.astype({"n": "Int64", "errors": "Int64", "batch_size": "Int64"})


def _numbers(value: Estimate, change: Estimate, scale: float = 1.0) -> dict[str, float]:
    return {
        "value": scale * value.value,
        "ci_low": scale * value.low,
        "ci_high": scale * value.high,
        "relative_to_none": change.value,
        "relative_low": change.low,
        "relative_high": change.high,
    }


def sample_table(found: Costs) -> pd.DataFrame:
    """One line per row and document: everything a curve over samples needs. `position` counts documents in order."""
    documents = sorted({doc for cell in found.cells().values() for doc in cell.doc_ids.tolist()})
    position = {doc: number for number, doc in enumerate(documents, start=1)}
    parts = []
    for index, cell in found.cells().items():
        docs = cell.doc_ids.tolist()
        part = pd.DataFrame({"position": [position[doc] for doc in docs], "doc_id": docs} | cell.costs)
        front = {
            "model": found.results.model,
            "method": found.results.rows[index].method,
            "setting": found.results.setting(index),
            "benchmark": found.benchmark,
        }
        for at, (name, value) in enumerate(front.items()):
            part.insert(at, name, value)
        for name in ("hardware", "dtype", "engine", "batch_size", "protocol"):
            part[name] = getattr(cell, name)
        parts.append(part.sort_values("position"))
    return pd.concat(parts, ignore_index=True)
