"""What a verdict depends on beside the numbers: hardware, model, training, profile; and the command that is named."""

import math

import pytest

from plphp_core.analysis.comparable import Filters
from plphp_core.claims.claim_rules import RULES
from plphp_core.claims.paper_conditions import is_the_papers
from plphp_core.claims.verdict import Outcome, Verdict
from tests.claims.claims_factories import A100, asked, everything, ledger, paper_cells, timed
from tests.reporting import factories

REPRODUCED, INCONCLUSIVE, NOT_COMPARABLE, NOT_MEASURED = (
    Verdict.REPRODUCED,
    Verdict.INCONCLUSIVE,
    Verdict.NOT_COMPARABLE,
    Verdict.NOT_MEASURED,
)
CELLS = [claim for claim in RULES if claim != "C14"]  # what rests on cells
TIMED = {claim for claim, rule in RULES.items() if rule.timed}
TABLE1 = ("C1", "C2", "C3", "C4")


def of_table1(**changes):
    return paper_cells("table1", **changes)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (A100, True),
        ("NVIDIA A100 80GB PCIe", True),
        ("NVIDIA A100-SXM4-40GB", False),
        ("NVIDIA A100-SXM4-80GB MIG 3g.40gb", False),
        ("NVIDIA H100 80GB HBM3", False),
        ("NVIDIA A800-SXM4-80GB", False),
        ("AMD EPYC", False),
        ("unrecorded", False),
    ],
)
def test_the_papers_hardware_is_one_whole_a100_of_80_gb(name, expected):
    assert is_the_papers(name) is expected


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"hardware": "NVIDIA H200"}, "Measured on NVIDIA H200"),
        ({"batch_size": 8}, "Batch size 8"),
        ({"engine": "fast"}, "Engine fast"),
    ],
)
def test_times_of_other_conditions_are_not_comparable_but_shown_and_bytes_still_count(tmp_path, changes, said):
    found = ledger(tmp_path, timed(paper_cells("table5", ("DetailCaps",), **changes)))
    for claim in TIMED:
        assert found[claim].verdict is NOT_COMPARABLE and found[claim].outcome is None
        assert found[claim].why.startswith(said) and not math.isnan(found[claim].ours.value)
    assert found["C6"].verdict is found["C7b"].verdict is REPRODUCED


def test_times_of_several_machines_have_no_value(tmp_path):
    records = timed(paper_cells("table5", ("DetailCaps",)))
    for one in records:
        one["hardware"] = "NVIDIA H200" if one["method"] == "none" else A100
    found = ledger(tmp_path, records)
    assert {found[claim].verdict for claim in TIMED} == {NOT_MEASURED}
    assert all("Uncompressed on NVIDIA H200" in found[claim].why for claim in TIMED)


def test_another_model_is_not_comparable_and_a_copy_of_the_papers_is(tmp_path):
    other = ledger(tmp_path / "other", of_table1(checkpoint="llava-hf/llava-onevision-qwen2-0.5b-ov-hf"))
    assert {other[claim].verdict for claim in TABLE1} == {NOT_COMPARABLE}
    assert "qwen2-0.5b" in other["C1"].why and other["C1"].ours.value > 0
    copy = ledger(tmp_path / "copy", of_table1(checkpoint="/data/llava-onevision-qwen2-7b-ov-hf/snapshot"))
    assert copy["C1"].verdict is REPRODUCED


@pytest.mark.parametrize("right", [True, False])
def test_random_weights_are_never_decided(tmp_path, right):
    cells = [one | {"checkpoint": "folder/llava_random"} for one in everything(right)]
    found = ledger(tmp_path, cells)
    for claim in CELLS:
        one = found[claim]
        assert one.verdict is INCONCLUSIVE and one.label == "random weights"
        assert one.outcome is (Outcome.AS_CLAIMED if right else Outcome.NOT_AS_CLAIMED)


def test_the_toy_is_never_decided(tmp_path):
    records = factories.suite() + factories.table3() + factories.of_costs("table5", samples=48)
    places = {(one["model"], one["method"], str(one["params"]), one["benchmark"]): one for one in records}
    found = ledger(tmp_path, places.values(), profile="toy")
    assert {one.label for one in found.values()} == {"toy"}
    assert {one.verdict for one in found.values()} == {INCONCLUSIVE, NOT_COMPARABLE, NOT_MEASURED}
    assert {claim for claim, one in found.items() if one.verdict is NOT_COMPARABLE} == TIMED
    assert found["C3"].outcome is Outcome.AS_CLAIMED and "says nothing about the paper's models" in found["C3"].why
    assert found["C6"].outcome is Outcome.NOT_AS_CLAIMED and found["C6"].ours.value < 40
    assert all("PROFILE=toy" in one.run for one in found.values())


def test_commands_carry_the_conditions_of_the_cells(tmp_path):
    found = ledger(tmp_path, of_table1(engine="fast", protocol="llava", prompts="plain", samples=12))
    assert found["C1"].run == "make reproduce-table1 PROTOCOL=llava ENGINE=fast"
    factories.write(tmp_path / "b", *of_table1(prompts="plain"))
    asking = asked(tmp_path / "b", filters=Filters(prompts="plain", limit="full"))
    assert asking.profile == "paper"
    assert ledger(tmp_path / "b")["C1"].run == "make reproduce-table1 PROMPTS=plain"
    assert ledger(tmp_path / "b", filters=asking.filters)["C9a"].run == "make reproduce-table3 PROMPTS=plain"


@pytest.mark.parametrize("changes", [{"protocol": "llava", "prompts": "plain"}, {"prompts": "plain"}])
def test_scores_under_another_protocol_are_not_compared_with_the_papers(tmp_path, changes):
    for model in ("qwen2_vl", "idefics2", "mantis"):
        factories.write(tmp_path, *paper_cells("table3", model=model, **changes))
    found = ledger(tmp_path)
    for name in ("C9a", "C9b", "C9c", "C10a", "C10b"):
        assert found[name].verdict is Verdict.NOT_COMPARABLE and "lmms-eval" in found[name].why
