"""Claims about costs at several r: C5, C6, C7 and C8 (Table 5)."""

from __future__ import annotations

import math

import numpy as np

from plphp_core.analysis.bootstrap import MISSING, Estimate, Resamples, with_interval
from plphp_core.analysis.estimates import DECODE, FEWEST, KV, PREFILL, TIMES
from plphp_core.analysis.results import Results
from plphp_core.claims.claim_evidence import evidence_of_rows
from plphp_core.claims.claim_finding import PERCENT, SAVED, TOKENS, ClaimMeasurement, ClaimPart
from plphp_core.claims.claim_sources import ClaimSources
from plphp_core.config.report_choices import Options
from plphp_core.records.cell_result import CellResult
from plphp_core.records.errors import ReportError
from plphp_core.reporting.table_model import percent

# claim → what it is about, and at which r; None: the lowest there is
ABOUT = {"C5": (DECODE, 0.4), "C6": (KV, 0.4), "C7a": (DECODE, None), "C7b": (KV, None)}


def saved(sources: ClaimSources, claim: str) -> ClaimMeasurement:
    """C5, C7a: share of the decode time per token saved; C6, C7b: share of the KV bytes; in percent."""
    results = sources.table5
    (benchmark,) = results.benchmarks
    row, base = _rows(results, claim)
    quantity = ABOUT[claim][0]
    timed = quantity == DECODE
    name, unit = ("decode time saved", PERCENT) if timed else ("KV bytes saved", SAVED)
    change = results.change(row, benchmark, quantity)
    remarks = [f"{results.label(row)} on {benchmark}."]
    if timed and not math.isnan(change.value):
        remarks.append(f"In tokens per second: {percent(1 / (1 + change.value) - 1)}.")
    saving = Estimate(-100 * change.value, -100 * change.replicates, -100 * change.high, -100 * change.low)
    found = evidence_of_rows(results, [base, row], [benchmark])
    return ClaimMeasurement((ClaimPart(name, saving, unit),), found, tuple(remarks), _gap(results, row, quantity))


def prefill_cost(sources: ClaimSources) -> ClaimMeasurement:
    """C8: what PLPHP at its defaults adds to a sample's prefill, in decoded tokens of the same sample uncompressed."""
    results = sources.table5
    (benchmark,) = results.benchmarks
    row, base = _rows(results, "C5")
    plain, pruned, added = *(results.cells.get((at, benchmark)) for at in (base, row)), MISSING
    if plain is not None and pruned is not None and not results.apart(row, benchmark):
        added = in_tokens(plain, pruned, results.options)
    return ClaimMeasurement(
        (ClaimPart("added to prefill", added, TOKENS),),
        evidence_of_rows(results, [base, row], [benchmark]),
        (f"{results.label(row)} on {benchmark}, median over samples.",),
        _gap(results, row, PREFILL),
    )


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


def _rows(results: Results, claim: str) -> tuple[int, int]:
    """The row a claim is about, and Uncompressed. Raises ReportError without either."""
    rates = {row.params.get("r"): at for at, row in enumerate(results.rows) if row.method == "plphp"}
    wanted, base = ABOUT[claim][1], results.reference
    row = rates.get(min(rates, default=None) if wanted is None else wanted)
    if row is None or base is None:
        raise ReportError("the table lacks the row that the claim is about, or the uncompressed one")
    return row, base


def _gap(results: Results, row: int, quantity: str) -> str:
    """Why a cost of finished cells has no number."""
    apart = results.apart(row, results.benchmarks[0]) if quantity in TIMES else ""
    return f"times that cannot be compared with each other ({apart})" if apart else "cells without this measurement"
