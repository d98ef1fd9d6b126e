"""Claims about costs at several r: C5, C6, C7 and C8 (Table 5)."""

from __future__ import annotations

import math

import numpy as np

from plphp_core.analysis.bootstrap import MISSING, Estimate, Resamples, with_interval
from plphp_core.analysis.costs import DECODE, FEWEST, KV, PREFILL, TIMES, Costs
from plphp_core.analysis.results import Options
from plphp_core.claims.claim_evidence import evidence_of_rows
from plphp_core.claims.claim_finding import PERCENT, SAVED, TOKENS, ClaimMeasurement, ClaimPart
from plphp_core.claims.claim_sources import ClaimSources
from plphp_core.records.cell_result import CellResult
from plphp_core.records.errors import ReportError
from plphp_core.reporting.table_model import percent

# claim → what it is about, and at which r; None: the lowest there is
ABOUT = {"C5": (DECODE, 0.4), "C6": (KV, 0.4), "C7a": (DECODE, None), "C7b": (KV, None)}


def saved(sources: ClaimSources, claim: str) -> ClaimMeasurement:
    """C5, C7a: share of the decode time per token saved; C6, C7b: share of the KV bytes; in percent."""
    costs = sources.table5
    row, base = _rows(costs, claim)
    quantity = ABOUT[claim][0]
    timed = quantity == DECODE
    name, unit = ("decode time saved", PERCENT) if timed else ("KV bytes saved", SAVED)
    change = costs.change(row, quantity)
    remarks = [f"{costs.results.label(row)} on {costs.benchmark}."]
    if timed and not math.isnan(change.value):
        remarks.append(f"In tokens per second: {percent(1 / (1 + change.value) - 1)}.")
    saving = Estimate(-100 * change.value, -100 * change.replicates, -100 * change.high, -100 * change.low)
    found = evidence_of_rows(costs.results, [base, row], [costs.benchmark])
    return ClaimMeasurement((ClaimPart(name, saving, unit),), found, tuple(remarks), _gap(costs, row, quantity))


def prefill_cost(sources: ClaimSources) -> ClaimMeasurement:
    """C8: what PLPHP at its defaults adds to a sample's prefill, in decoded tokens of the same sample uncompressed."""
    costs = sources.table5
    row, base = _rows(costs, "C5")
    plain, pruned, added = costs.cell(base), costs.cell(row), MISSING
    if plain is not None and pruned is not None and row not in costs.apart:
        added = in_tokens(plain, pruned, costs.results.options)
    return ClaimMeasurement(
        (ClaimPart("added to prefill", added, TOKENS),),
        evidence_of_rows(costs.results, [base, row], [costs.benchmark]),
        (f"{costs.results.label(row)} on {costs.benchmark}, median over samples.",),
        _gap(costs, row, PREFILL),
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


def _rows(costs: Costs, claim: str) -> tuple[int, int]:
    """The row a claim is about, and Uncompressed. Raises ReportError without either."""
    rates = {row.params.get("r"): at for at, row in enumerate(costs.results.rows) if row.method == "plphp"}
    wanted, base = ABOUT[claim][1], costs.results.reference
    row = rates.get(min(rates, default=None) if wanted is None else wanted)
    if row is None or base is None:
        raise ReportError("the table lacks the row that the claim is about, or the uncompressed one")
    return row, base


def _gap(costs: Costs, row: int, quantity: str) -> str:
    """Why a cost of finished cells has no number."""
    apart = costs.apart.get(row) if quantity in TIMES else None
    return f"times that cannot be compared with each other ({apart})" if apart else "cells without this measurement"
