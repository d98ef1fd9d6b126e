"""VTW's own rule beside Table 1: its file, its note, and files that are refused."""

import json

import pytest

from plphp_core.cli.vtw_depth_command import main as choose
from plphp_core.records.depth_rule import DepthRule, load_rule, rule_path
from plphp_core.records.errors import ReportError
from plphp_core.reporting.table_notes import vtw_rule
from tests.reporting import factories
from tests.reporting.reports_made import results_of

RULE = DepthRule(
    model="llava_onevision", checkpoint="tasks/toy/checkpoints/llava_onevision", revision="unrecorded",
    dtype="float32", prompts="lmms_eval", benchmarks=["SD", "Flickr30k"], samples=40, seed=0, eta=0.003,
    divergence={2: 1.25, 3: 0.5, 4: 0.0312, 6: 0.002}, chosen=6,
)  # fmt: skip


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return results_of(tmp_path_factory.mktemp("depth"), factories.suite(benchmarks=("SD",)))


def test_a_rule_that_chooses_nothing_says_how_near_it_came(results):
    (said,) = vtw_rule(RULE.model_copy(update=dict(chosen=None, eta=0.0005)), results)
    assert "chooses no K: none of 2 to 6 is below, the nearest is K=6 with 0.002 nats" in said


def test_a_result_for_other_weights_is_not_quoted(results):
    for other in (RULE.model_copy(update=dict(revision="sha256:1")), RULE.model_copy(update=dict(model="mantis"))):
        (said,) = vtw_rule(other, results)
        assert "other weights" in said and "0.002" not in said
    assert vtw_rule(None, results) == []


def test_what_is_written_is_what_is_read(tmp_path):
    file = rule_path(tmp_path, "toy", "llava_onevision")
    assert file == tmp_path / "toy" / "vtw_k.llava_onevision.json" and load_rule(file) is None
    file.parent.mkdir()
    for rule in (RULE, RULE.model_copy(update=dict(chosen=None))):
        rule.write(file)
        assert load_rule(file) == rule.model_copy(update={"path": file})


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: raw.pop("eta"),
        lambda raw: raw.update(schema=1),
        lambda raw: raw.update(divergence={}),
        lambda raw: raw.update(divergence={"six": 0.1}),
    ],
)
def test_a_damaged_file_is_refused_by_name(tmp_path, change):
    raw = RULE.content()
    change(raw)
    file = tmp_path / "vtw_k.llava_onevision.json"
    file.write_text(json.dumps(raw), encoding="utf-8")
    with pytest.raises(ReportError, match=r"vtw_k\.llava_onevision\.json: .*choose_vtw_k"):
        load_rule(file)
    file.write_text("{torn", encoding="utf-8")
    with pytest.raises(ReportError, match="delete it"):
        load_rule(file)


def test_the_script_writes_what_table_1_reads(tmp_path, capsys):
    choice = ["profile=toy", "tasks=[sd,flickr30k]", "vtw_depth.samples=1", "vtw_depth.first=6", f"results={tmp_path}"]
    assert choose([*choice, "vtw_depth.eta=100"]) == 0
    rule = load_rule(rule_path(tmp_path, "toy", "llava_onevision"))
    assert list(rule.divergence) == list(range(6, 12)) and rule.chosen == 6 and rule.benchmarks == ["SD", "Flickr30k"]
    assert rule.samples == 2 and rule.revision.startswith("sha256:") and rule.checkpoint == RULE.checkpoint
    assert f"{rule.divergence[6]:.6f}" in capsys.readouterr().out
    assert choose([*choice, "vtw_depth.eta=0"]) == 1  # a rule that chooses nothing is an answer too
    again = load_rule(rule_path(tmp_path, "toy", "llava_onevision"))
    assert again == rule.model_copy(update=dict(chosen=None, eta=0))
