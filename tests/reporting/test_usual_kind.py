"""Results of several kinds side by side: every table, figure, verdict and page takes the same one, and says so."""

import json
import re

import numpy as np
import pytest

from plphp_core.analysis.comparable import admits
from plphp_core.analysis.usual_kind import usual_kind
from plphp_core.config.report_choices import Filters
from plphp_core.records.attention_result import AttentionResult
from plphp_core.reporting.reports import make_report, report_names
from tests.claims.claims_factories import asked, paper_cells, readings
from tests.reporting import factories, reports_made
from tests.reporting.reports_made import report, written

FEW = {"samples": 8, "population": 48, "limit": 8}
LESS = {"samples": 4, "population": 48, "limit": 4}


def tagged(records, tag):
    return [one | {"cell": f"{one['cell']}.{tag}"} for one in records]


def contents(folder, table):
    """What the report's files say, but for how many cells were looked through."""
    files = (folder / "toy").glob(f"{table}*")
    return {path.name: re.sub(r"none of the \d+ finished", "", path.read_text(encoding="utf-8")) for path in files}


def written_files(folder):
    """Name → content of everything but the memory of hashes, which grows with what is opened."""
    return {name: text for name, text in reports_made.contents(folder).items() if name != "fingerprints.json"}


def limits(cells):
    return {cell.limit for cell in cells}


def test_the_whole_benchmark_comes_before_subsets_and_the_largest_of_these_first(tmp_path):
    few, less = factories.suite(benchmarks=("SD",), **FEW), factories.suite(benchmarks=("SD",), **LESS)
    factories.write(tmp_path, *tagged(few, "few"), *tagged(less, "less"))
    assert limits(asked(tmp_path, "toy").own_cells) == {8}
    factories.write(tmp_path, *factories.suite(benchmarks=("SD",)))
    assert limits(asked(tmp_path, "toy").own_cells) == {None}
    one = asked(tmp_path, "toy", filters=Filters(limit=4))
    assert limits(cell for cell in one.own_cells if admits(one.filters, cell)) == {4} and not one.said


@pytest.mark.parametrize(
    ("table", "name", "usual", "other"),
    [
        ("table1", "protocol", "lmms_eval", "llava"),
        ("figure5", "prompts", "lmms_eval", "plain"),
        ("sweep", "engine", "generate", "fast"),
        ("claims", "dtype", "float32", "bfloat16"),  # the toy profile's own
    ],
)
def test_every_report_takes_the_usual_kind(tmp_path, drawn, capsys, table, name, usual, other):
    better = factories.suite(benchmarks=("SD", "IE"), **{name: other})
    for one in better:
        one["metrics"]["rouge_l"] = factories.metric([0.01] * one["n"])
    factories.write(tmp_path, *factories.suite(benchmarks=("SD", "IE")), *tagged(better, other))
    assert report(tmp_path, table) == 0
    said = capsys.readouterr().err
    assert f"shown is {name}={usual}; also finished: {name}={other} (26 files)" in said
    left = contents(tmp_path, table)
    for path in (tmp_path / "toy" / "cells").glob(f"*.{other}.json"):
        path.unlink()
    assert report(tmp_path, table) == 0
    assert contents(tmp_path, table) == left


@pytest.mark.slow
def test_a_single_report_and_all_of_them_take_the_same_and_a_subset_replaces_nothing(tmp_path, capsys, drawn):
    few = tagged(factories.suite(**FEW), "few")
    factories.write(tmp_path, *factories.suite(benchmarks=("SD", "IE", "DetailCaps")), *few)
    assert report(tmp_path, "all") == 0
    said = capsys.readouterr().err
    assert said.count("notice: shown is limit=null; also finished: limit=8 (91 files); limit=8 shows those") == 1
    together = written_files(tmp_path)
    assert not any("limit" in name for name in together) and "error" not in said
    for name in report_names("toy"):
        report(tmp_path, name)
    report(tmp_path, "page")
    assert written_files(tmp_path) == together
    assert {"sweep.csv", "table1.csv", "claims.json", "report.html"} <= set(together)
    assert report(tmp_path, "all", "limit=8") == 0
    after = written_files(tmp_path)
    assert {name: after[name] for name in together} == together
    assert {"table1.limit=8.md", "claims.limit=8.json", "report.limit=8.html"} <= set(after)
    capsys.readouterr()
    assert report(tmp_path, "page", "limit=3") == 1  # what nothing fits
    assert "none of the 130 finished cells" in capsys.readouterr().err
    assert report(tmp_path, "claims", "limit=3") == 0
    assert {name: content for name, content in written_files(tmp_path).items() if "limit=3" not in name} == after
    assert "claims.limit=3.md" in written(tmp_path)


def test_another_dtype_that_was_asked_for_has_files_of_its_own(tmp_path):
    half = tagged(factories.suite(benchmarks=("SD",), dtype="bfloat16"), "half")
    factories.write(tmp_path, *factories.suite(benchmarks=("SD",)), *half)
    assert report(tmp_path, "table1") == report(tmp_path, "table1", "dtype=float32") == 0
    assert not any("dtype" in name for name in written(tmp_path))
    assert report(tmp_path, "table1", "dtype=bfloat16") == 0
    assert "table1.dtype=bfloat16.csv" in written(tmp_path)


def test_models_of_one_table_share_everything_but_their_dtype(tmp_path):
    """Mantis is configured for float16, Qwen2-VL for bfloat16; a subset of one is no reason to mix."""
    qwen = factories.of_table3("qwen2_vl", ("SD",), profile="paper", dtype="bfloat16")
    mantis = factories.of_table3("mantis", ("SD",), profile="paper", dtype="float16")
    wrong = tagged(factories.of_table3("mantis", ("SD",), profile="paper", dtype="bfloat16"), "wrong")
    few = tagged(factories.of_table3("mantis", ("SD",), profile="paper", dtype="float16", **FEW), "few")
    factories.write(tmp_path, *qwen, *mantis, *wrong, *few)
    one = asked(tmp_path)
    cells = one.usual_cells(["qwen2_vl", "mantis"])
    assert {(cell.model, cell.dtype, cell.limit) for cell in cells} == {
        ("qwen2_vl", "bfloat16", None), ("mantis", "float16", None)}  # fmt: skip


def test_verdicts_rest_on_the_kind_that_the_tables_show(tmp_path):
    records = paper_cells("table1") + tagged(paper_cells("table1", right=False, limit=40, samples=40), "few")
    factories.write(tmp_path, *records)
    one = asked(tmp_path)
    report = make_report("claims", one)
    (text,) = report.extra.values()
    (c1,) = (found for found in json.loads(text)["findings"] if found["id"] == "C1")
    assert report.variant == "" and c1["conditions"]["limit"] == ["null"] and c1["n"]["SD"] == 60
    assert any("limit=40" in line for line in one.said)


def test_engines_are_compared_on_a_kind_that_both_have(tmp_path):
    """Everything under generate, a subset under both: the subset is what can be compared."""
    from plphp_core.records.cell_result import load_cells
    from plphp_core.reporting.engine_comparison import under_both

    few = factories.suite(benchmarks=("SD",), **FEW)
    fast = [one | {"engine": "fast"} for one in few]
    factories.write(tmp_path, *factories.suite(benchmarks=("SD",)), *tagged(few, "few"), *tagged(fast, "fast"))
    cells = load_cells(tmp_path / "toy" / "cells", "toy")
    assert limits(under_both(cells)) == {8} and len(under_both(cells)) == 26
    alone = [cell for cell in cells if cell.engine == "generate"]
    assert under_both(alone) == alone


def test_readings_of_another_dtype_are_pushed_aside_too(tmp_path):
    readings(tmp_path, models=["llava_onevision"], dtype="bfloat16")
    for path in (tmp_path / "paper" / "attention").glob("*.json"):
        other = json.loads(path.read_text()) | {"dtype": "float32"}
        other["vision_attention"] = np.ones_like(other["vision_attention"]).tolist()
        path.with_name(f"other.{path.name}").write_text(json.dumps(other))
    factories.write(tmp_path, factories.cell("SD", profile="paper"))
    one = asked(tmp_path)
    (parts,) = one.attention().values()
    assert {part.dtype for part in parts} == {"bfloat16"} and isinstance(parts[0], AttentionResult)
    assert any(line.startswith("shown is dtype=bfloat16; also finished: dtype=float32") for line in one.said)


def test_captions_fit_every_protocol_and_have_no_say_in_which_it_is(tmp_path):
    captions = factories.cell("Flickr30k", protocol="llava")
    factories.write(tmp_path, factories.cell("SD"), captions)
    one = asked(tmp_path, "toy")
    assert len(one.own_cells) == 2 and not one.said
    only = [cell for cell in one.cells if cell.benchmark == "SD"]
    assert usual_kind(only, one.filters, one.usual_dtype, lambda cell: True).results == only
