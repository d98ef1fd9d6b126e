"""The ledger's files: plain JSON, every line labelled, hostile text escaped, the same bytes, the docs' numbers."""

import json
import math
import re

import pytest

from plphp_core import claims
from plphp_core.claims import cost_measures, ledger_tables
from plphp_core.claims.claim_finding import Range, plain, span, written
from plphp_core.claims.claim_rules import OF_ORDER, RULES
from plphp_core.claims.verdict import Verdict
from plphp_core.reporting import render
from plphp_core.reporting.published import load_claims
from tests.claims.claims_factories import PUBLISHED, ROOT, asked, everything, ledger, paper_cells, timed
from tests.reporting import factories

DOCS = (ROOT / "docs" / "claims.md").read_text(encoding="utf-8")


def refuse(text):
    raise AssertionError(f"{text} is no JSON")


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy")
    factories.write(folder, *factories.suite())
    return folder


def test_two_files_of_plain_json_and_markdown(toy):
    made = claims.report(asked(toy, "toy"))
    files = made.files()
    assert set(files) == {"claims.md", "claims.json"}
    content = json.loads(files["claims.json"], parse_constant=refuse)
    assert content["schema"] == 1 and content["toy"] is True and content["profile"] == "toy"
    assert [one["id"] for one in content["findings"]] == list(RULES)
    assert sum(content["counts"].values()) == len(RULES) and set(content["counts"]) == set(map(str, Verdict))
    by_id = {one["id"]: one for one in content["findings"]}
    assert by_id["C9a"]["ours"] == {"value": None, "low": None, "high": None} and by_id["C9a"]["published"] is None
    assert by_id["C1"]["n"] == dict.fromkeys(factories.SCORES, 48) and by_id["C1"]["label"] == "toy"
    assert by_id["C1"]["difference"]["value"] == pytest.approx(by_id["C1"]["ours"]["value"] + 0.46)
    assert made.files() == files == claims.report(asked(toy, "toy")).files()


def test_a_subset_has_files_of_its_own(tmp_path):
    factories.write(tmp_path, *paper_cells("table1", samples=40, limit=40, population=900))
    assert set(claims.report(asked(tmp_path)).files()) == {"claims.limit=40.md", "claims.limit=40.json"}


def test_every_line_of_a_toy_says_so(toy):
    table, *details = ledger_tables.sheets(claims.findings(asked(toy, "toy")), "toy")
    assert len(details) == len(table.rows) == len(RULES)
    assert all(row.cells[0].mark == "toy" and "toy" in row.cells[-1].detail for row in table.rows)
    assert all("(toy)" in sheet.title and "(toy)" in sheet.notes[0] for sheet in details)
    assert "(toy profile): 0 reproduced, 0 contradicted" in table.title and "nothing about" in table.notes[0]
    text = render.markdown([table, *details])
    assert "Reproduced" not in text and "Contradicted" not in text


def test_the_papers_profile_has_no_label_and_all_the_numbers(tmp_path):
    found = ledger(tmp_path, everything())
    table, *details = ledger_tables.sheets(list(found.values()), "paper")
    assert table.title.startswith("Claims of arXiv 2502.14504v1: 17 reproduced, 0 contradicted")
    assert all(row.cells[0].mark == "" and row.cells[-1].detail == "" for row in table.rows)
    first = [entry.text for entry in table.rows[0].cells]
    one = found["C1"]
    assert first[2] == "−0.46%" and first[3] == f"+{one.ours.value:.2f}%"
    assert first[5] == f"+{one.difference.value:.2f} points" and first[6] == "420" and first[7] == one.hardware[0]
    assert [row.cells[0].text for row in details[list(found).index("C11")].rows] == ["SD", "IE", "VST", "DetailCaps"]
    assert "7 of 7 parts" in [entry.text for entry in table.rows[9].cells]


def test_hostile_text_is_escaped(tmp_path):
    hostile = "<script>alert(1)</script>|**x**\n# head"
    factories.write(tmp_path, *paper_cells("table1", ("SD",), hardware=hostile, checkpoint=hostile))
    made = claims.report(asked(tmp_path)).files()
    assert "script" in made["claims.md"] and not re.search(r"(?<!\\)<script|(?m:^# head)", made["claims.md"])
    assert json.loads(made["claims.json"])["findings"][0]["hardware"] == [hostile]


def test_numbers_in_their_units():
    assert written(-0.46, "percent") == "−0.46%" and written(53.8, "percent_saved") == "53.80%"
    assert written(0.5, "decoded_tokens") == "0.500 tokens" and written(2, "points") == "+2.00 points"
    assert written(None, "percent") == written(math.nan, "percent") == "n/a"
    assert span(Range(1, -0.5, 2), "percent") == "[−0.50%, +2.00%]"
    assert span(Range(1, -0.5, 2), "points") == "[−0.50, +2.00] points" and span(Range(), "points") == "n/a"
    assert plain({"a": (1, math.nan, math.inf, 1 / 3, True, None)}) == {"a": [1, None, None, 0.33333333, True, None]}


def test_bench_figures_of_the_same_hardware_are_quoted_and_others_left_out(tmp_path):
    head = "model,method,added_decode_tokens\n"
    files = {
        "gpu-nvidia-a100-sxm4-80gb-16-cores.csv": "7b,none,0\n7b,plphp,0.2\n7b,plphp,0.31\n7b,plphp,n/a\n",
        "gpu-nvidia-h200.csv": "7b,plphp,0.9\n",
    }
    for name, lines in files.items():
        (tmp_path / name).write_text(head + lines, encoding="utf-8")
    (tmp_path / "sharing-nvidia-a100-sxm4-80gb.csv").write_text("method,seconds\nplphp,3\n", encoding="utf-8")
    (tmp_path / "gpu-nvidia-a100-sxm4-80gb-mig.csv").write_text(head + "7b,plphp,0.9\n", encoding="utf-8")
    (tmp_path / "broken-nvidia-a100-sxm4-80gb.csv").write_bytes(b"\xff\xfe" + head.encode())
    (said,) = cost_measures.bench_figures(tmp_path, ("NVIDIA A100-SXM4-80GB",))
    assert "0.200 to 0.310 tokens" in said and "7b" in said
    assert (
        cost_measures.bench_figures(tmp_path, ("NVIDIA H100",))
        == []
        == cost_measures.bench_figures(tmp_path / "no", ("x",))
    )


def test_prefills_are_subtracted_sample_by_sample(tmp_path):
    records = timed(paper_cells("table5", ("DetailCaps",)))
    none, ours = (next(r for r in records if r["setting"] == setting) for setting in ("", "r=0.4, Δr=0.3"))
    for one, prefill in ((none, 100.0), (ours, 103.0)):  # samples differ by far more than pruning adds
        one["efficiency"]["prefill_ms"] = [prefill + 1000 * (doc % 7) for doc in one["doc_ids"]]
        one["efficiency"]["decode_ms_per_token"] = [None, *[20.0] * (one["n"] - 1)]
    found = ledger(tmp_path, records)["C8"]
    assert found.ours == Range(0.15, 0.15, 0.15) and found.verdict is Verdict.REPRODUCED


def test_batches_not_samples_are_drawn_where_they_share_their_times(tmp_path):
    records = [factories.timed("none", batch=8, samples=40), factories.timed("plphp", batch=8, samples=40)]
    records[1] |= {"params": factories.PLPHP, "setting": "r=0.4, Δr=0.3"}
    found = ledger(tmp_path, records, profile="toy")["C8"]
    assert not math.isnan(found.ours.value) and math.isnan(found.ours.low)  # five batches are too few


def test_the_docs_have_every_claim_with_its_border_and_tolerance():
    lines = {match[1]: match[0] for match in re.finditer(r"^\| (C\d+[abc]?) \|.*$", DOCS, re.MULTILINE)}
    assert list(lines) == list(RULES)
    for claim in load_claims(PUBLISHED):
        rule = RULES[claim.id]
        _, _, _, holds, tolerance, _ = (part.strip() for part in lines[claim.id].split("|"))
        held = rule.statement(claim)
        if rule.kind in OF_ORDER:
            assert f"{held.low:g}" in holds and ("at least 2" in holds) == (rule.needed == 2)
        else:
            border = f"≤ {held.high:g}" if rule.kind == "at most" else f"≥ {held.low:g}"
            assert holds == border.replace("-", "−")
            assert float(re.match(r"[\d.]+", tolerance)[0]) == rule.tolerance
