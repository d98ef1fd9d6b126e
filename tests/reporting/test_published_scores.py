"""Rows that others have printed: they load, say where they are from, and contradict each other where they do."""

import pytest
import yaml

from plphp_core.config.benchmark_catalogue import catalogue
from plphp_core.config.report_settings import ReportSettings
from plphp_core.config.table_configs import table_config
from plphp_core.records.errors import ReportError
from plphp_core.reporting.published_scores import load_published_scores

FOLDER = ReportSettings.published


@pytest.mark.parametrize("table", ["llava15", "kvbudget"])
def test_the_files_name_scores_that_the_table_has_and_budgets_that_it_asks_for(table):
    config = table_config(table).table
    found = load_published_scores(FOLDER, table)
    known = {
        key: label
        for label in catalogue().labels
        for heading in catalogue()[label].metrics.values()
        for key in (label, f"{label}/{heading}")
    }
    labels = {entry["label"] for entry in table_config(table).tasks.values()}
    assert {known[column] for column in found.columns} == labels
    assert {row.budget for row in found.rows} - {None} == set(config.profiles.paper.budgets)
    assert len(found.of(table_config(table).model.name).rows) > 10
    assert all(row.scores and row.source.said and row.label for row in found.rows)
    assert len({(row.model, row.budget, row.method, row.setting, row.source.short) for row in found.rows}) == len(
        found.rows
    )


def test_known_cells_of_the_fact_sheets():
    rows = {
        (row.budget, row.method, row.source.short): row.scores for row in load_published_scores(FOLDER, "llava15").rows
    }
    assert rows[64, "dart", "DART"] == {
        "GQA": 55.9, "MMBench": 60.6, "MME": 1765, "POPE": 73.9, "ScienceQA": 69.8, "VQAv2": 72.4, "TextVQA": 54.4
    }  # fmt: skip
    assert rows[None, "fastv", "FastV README"] == {"GQA": 60.4, "MME/Perception": 1511.7}
    kv = {(row.budget, row.method, row.model): row.scores for row in load_published_scores(FOLDER, "kvbudget").rows}
    assert kv[64, "adakv", "qwen2_vl"]["TextCaps val"] == pytest.approx(77.5)
    assert kv[256, "pyramidkv", "qwen2_vl"]["OCRBench"] == 745 and kv[64, "snapkv", "internvl3"] == {"DocVQA": 75.7}


def test_a_number_is_contradicted_by_another_one_for_the_same_method_and_budget():
    found = load_published_scores(FOLDER, "llava15")
    marked = {(row.budget, row.source.short, column) for row in found.rows if row.method == "fastv"
              for column in row.scores if found.contradicted(row, column)}  # fmt: skip
    assert (192, "PIO-FVLM", "GQA") in marked and (192, "TwigVLM README", "GQA") in marked
    assert (192, "PIO-FVLM", "POPE") not in marked  # nobody else prints it
    assert (None, "FastV README", "GQA") not in marked
    (lineage,) = (
        row for row in found.rows if (row.budget, row.method, row.source.short) == (192, "visionzip", "PIO-FVLM")
    )
    assert not found.contradicted(lineage, "GQA") and found.contradicted(lineage, "MMBench")


def test_a_table_without_a_file_has_none(tmp_path):
    assert load_published_scores(tmp_path, "llava15").rows == ()


@pytest.mark.parametrize(
    "change, words",
    [
        ({"rows": [{"budget": 1}]}, "KeyError: 'method'"),
        ({"rows": [{"budget": 2, "method": "dart", "source": "x", "scores": [1]}]}, "KeyError: 'x'"),
        ({"rows": [{"budget": 2, "method": "dart", "source": "a", "scores": [1, 2]}]}, "2 scores for 1 columns"),
        ({"columns": None}, "TypeError"),
    ],
)
def test_a_malformed_file_is_named(tmp_path, change, words):
    plain = {"model": "m", "columns": ["GQA"], "sources": {"a": {"short": "A", "said": "A", "own": True}}, "rows": []}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(plain | change))
    with pytest.raises(ReportError, match=r"mine\.yaml: no list of published scores") as error:
        load_published_scores(tmp_path, "mine")
    assert words in str(error.value)
