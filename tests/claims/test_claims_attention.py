"""C14: the rebound of γ against a search by hand, and the ledger on readings whose truth is known."""

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plphp_core.analysis.attention_peaks import peaks
from plphp_core.analysis.bootstrap import with_interval
from plphp_core.claims.attention_measures import largest
from plphp_core.claims.verdict import Outcome, Verdict
from plphp_core.records.attention_result import load_readings
from plphp_core.reporting.attention_results import layer_means
from tests.claims.claims_factories import CHECKPOINTS, ledger, paper_cells, readings
from tests.reporting import factories


@settings(max_examples=60, deadline=None)
@given(means=st.lists(st.floats(0, 1), min_size=3, max_size=9))
def test_the_rebound_is_the_largest_fall_won_back_in_a_deep_layer(means):
    found = largest([with_interval(one, np.full(20, one)) for one in means])
    every = [
        min(means[s] - means[t], means[deep] - means[t])
        for s, t, deep in itertools.combinations(range(len(means)), 3)
        if deep >= len(means) / 3
    ]
    assert found.value == pytest.approx(max(every))
    assert found.low == pytest.approx(found.value) and found.high == pytest.approx(found.value)


def test_too_few_layers_have_no_largest():
    assert math.isnan(largest([]).value) and math.isnan(largest([with_interval(0.5, np.full(9, 0.5))] * 2).value)


def test_the_interval_is_that_of_the_three_layers_paired(tmp_path):
    readings(tmp_path, models=["mantis"])
    gamma = layer_means(load_readings(tmp_path / "paper" / "attention"))
    found = largest(gamma)
    drop, rise = (gamma[at].replicates - gamma[5].replicates for at in (1, 6))
    assert found.value == pytest.approx(0.2, abs=0.02)
    assert found.low == pytest.approx(np.quantile(np.minimum(drop, rise), 0.025))
    assert [peak.layer for peak in peaks(gamma, [40] * 7)] == [6]  # what Figure 1 marks


@pytest.mark.parametrize(
    ("rise", "noise", "expected"),
    [
        (0.2, 0.03, Verdict.REPRODUCED),
        (0.01, 0.001, Verdict.CONTRADICTED),
        (0.05, 0.05, Verdict.INCONCLUSIVE),
    ],
)
def test_rises_that_are_there_absent_or_unclear(tmp_path, rise, noise, expected):
    factories.write(tmp_path, *paper_cells("table1", ("SD",)))
    readings(tmp_path, rise=rise, noise=noise)
    found = ledger(tmp_path)["C14"]
    assert found.verdict is expected and len(found.parts) == 4
    assert found.n["Mantis IE"] == 40 and found.conditions["limit"] == ("full",)
    if expected is not Verdict.INCONCLUSIVE:
        assert ("LLaVA-OneVision 7" in found.remarks[0]) == (expected is Verdict.REPRODUCED)


def test_one_model_without_a_rise_refutes_all_four(tmp_path):
    factories.write(tmp_path, *paper_cells("table1", ("SD",)))
    readings(tmp_path)
    readings(tmp_path, models=["idefics2"], rise=0.0, noise=0.001)
    found = ledger(tmp_path)["C14"]
    assert found.verdict is Verdict.CONTRADICTED
    assert [part.outcome for part in found.parts].count(Outcome.NOT_AS_CLAIMED) == 1


def test_a_missing_model_few_samples_and_the_toy_stay_open(tmp_path):
    factories.write(tmp_path, *paper_cells("table1", ("SD",)), *factories.suite(benchmarks=("SD",)))
    readings(tmp_path, models=list(CHECKPOINTS)[:3], samples=36, population=400)
    found = ledger(tmp_path)["C14"]
    assert found.verdict is Verdict.INCONCLUSIVE and "not finished: Mantis" in found.why
    assert found.run == "make reproduce-figure1 LIMIT=36"
    readings(tmp_path, samples=29, population=400)
    found = ledger(tmp_path)["C14"]
    assert found.verdict is Verdict.INCONCLUSIVE and "fewer than 30" in found.why
    assert found.why.endswith("Run: make reproduce-figure1 LIMIT=100")
    readings(tmp_path, "toy")
    found = ledger(tmp_path, profile="toy")["C14"]
    assert found.verdict is Verdict.INCONCLUSIVE and found.outcome is Outcome.AS_CLAIMED and found.label == "toy"


def test_one_benchmark_of_seven_decides_nothing(tmp_path):
    factories.write(tmp_path, *paper_cells("table1", ("SD",)))
    readings(tmp_path, benchmarks=["IE"])
    found = ledger(tmp_path)["C14"]
    assert found.verdict is Verdict.INCONCLUSIVE and "LLaVA-OneVision on SD" in found.why


@pytest.mark.parametrize(
    "changes",
    [
        {"protocol": "llava"},
        {"prompts": "plain"},
        {"checkpoint": "TIGER-Lab/Mantis-8B-siglip-llama3-GPTQ"},
        {"checkpoint": "somebody/my-idefics2-8b-base"},
    ],
)
def test_another_protocol_or_model_is_not_the_papers(tmp_path, changes):
    factories.write(tmp_path, *paper_cells("table1", ("SD",)))
    readings(tmp_path, **changes)
    assert ledger(tmp_path)["C14"].verdict is Verdict.NOT_COMPARABLE


@pytest.mark.parametrize("folder", ["/data/models/", "hub/models--TIGER-Lab--Mantis-8B-siglip-llama3/snapshots/"])
def test_a_local_copy_is_the_papers_model(tmp_path, folder):
    factories.write(tmp_path, *paper_cells("table1", ("SD",)))
    readings(tmp_path)
    readings(tmp_path, models=["mantis"], checkpoint=f"{folder}Mantis-8B-siglip-llama3")
    assert ledger(tmp_path)["C14"].verdict is Verdict.REPRODUCED


def test_damaged_readings_leave_only_this_claim_unmeasured(tmp_path):
    factories.write(tmp_path, *paper_cells("table1"))
    readings(tmp_path)
    path = next((tmp_path / "paper" / "attention").glob("*.json"))
    path.write_text(json.dumps({"schema": 1}), encoding="utf-8")
    found = ledger(tmp_path)
    assert found["C14"].verdict is Verdict.NOT_MEASURED and path.name in found["C14"].why
    assert found["C1"].verdict is Verdict.REPRODUCED
