"""The ledger's files: plain JSON, every line labelled, hostile text escaped, the same bytes, the docs' numbers."""

import json
import math
import re

import pytest

from plphp_core import claims
from plphp_core.analysis.bootstrap import MISSING, Estimate
from plphp_core.claims.claim_finding import written, written_interval
from plphp_core.claims.claim_rules import OF_ORDER, RULES
from plphp_core.claims.verdict import Verdict
from plphp_core.reporting.published import load_claims
from tests.claims.claims_factories import asked, paper_cells
from tests.reporting import factories
from tests.reporting.reports_made import PUBLISHED, ROOT

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


def test_hostile_text_is_escaped(tmp_path):
    hostile = "<script>alert(1)</script>|**x**\n# head"
    factories.write(tmp_path, *paper_cells("table1", ("SD",), hardware=hostile, checkpoint=hostile))
    made = claims.report(asked(tmp_path)).files()
    assert "script" in made["claims.md"] and not re.search(r"(?<!\\)<script|(?m:^# head)", made["claims.md"])
    assert json.loads(made["claims.json"])["findings"][0]["hardware"] == [hostile]


def test_numbers_in_their_units():
    assert written(-0.46, "percent") == "−0.46%" and written(53.8, "percent_saved") == "53.80%"
    assert written(0.5, "decoded_tokens") == "0.500 tokens" and written(2, "points") == "+2.00 points"
    assert written(None, "percent") == written(math.nan, "percent") == written_interval(MISSING, "points") == "n/a"
    one = Estimate(1, MISSING.replicates, -0.5, 2)
    assert written_interval(one, "percent") == "[−0.50%, +2.00%]"
    assert written_interval(one, "points") == "[−0.50, +2.00] points"


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
