"""A subset beside the full run: neither replaces the other, and nobody has to choose to get the full one."""

import json

import pytest

from tests.reporting import factories
from tests.reporting.reports_made import report, written

FEW = {"samples": 20, "limit": 20, "limit_seed": 0}


def contents(folder):
    return {path.name: path.read_bytes() for path in (folder / "toy").iterdir() if path.is_file()}


@pytest.fixture
def both(tmp_path):
    factories.write(tmp_path, *factories.suite())
    few = factories.suite(**FEW)
    for record in few:
        record["cell"] += ".limit=20-0"
    factories.write(tmp_path, *few)
    return tmp_path


def test_the_full_run_is_reported_and_the_subset_named(both, capsys, drawn):
    assert report(both, "all") == 0
    said = capsys.readouterr().err
    assert said.count("notice: shown is limit=null; also finished: limit=20 (70 files); limit=20 shows those") == 1
    assert "error" not in said
    assert {"table1.md", "claims.json", "report.html"} <= written(both)
    assert not any("limit" in name for name in written(both))
    claims = {one["id"]: one for one in json.loads((both / "toy" / "claims.json").read_text())["findings"]}
    assert claims["C1"]["verdict"] != "not measured"


@pytest.mark.slow
def test_a_subset_has_files_of_its_own(both, drawn):
    assert report(both, "all") == 0
    before = contents(both)
    assert report(both, "all", "limit=20") == 0
    after = contents(both)
    assert {name: after[name] for name in before} == before
    assert {"table1.limit=20.md", "claims.limit=20.md", "claims.limit=20.json", "report.limit=20.html"} <= set(after)


@pytest.mark.slow
def test_a_choice_that_nothing_fits_replaces_nothing(both, capsys, drawn):
    assert report(both, "all") == 0
    before = contents(both)
    assert report(both, "page", "limit=3") == 1
    assert "none of the 140 finished cells" in capsys.readouterr().err
    assert report(both, "claims", "limit=3") == 0
    assert {name: content for name, content in contents(both).items() if "limit=3" not in name} == before
    assert "claims.limit=3.md" in written(both)


def test_a_table_that_cannot_be_made_is_missed_on_the_page(tmp_path, capsys, drawn):
    factories.write(tmp_path, *factories.table3(), factories.cell("SD"), factories.cell("IE", revision="other"))
    assert report(tmp_path, "page") == 1
    page = (tmp_path / "toy" / "report.html").read_text(encoding="utf-8")
    assert "differ in revision" in page and str(tmp_path) not in page
