"""Cell files: what is read from them, and that contradictory ones are refused by name."""

import json
import math

import pytest

from plphp_core.records.cell_result import load_cell, load_cells
from plphp_core.records.errors import ReportError
from tests.reporting import factories


def test_a_cell_is_read_back(tmp_path):
    record = factories.cell("MV", "plphp", factories.PLPHP, "r=0.4, Δr=0.3", samples=12, failed=(2, 5))
    cell = load_cell(factories.write(tmp_path, record)[0])
    assert (cell.benchmark, cell.method, cell.params) == ("MV", "plphp", factories.PLPHP)
    assert (cell.n, cell.errors, list(cell.doc_ids)) == (10, 2, [0, 1, 3, 4, 6, 7, 8, 9, 10, 11])
    assert cell.metrics["overall"].value == record["metrics"]["overall"]["value"]
    assert list(cell.metrics["overall"].groups) == record["metrics"]["overall"]["groups"]


def test_a_cell_in_which_every_sample_failed_has_no_score(tmp_path):
    cell = load_cell(factories.write(tmp_path, factories.cell(samples=2, failed=(0, 1)))[0])
    assert (cell.n, cell.errors) == (0, 2)
    assert math.isnan(cell.metrics["rouge_l"].value)


def test_the_seed_of_a_subset_counts_only_where_there_is_a_subset(tmp_path):
    full, part = factories.write(tmp_path, factories.cell(limit_seed=5), factories.cell("IE", limit=48, limit_seed=5))
    assert load_cell(full).limit_seed is None
    assert load_cell(part).limit_seed == 5


def spoilt(**changes):
    return {**factories.cell(samples=4), **changes}


def metrics(**changes):
    return {"rouge_l": {**factories.metric([0.1, 0.2, 0.3, 0.4]), **changes}}


@pytest.mark.parametrize(
    ("record", "complaint"),
    [
        (spoilt(schema=1), "schema 1"),
        (spoilt(n=5), "doc_ids has 4"),
        (spoilt(doc_ids=[0, 1, 1, 2]), "repeats a document"),
        (spoilt(metrics=metrics(value=0.9)), "not the mean of its samples"),
        (spoilt(metrics=metrics(samples=[0.1])), "n = 4"),
        (spoilt(metrics=metrics(samples=[0.1, 0.2, 0.3, float("nan")])), "not a number"),
        (spoilt(metrics=metrics(kind="median")), "metrics rouge_l kind is 'median', expected 'mean', 'group_mean'"),
        (spoilt(metrics=metrics(kind="group_mean")), "needs groups"),
        (spoilt(efficiency={**factories.cell(samples=4)["efficiency"], "kv_bytes": [1]}), "efficiency kv_bytes"),
        (spoilt(method=3), "method is 3, expected text"),
        ({key: value for key, value in spoilt().items() if key != "doc_ids"}, "field doc_ids is missing"),
        ([], "one JSON object"),
    ],
)
def test_contradictions_are_refused_naming_the_file(tmp_path, record, complaint):
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(record))
    with pytest.raises(ReportError, match=complaint) as caught:
        load_cell(path)
    assert "bad.json" in str(caught.value)


def test_a_torn_file_is_refused_and_temporary_files_are_not_read(tmp_path):
    path = factories.write(tmp_path, factories.cell())[0]
    (path.parent / ".half.json").write_text('{"schema": 1')
    (path.parent / "half.json.tmp").write_text('{"schema": 1')
    assert len(load_cells(path.parent, "toy")) == 1
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ReportError, match="not valid JSON"):
        load_cells(path.parent, "toy")


def test_missing_folders_and_foreign_profiles_are_refused(tmp_path):
    with pytest.raises(ReportError, match="does not exist"):
        load_cells(tmp_path / "nowhere", "toy")
    with pytest.raises(ReportError, match="no finished cells"):
        load_cells(tmp_path, "toy")
    path = factories.write(tmp_path, factories.cell())[0]
    with pytest.raises(ReportError, match="belongs to profile 'toy'"):
        load_cells(path.parent, "paper")
