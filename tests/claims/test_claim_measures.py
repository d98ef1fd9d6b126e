"""What claims are measured by, computed another way: the polyline of C13, the rebound of C14, the tokens of C8."""

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plphp_core.analysis.bootstrap import with_interval
from plphp_core.analysis.results import evaluate
from plphp_core.claims.claim_measures import largest_rebound
from plphp_core.claims.equal_retention import polyline_change
from plphp_core.claims.verdict import RuleOutcome, Verdict
from plphp_core.config.report_choices import Filters, Options
from plphp_core.records.cell_result import load_cells
from plphp_core.reporting.configured import rows_configured
from tests.claims.claims_factories import CHECKPOINTS, ledger, paper_cells, readings, timed
from tests.reporting import factories


def test_the_change_is_against_the_rival_at_the_very_share_kept(tmp_path):
    factories.write(tmp_path, *paper_cells("table1", ("SD",)))
    rows = rows_configured("table1", "paper", "llava_onevision")
    results = evaluate(load_cells(tmp_path / "paper" / "cells", "paper"), rows, Filters(), Options(resamples=100))
    fastv, ours = [1, 2, 3], 8  # vision kept 0.3, 0.55, 0.78 and 0.33
    found = polyline_change(results, ours, fastv, "SD", "rouge_l")
    low, high, own = (results.value(at, "SD", "rouge_l") for at in (1, 2, ours))
    weight = (0.33 - 0.3) / 0.25
    assert found.value == pytest.approx(own.value / (low.value + weight * (high.value - low.value)) - 1)
    lines = low.replicates + weight * (high.replicates - low.replicates)
    assert np.allclose(found.replicates, own.replicates / lines - 1)


def test_beyond_the_rivals_range_nothing_is_said(tmp_path):
    records = paper_cells("table1")
    for one in records:
        if one["method"] == "vtw" and one["benchmark"] == "MV":  # keeps more than any setting of PLPHP
            one["efficiency"]["retention"] = [0.5 + 0.4 * one["efficiency"]["retention"][0]] * one["n"]
    found = ledger(tmp_path, records)["C13"]
    parts = {part.name: part.outcome for part in found.parts}
    assert parts.pop("VTW on MV") is RuleOutcome.UNDECIDED
    assert set(parts.values()) == {RuleOutcome.AS_CLAIMED} and found.verdict is Verdict.INCONCLUSIVE
    (said,) = (one for one in found.remarks if one.startswith("VTW on MV"))
    assert "r=0.5, Δr=0.3 (43.0%)" in said and "64.4% to 78.4%" in said


@settings(max_examples=60, deadline=None)
@given(means=st.lists(st.floats(0, 1), min_size=3, max_size=9))
def test_the_rebound_is_the_largest_fall_won_back_in_a_deep_layer(means):
    found = largest_rebound([with_interval(one, np.full(20, one)) for one in means])
    every = [
        min(means[s] - means[t], means[deep] - means[t])
        for s, t, deep in itertools.combinations(range(len(means)), 3)
        if deep >= len(means) / 3
    ]
    assert found.value == pytest.approx(max(every)) == pytest.approx(found.low) == pytest.approx(found.high)
    assert math.isnan(largest_rebound([with_interval(0.5, np.full(9, 0.5))] * 2).value)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, Verdict.REPRODUCED),
        ({"rise": 0.01, "noise": 0.001}, Verdict.CONTRADICTED),
        ({"rise": 0.05, "noise": 0.05}, Verdict.INCONCLUSIVE),
        ({"benchmarks": ["IE"]}, Verdict.INCONCLUSIVE),
        ({"models": list(CHECKPOINTS)[:3]}, Verdict.INCONCLUSIVE),
        ({"prompts": "plain"}, Verdict.NOT_COMPARABLE),
        ({"checkpoint": "TIGER-Lab/Mantis-8B-siglip-llama3-GPTQ"}, Verdict.NOT_COMPARABLE),
    ],
)
def test_rises_that_are_there_absent_unclear_or_not_the_papers(tmp_path, changes, expected):
    factories.write(tmp_path, *paper_cells("table1", ("SD",)))
    readings(tmp_path, **changes)
    found = ledger(tmp_path)["C14"]
    assert found.verdict is expected and len(found.parts) == 4
    if expected is Verdict.REPRODUCED:
        assert found.evidence.n["Mantis IE"] == 40 and "LLaVA-OneVision 6" in found.remarks[0]


def test_one_model_without_a_rise_refutes_all_four_and_damaged_readings_measure_nothing(tmp_path):
    factories.write(tmp_path, *paper_cells("table1"))
    readings(tmp_path)
    readings(tmp_path, models=["mantis"], checkpoint="hub/models--TIGER-Lab--Mantis-8B-siglip-llama3/snapshots/x")
    readings(tmp_path, models=["idefics2"], rise=0.0, noise=0.001)
    found = ledger(tmp_path)["C14"]
    assert found.verdict is Verdict.CONTRADICTED and found.count(RuleOutcome.NOT_AS_CLAIMED) == 1
    path = next((tmp_path / "paper" / "attention").glob("*.json"))
    path.write_text(json.dumps({"schema": 1}), encoding="utf-8")
    found = ledger(tmp_path)
    assert found["C14"].verdict is Verdict.NOT_MEASURED and path.name in found["C14"].why
    assert found["C1"].verdict is Verdict.REPRODUCED


def test_prefills_are_subtracted_sample_by_sample(tmp_path):
    records = timed(paper_cells("table5", ("DetailCaps",)))
    none, ours = (next(r for r in records if r["setting"] == setting) for setting in ("", "r=0.4, Δr=0.3"))
    for one, prefill in ((none, 100.0), (ours, 103.0)):  # samples differ by far more than pruning adds
        one["efficiency"]["prefill_ms"] = [prefill + 1000 * (doc % 7) for doc in one["doc_ids"]]
        one["efficiency"]["decode_ms_per_token"] = [None, *[20.0] * (one["n"] - 1)]
    found = ledger(tmp_path, records)["C8"]
    assert (found.ours.value, found.ours.low, found.ours.high) == pytest.approx((0.15, 0.15, 0.15))
    assert found.verdict is Verdict.REPRODUCED


def test_batches_not_samples_are_drawn_where_they_share_their_times(tmp_path):
    records = [factories.timed("none", batch=8, samples=40), factories.timed("plphp", batch=8, samples=40)]
    records[1] |= {"params": factories.PLPHP, "setting": "r=0.4, Δr=0.3"}
    found = ledger(tmp_path, records, profile="toy")["C8"]
    assert not math.isnan(found.ours.value) and math.isnan(found.ours.low)  # five batches are too few
