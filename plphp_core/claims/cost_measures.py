"""Claims about costs at several r: C5, C6, C7 and C8 (Table 5)."""

from __future__ import annotations

import csv
import math
import re
from pathlib import Path

import numpy as np

from plphp_core.analysis import costs as cost
from plphp_core.analysis.bootstrap import MISSING, Estimate, Resamples, with_interval
from plphp_core.analysis.costs import DECODE, FEWEST, KV, PREFILL, Costs
from plphp_core.analysis.results import Options
from plphp_core.claims.claim_evidence import Measured, Quantity, negative, of_cells
from plphp_core.claims.claim_finding import PERCENT, SAVED, TOKENS
from plphp_core.claims.claim_sources import ClaimSources
from plphp_core.records.cell_result import CellResult
from plphp_core.records.errors import ReportError
from plphp_core.reporting.table5 import claimed
from plphp_core.reporting.table_model import NA, number, percent


def saved(sources: ClaimSources, claim: str) -> Measured:
    """C5, C7a: share of the decode time per token saved; C6, C7b: share of the KV bytes; in percent."""
    found = sources.table5
    row, rows = _rows(found, claim)
    quantity = DECODE if claim in ("C5", "C7a") else KV
    change = found.change(row, quantity)
    remarks = [f"{found.results.label(row)} on {found.benchmark}."]
    if quantity == DECODE and not math.isnan(change.value):
        remarks.append(f"In tokens per second: {percent(1 / (1 + change.value) - 1)}.")
    name, unit = ("decode time saved", PERCENT) if quantity == DECODE else ("KV bytes saved", SAVED)
    evidence = of_cells(found.results, rows, [found.benchmark])
    return Measured(
        (Quantity(name, negative(change, 100), unit),), evidence, tuple(remarks), _gap(found, row, quantity)
    )


def prefill_cost(sources: ClaimSources) -> Measured:
    """C8: what PLPHP at its defaults adds to a sample's prefill, in decoded tokens of the same sample uncompressed."""
    found = sources.table5
    row, rows = _rows(found, "C5")
    cells = [found.results.cells.get((at, found.benchmark)) for at in rows]
    added = MISSING if None in cells or row in found.apart else in_tokens(*cells, found.results.options)
    evidence = of_cells(found.results, rows, [found.benchmark])
    remarks = [f"{found.results.label(row)} on {found.benchmark}, median over samples."]
    remarks += bench_figures(sources.folder / "bench", evidence.hardware)
    return Measured((Quantity("added to prefill", added, TOKENS),), evidence, tuple(remarks), _gap(found, row, PREFILL))


def in_tokens(base: CellResult, changed: CellResult, options: Options) -> Estimate:
    """Median over samples of (prefill of `changed` − prefill of `base`) / (decode time per token of `base`).

    Samples of a batch share their times, so whole batches are drawn; fewer than costs.FEWEST give no interval.
    """
    _, at, of = np.intersect1d(base.doc_ids, changed.doc_ids, return_indices=True)
    times = np.stack([base.costs[PREFILL][at], base.costs[DECODE][at]], axis=1)
    tokens = (changed.costs[PREFILL][of] - times[:, 0]) / times[:, 1]
    keep = np.isfinite(tokens)  # an answer of a single token has no decode time
    if not keep.any():
        return MISSING
    tokens, times = tokens[keep], times[keep]
    alone = base.batch_size == 1
    units = np.arange(len(tokens)) if alone else np.unique(times, axis=0, return_inverse=True)[1].reshape(-1)
    draws = Resamples(units, f"{base.benchmark} batches", options.resamples, options.seed)
    replicates = draws.medians(units, tokens)
    if len(draws.doc_ids) < FEWEST:
        replicates = np.full_like(replicates, math.nan)
    return with_interval(float(np.median(tokens)), replicates, options.confidence)


def bench_figures(folder: Path, hardware: tuple[str, ...]) -> list[str]:
    """What `make bench` measured of PLPHP's cost on this hardware; nothing where there is no such file."""
    if len(hardware) != 1:
        return []
    slug = "-".join("".join(c if c.isalnum() else " " for c in hardware[0].lower()).split())
    found = []
    for path in sorted(folder.glob("*.csv")):
        if not re.search(rf"(^|-){re.escape(slug)}(-\d+-cores)?$", path.stem):
            continue
        try:
            added = _added(path)
        except (OSError, ValueError, KeyError, csv.Error):
            continue  # other benchmarks have no such column
        for model, values in added.items():
            span = " to ".join(dict.fromkeys(number(end, 3) for end in (min(values), max(values))))
            found.append(f"make bench on this hardware ({path.stem}, random weights of shape {model}): {span} tokens.")
    return found


def _added(path: Path) -> dict[str, list[float]]:
    """Shape → what PLPHP adds to a prefill in decoded tokens, one number per line that has one."""
    found: dict[str, list[float]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            if line["method"] == "plphp" and line["added_decode_tokens"] not in ("", NA):
                found.setdefault(line["model"], []).append(float(line["added_decode_tokens"]))
    return found


def _rows(found: Costs, claim: str) -> tuple[int, list[int]]:
    """The row a claim is about, and it with Uncompressed. Raises ReportError without either."""
    row, base = claimed(found, claim), found.results.reference
    if row is None or base is None:
        raise ReportError("the table lacks the row that the claim is about, or the uncompressed one")
    return row, [base, row]


def _gap(found: Costs, row: int, quantity: str) -> str:
    """Why a cost of finished cells has no number."""
    apart = found.apart.get(row) if quantity in cost.TIMES else None
    return f"times that cannot be compared with each other ({apart})" if apart else "cells without this measurement"
