"""The numbers behind tables of scores and of costs, one line each, as the csv files have them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

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
from plphp_core.analysis.paired_contrasts import best
from plphp_core.analysis.results import Results, protocol
from plphp_core.records.cell_result import EFFICIENCY

VALUE = ("value", "ci_low", "ci_high")
AGAINST_NONE = ("relative_to_none", "relative_low", "relative_high")
AGAINST_BASELINE = ("relative_to_baseline", "baseline_low", "baseline_high")
FRONT = ("model", "method", "setting")
CSV_COLUMNS = ("benchmark", "metric", *VALUE, "n", "errors", *AGAINST_NONE, "n_none", "best_baseline",
               *AGAINST_BASELINE, "n_baseline", *EFFICIENCY, "protocol")  # fmt: skip
SAVED = ("retention_low", "retention_high", "kv_saved", "kv_saved_low", "kv_saved_high")
QUANTITIES = (RETENTION, KV, DECODE, PREFILL, EVALUATION)
RUN = ("hardware", "dtype", "engine", "batch_size", "protocol")
COST_COLUMNS = (*FRONT, "benchmark", "metric", "statistic", *VALUE, *AGAINST_NONE, "n", "errors", *RUN)
COUNTS = ("n", "errors", "n_none", "n_baseline", "n_common", "batch_size")


def front(results: Results, index: int) -> dict[str, object]:
    """How the lines of a row begin."""
    return dict(zip(FRONT, (results.model, results.rows[index].method, results.setting(index)), strict=True))


def named(found: Estimate, names: Sequence[str]) -> dict[str, float]:
    """An estimate's number and interval under these three names."""
    return dict(zip(names, (found.value, found.low, found.high), strict=True))


def _table(lines: list[dict], columns: Sequence[str]) -> pd.DataFrame:
    """Lines with these columns; what a line lacks is empty, and counts stay whole numbers."""
    return pd.DataFrame(lines, columns=list(columns)).astype({one: "Int64" for one in COUNTS if one in columns})


def _metrics(results: Results, benchmark: str, index: int) -> list[str]:
    """The metrics a row has lines of on a benchmark: those shown, and whatever else its cell holds."""
    cell = results.cells.get((index, benchmark))
    return list(dict.fromkeys([*results.headings(benchmark), *sorted(cell.metrics if cell else ())]))


def long_table(results: Results) -> pd.DataFrame:
    """One line per row, benchmark and metric: fractions, bytes, milliseconds; empty without a cell.

    The columns: FRONT, the rows' parameters, CSV_COLUMNS, SAVED.
    """
    lines = []
    names = list(dict.fromkeys(name for row in results.rows for name in row.params))
    rivals = {benchmark: best(results, [benchmark]) for benchmark in results.asked()}
    for index, row in enumerate(results.rows):
        for benchmark, rival in rivals.items():
            line = {**front(results, index), **{name: row.params.get(name) for name in names}, "benchmark": benchmark}
            cell = results.cells.get((index, benchmark))
            line["protocol"] = protocol(results) if cell is None else cell.protocol
            if cell is not None:
                line |= {"n": cell.n, "errors": cell.errors} | {one: typical_cost(cell, one) for one in EFFICIENCY}
                retention, kv = (results.value(index, benchmark, name) for name in (RETENTION, KV_SAVED))
                line |= dict(zip(SAVED, (retention.low, retention.high, kv.value, kv.low, kv.high), strict=True))
            for metric in _metrics(results, benchmark, index):
                score = {} if cell is None else _score(results, index, benchmark, metric, rival)
                lines.append(line | {"metric": metric} | score)
    return _table(lines, [*FRONT, *names, *CSV_COLUMNS, *SAVED])


def _score(results: Results, index: int, benchmark: str, metric: str, rival: int | None) -> dict[str, object]:
    """A score and its changes relative to Uncompressed and to the best baseline on the benchmark, paired."""
    found: dict[str, object] = {**named(results.value(index, benchmark, metric), VALUE)}
    found |= named(results.change(index, benchmark, metric), AGAINST_NONE)
    found["n_none"] = results.paired(index, results.reference, benchmark) or None
    if rival is not None:
        found |= named(results.change(index, benchmark, metric, rival), AGAINST_BASELINE)
        found |= {"best_baseline": results.label(rival), "n_baseline": results.paired(index, rival, benchmark)}
    return found


def relative_table(results: Results) -> pd.DataFrame:
    """Changes relative to the uncompressed row with paired intervals: per score, then averages ("average …")."""
    lines, names = [], ("relative_to_none", "ci_low", "ci_high")
    groups = {results.catalogue[name].group for name in results.benchmarks} - {""}
    titles = {"multi_image": "multi-image", "caption": "captions"}
    titles |= {group: group for group in sorted(groups - set(titles))}
    scopes = {title: results.catalogue.group(group, results.benchmarks) for group, title in titles.items()}
    for index in range(len(results.rows)):
        head = front(results, index)
        both = [name for name in results.benchmarks if {(index, name), (results.reference, name)} <= set(results.cells)]
        for benchmark in both:
            shared = results.paired(index, results.reference, benchmark)
            for metric in results.cells[index, benchmark].metrics:
                change = named(results.change(index, benchmark, metric), names)
                lines.append({**head, "benchmark": benchmark, "metric": metric, **change, "n_common": shared})
        for scope, members in {"all": results.benchmarks, **scopes}.items():
            whole = named(results.average_change(index, members), names)
            lines.append({**head, "benchmark": f"average {scope}", "metric": "scores", **whole})
    return _table(lines, [*FRONT, "benchmark", "metric", *names, "n_common"])


def cost_table(results: Results, benchmark: str) -> pd.DataFrame:
    """One line per row and metric (COST_COLUMNS): scores as fractions, then costs; empty without a cell or a number.

    `evaluation_s` is the sum over samples, its interval that of the mean per sample times their number.
    """
    lines = []
    for index in range(len(results.rows)):
        cell, line = results.cells.get((index, benchmark)), front(results, index) | {"benchmark": benchmark}
        metrics = _metrics(results, benchmark, index)
        if cell is None:
            lines += [line | {"metric": metric} for metric in (*metrics, *QUANTITIES)]
            continue
        line |= {name: getattr(cell, name) for name in ("n", "errors", *RUN)}
        for name in (*metrics, *QUANTITIES):
            statistic = "score" if name in metrics else "median" if name in MEDIANS else "mean"
            change = named(results.change(index, benchmark, name), AGAINST_NONE)
            value = named(results.value(index, benchmark, name), VALUE)
            lines.append(line | {"metric": name, "statistic": statistic} | value | change)
            if name == EVALUATION:
                total = named(results.seconds(index, benchmark), VALUE)
                lines.append(line | {"metric": "evaluation_s", "statistic": "sum"} | total | change)
        saved = results.value(index, benchmark, KV_SAVED).value
        lines.append(line | {"metric": "kv_saved", "statistic": "share", "value": saved})
    return _table(lines, COST_COLUMNS)


def sample_table(results: Results, benchmark: str) -> pd.DataFrame:
    """One line per row and document: everything a curve over samples needs. `position` counts documents in order."""
    cells = results.on(benchmark)
    documents = sorted({doc for cell in cells.values() for doc in cell.doc_ids.tolist()})
    parts = []
    for index, cell in cells.items():
        place = {"position": np.searchsorted(documents, cell.doc_ids) + 1, "doc_id": cell.doc_ids}
        run = {name: getattr(cell, name) for name in RUN}
        part = pd.DataFrame(front(results, index) | {"benchmark": benchmark} | place | cell.costs | run)
        parts.append(part.sort_values("position"))
    return pd.concat(parts, ignore_index=True)
