"""Claims of third parties: their rows are what was printed, their orders are judged at equal bytes, and apart."""

import math
import shlex
from dataclasses import replace

import numpy as np
import pytest
import yaml

from plphp_core import claims
from plphp_core.claims.third_parties import FILE, load_third_parties
from plphp_core.config.equal_cost import equal_cost
from plphp_core.config.hydra_app import composed
from plphp_core.config.report_choices import Options
from plphp_core.config.report_settings import report_settings
from plphp_core.records.cell_result import load_cells
from plphp_core.records.errors import ReportError, UserError
from plphp_core.reporting.request import ReportRequest
from tests.docs.test_commands import check_command
from tests.goldens.draws import Quality, finish
from tests.goldens.records import Conditions, Row, write_matches
from tests.goldens.world import NONE
from tests.reporting.reports_made import PUBLISHED, ROOT

NEXT = Conditions("paper", "llava-hf/llava-v1.6-vicuna-7b-hf", "llava_next", dtype="float16", population=40)
QWEN = Conditions("paper", "Qwen/Qwen2.5-VL-7B-Instruct", "qwen2_5_vl", dtype="bfloat16", population=40)
TASKS = ("IE", "Flickr30k")
BUDGETS = (0.2, 0.33, 0.5)  # of configs/table/compare.yaml
ORDERED = {"plphp": 0.9, "vtw": 0.85, "random": 0.8, "fastv": 0.7}  # as CATP has it


def compared(folder, on, scores=ORDERED, out_of_reach=(), unequal=()):
    """Methods at equal bytes on a model, whose scores are those given times Uncompressed's."""
    config = composed(["table=compare", f"profile={on.profile}", f"model={on.model}",
                       f"table.methods=[{','.join(dict.fromkeys(('none', 'random', *scores)))}]"])  # fmt: skip
    equal = equal_cost(config.table, config.profile, config.model)
    for benchmark in TASKS:
        (reference,) = finish(folder, on, NONE, Quality(), [benchmark])
        matches = []
        for budget in equal.budgets:
            for number, one in enumerate(equal.contenders):
                why = "text alone is more" if (one.name, budget) in out_of_reach else ""
                found = one.search and one.search.params(
                    round(budget + 0.01 * number, 4) * (10 if one.search.whole else 1)
                )
                method = None if why else one.at(budget, found)
                matches.append((budget, one, method, why))
                if method is not None and one.name in scores:
                    row = Row(method.name, method.params, method.setting)
                    quality = Quality(scores[one.name], (budget - 0.2) / 0.8, spread=0.02)
                    finish(folder, on, row, quality, [benchmark])
        write_matches(folder, on, reference, matches, unequal=unequal)


def asked(folder, profile="paper", *more) -> ReportRequest:
    given = ["table=third_parties", f"profile={profile}", f"results={folder}", "tasks=[ie,flickr30k]", *more]
    cells = load_cells(folder / profile / "cells", profile) if (folder / profile).exists() else []
    settings = replace(report_settings(given), choices=Options(resamples=200))
    return ReportRequest(cells, settings, ROOT)


def lines(folder, *more, profile="paper"):
    """Claim → its lines of the csv."""
    frame = claims.third_parties_report(asked(folder, profile, *more)).tables[""]
    return {claim: own.to_dict("records") for claim, own in frame.groupby("claim")}


def test_their_rows_are_whole_and_hold_what_is_claimed():
    known = load_third_parties(PUBLISHED)
    catp, *others = {one.source.name: one.source for one in known}.values()
    benchmarks = list(catp.rows.columns[4:-1])
    assert len(benchmarks) == 8 and len(catp.rows) == 25 and all(one.rows is None for one in others)
    full = {line.model: line for line in catp.rows.itertuples(index=False) if line.method == "none"}
    for line in catp.rows[catp.rows[benchmarks[0]] != "n/a"].itertuples(index=False):
        own, base = (np.array(list(map(float, one[4:-1]))) for one in (line, full[line.model]))
        assert float(line.average) == pytest.approx(100 * np.mean(own / base), abs=0.06), line  # as they round
    for one in known:
        better, *worse = one.rule.methods
        gaps = one.source.gaps(better, worse)
        assert (one.source is catp) == bool(gaps) and all(gap > 0 for gap in gaps), one.claim
        assert one.differs == ("plphp" in one.rule.methods)


def test_an_order_is_judged_where_all_hold_the_same_bytes(tmp_path):
    compared(tmp_path, NEXT)
    found = lines(tmp_path)
    assert [found[claim][0]["verdict"] for claim in ("T1", "T4")] == ["holds", "holds"]
    assert [one["part"] for one in found["T1"]] == [f"LLaVA-NeXT at {b} of the KV bytes" for b in ("20%", "33%", "50%")]
    scores = {}
    for cell in load_cells(tmp_path / "paper" / "cells", "paper"):
        if cell.method in ("plphp", "vtw"):
            share = round(cell.costs["kv_bytes"].mean() / cell.costs["kv_bytes_full"].mean(), 1)
            for name, metric in cell.metrics.items():
                scores.setdefault((share, cell.benchmark, name), {})[cell.method] = metric.value
    half = [own["plphp"] / own["vtw"] - 1 for (share, *_), own in scores.items() if share == 0.5]
    assert found["T1"][-1]["change"] == pytest.approx(100 * np.mean(half)) and len(half) == 3
    # of two models one is not there: open, whatever the other says, until its command has been run
    assert {one["by_the_rule"] for one in found["T5"]} == {"as claimed"} and found["T5"][0]["verdict"] == "undecided"
    assert "make compare MODEL=qwen2_5_vl ARGS='table.methods=[none,random,fastv]'" in found["T5"][0]["run"]
    compared(tmp_path, QWEN)
    found = lines(tmp_path)
    assert [found[claim][0]["verdict"] for claim in ("T2", "T3", "T5")] == ["holds"] * 3 and len(found["T5"]) == 6
    assert found["T6"][0]["verdict"] == "undecided"  # two more models


def test_the_other_order_too_little_and_other_weights(tmp_path):
    wrong = ORDERED | {"vtw": 0.95}
    compared(tmp_path / "wrong", NEXT, wrong)
    found = lines(tmp_path / "wrong")
    assert found["T1"][0]["verdict"] == "does not hold" and found["T4"][0]["verdict"] == "holds"
    compared(tmp_path / "few", replace(NEXT, population=20))
    assert lines(tmp_path / "few")["T1"][0]["verdict"] == "undecided"
    compared(tmp_path / "other", replace(NEXT, checkpoint="somebody/llava-next-tuned"))
    assert lines(tmp_path / "other")["T1"][0]["verdict"] == "not comparable"
    compared(tmp_path / "toy", Conditions("toy", "tasks/toy/checkpoints/llava_onevision", population=40))
    found = lines(tmp_path / "toy", profile="toy")
    assert {own[0]["verdict"] for claim, own in found.items() if claim < "T7"} == {"undecided"}
    assert {own[0]["outcome"] for claim, own in found.items() if claim < "T6"} == {"as claimed"}
    assert found["T6"][0]["outcome"] == "not as claimed" and found["T6"][0]["label"] == "toy"


def test_a_budget_that_one_of_the_two_cannot_have_or_does_not_hold_is_not_compared(tmp_path):
    compared(tmp_path, NEXT, out_of_reach=[("vtw", 0.2)], unequal=("vtw", 0.33, "IE"))
    found = lines(tmp_path)["T1"]
    assert [one["part"] for one in found] == [f"LLaVA-NeXT at {share} of the KV bytes" for share in ("33%", "50%")]
    report = claims.third_parties_report(asked(tmp_path))
    assert not report.findings and set(report.files()) == {f"third_parties.{kind}" for kind in ("md", "csv", "tex")}
    _, parts, _ = report.sheets
    (said,) = (note for note in parts.notes if note.startswith("T1"))
    assert "VTW KV 20% cannot be had on IE, Flickr30k" in said
    assert "at 33%: left out, as not at equal bytes: IE" in said
    compared(tmp_path / "none", NEXT, out_of_reach=[("vtw", budget) for budget in BUDGETS])
    (found,) = lines(tmp_path / "none")["T1"]
    assert found["verdict"] == "not measured" and math.isnan(found["change"] or math.nan)


@pytest.mark.parametrize("profile", ["paper", "toy"])
def test_every_command_is_one_but_for_methods_that_cannot_be_compared_yet(tmp_path, profile):
    for claim, (first, *_) in lines(tmp_path, profile=profile).items():
        assert first["verdict"] == "not measured" and first["run"].startswith("make compare"), claim
        for command in first["run"].split(" && "):
            others = set(command.partition("[")[2].partition("]")[0].split(",")) - {
                "none",
                "random",
                "plphp",
                "fastv",
                "vtw",
            }
            try:
                check_command(shlex.split(command))
            except UserError as error:  # no such method, or nothing says how it is brought to a budget
                assert any(name in str(error) for name in others), error


def test_many_are_as_many_as_the_claim_needs(tmp_path):
    """What VTC-Bench claims, of methods that are here: above two of three, mean over models and budgets."""
    compared(tmp_path, NEXT, {"snapkv": 0.8, "random": 0.7, "recency": 0.75, "tova": 0.9})
    data = yaml.safe_load((PUBLISHED / FILE).read_text(encoding="utf-8"))
    (many,) = (one for one in data["claims"] if one["id"] == "T7")
    many |= {"better": "snapkv", "worse": ["random", "recency", "tova"], "models": ["llava_next"]}
    own = tmp_path / "published"
    own.mkdir()
    (own / "catp.csv").write_bytes((PUBLISHED / "catp.csv").read_bytes())
    (own / FILE).write_text(yaml.safe_dump(data), encoding="utf-8")
    found = lines(tmp_path, f"report.published={own}")["T7"]
    assert [(one["part"], one["by_the_rule"]) for one in found] == [
        ("Random", "as claimed"), ("Recency", "as claimed"), ("TOVA", "not as claimed")]  # fmt: skip
    assert {one["verdict"] for one in found} == {"holds"}
    for changes, said in (
        ({"models": ["llava_nxt"]}, "llava_next"),
        ({"parts": "samples"}, "budgets"),
        ({"extra": 1}, "extra"),
    ):
        (own / FILE).write_text(yaml.safe_dump(data | {"claims": [many | changes]}), encoding="utf-8")
        with pytest.raises(ReportError, match=said):
            lines(tmp_path, f"report.published={own}")
