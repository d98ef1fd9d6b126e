"""The summary of a sweep: one line per setting, whatever was run, and no average that claims too much."""

import math
import statistics

import pandas as pd
import pytest

from tests.reporting import factories
from tests.reporting.reports_made import made, report, texts, written


def grid(**changes):
    """A sweep over r and α on SD and one setting on IE, beside Uncompressed, FastV and VTW."""
    records = [one for one in factories.suite(benchmarks=("SD", "IE"), **changes) if one["method"] != "plphp"]
    for r in (0.5, 0.3):
        for alpha in (0.9, 0.75):
            params = {**factories.PLPHP, "r": r, "alpha": alpha}
            one = factories.cell("SD", "plphp", params, f"r={r}", 0.9 + r / 10, r, **changes)
            records.append(one | {"cell": f"SD-{r}-{alpha}"})
    records.append(factories.cell("IE", "plphp", {**factories.PLPHP, "r": 0.3, "alpha": 0.75}, "α=0.75", 0.9, 0.3))
    return records


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return made(tmp_path_factory.mktemp("sweep"), "sweep", grid())


def test_one_line_per_method_and_parameters_in_order(whole):
    table = whole.tables[""]
    assert table.method.tolist() == [
        *["none"],
        *["fastv"] * 3,
        *["vtw"] * 3,
        "random",
        "shared_heads",
        "uniform",
        *["plphp"] * 4,
    ]
    ours = table[table.method == "plphp"]
    assert list(zip(ours.r, ours.alpha, strict=True)) == [(0.3, 0.75), (0.3, 0.9), (0.5, 0.75), (0.5, 0.9)]
    (sheet,) = whole.sheets
    heads = [column.label for column in sheet.columns]
    assert "gqa" not in heads and {"gqa", "rows"} <= set(table.columns)  # never varied: in the csv only


def test_every_number_is_the_cells(whole):
    table, records = whole.tables[""], grid()
    for at, line in enumerate(table.to_dict("records")):
        params = whole.parts[0].rows[at].params
        cells = [one for one in records if (one["method"], one["params"]) == (line["method"], params)]
        for name in ("SD", "IE"):
            values = [one["metrics"]["rouge_l"]["value"] for one in cells if one["benchmark"] == name]
            assert line[f"{name}_rouge_l"] == pytest.approx(values[0] if values else math.nan, nan_ok=True)
        paid = [one["efficiency"] for one in cells]
        assert line["retention"] == pytest.approx(statistics.mean(statistics.mean(one["retention"]) for one in paid))
        saved = [statistics.mean(one["kv_bytes_full"]) - statistics.mean(one["kv_bytes"]) for one in paid]
        assert line["kv_bytes_saved"] == pytest.approx(statistics.mean(saved))
        assert line["n"] == sum(one["n"] for one in cells) and line["benchmarks"] == len(cells)
        assert line["decode_ms_per_token"] == pytest.approx(5.0)


def test_averages_are_over_the_rows_own_benchmarks_and_say_so(whole):
    table = whole.tables[""]
    ours = table[table.method == "plphp"]
    alone, both = ours[(ours.r == 0.5) & (ours.alpha == 0.9)].iloc[0], ours[ours.r == 0.3].iloc[0]
    none = table.iloc[0]
    assert alone.relative_to_none == pytest.approx(alone.SD_rouge_l / none.SD_rouge_l - 1)
    changes = [both[f"{name}_rouge_l"] / none[f"{name}_rouge_l"] - 1 for name in ("SD", "IE")]
    assert both.relative_to_none == pytest.approx(statistics.mean(changes))
    (sheet,) = whole.sheets
    by_setting = {tuple(texts(sheet, row)[3:6:2]): sheet.rows[row].cells for row in range(10, 14)}
    assert by_setting["0.5", "0.9"][9].mark == "‡" and by_setting["0.5", "0.9"][-4].text == "1 of 2"
    assert by_setting["0.3", "0.75"][9].mark == "" and by_setting["0.3", "0.75"][-4].text == "2 of 2"
    assert by_setting["0.5", "0.9"][-1].text == "n/a"


def test_the_best_baseline_is_chosen_on_the_rows_own_benchmarks(tmp_path):
    records = grid()
    for one in records:  # FastV wins on SD, VTW on IE
        if (one["method"], one["benchmark"]) in (("fastv", "IE"), ("vtw", "SD")):
            for entry in one["metrics"].values():
                entry["samples"] = [score / 4 for score in entry["samples"]]
                entry["value"] /= 4
    table = made(tmp_path, "sweep", records).tables[""]
    assert table[(table.r == 0.5) & (table.alpha == 0.9)].best_baseline.item().startswith("FastV")
    for line in table.to_dict("records"):
        assert line["relative_to_baseline_low"] <= line["relative_to_baseline"] <= line["relative_to_baseline_high"]


def test_a_cell_labelled_by_several_tables_is_one_line(whole):
    rows = whole.parts[0].rows
    assert sum(row.params.get("r") == 0.3 and row.params.get("alpha") == 0.75 for row in rows) == 1


def test_without_uncompressed_or_baselines_there_are_scores_and_costs(tmp_path):
    found = made(tmp_path, "sweep", [one for one in grid() if one["method"] == "plphp"])
    (sheet,), table = found.sheets, found.tables[""]
    assert table.relative_to_none.isna().all() and set(table.best_baseline) == {"n/a"}
    assert table.SD_rouge_l.notna().all() and all("n/a" in texts(sheet, row) for row in range(4))
    assert sum("Changes are n/a on SD, IE," in note and "method=none" in note for note in sheet.notes) == 1


def test_uncompressed_on_some_benchmarks_only_is_missed_on_the_others(tmp_path):
    some = [one for one in grid() if one["method"] == "plphp" or (one["method"], one["benchmark"]) == ("none", "SD")]
    found = made(tmp_path, "sweep", some)
    assert any("Changes are n/a on IE, where no cell" in note for note in found.sheets[0].notes)
    table = found.tables[""]
    assert table[table.benchmarks == 2].relative_to_none.isna().all()
    assert table[(table.benchmarks == 1)].relative_to_none.notna().all()


def test_parameters_may_be_lists(tmp_path):
    """Of methods from elsewhere."""
    some = [factories.cell("SD", "mine", {"layers": layers}, str(layers)) for layers in ([1, 2], [3])]
    found = made(tmp_path, "sweep", some)
    assert len(found.tables[""]) == 2 and len(found.sheets[0].rows) == 2


def test_the_command_obeys_the_filters(tmp_path):
    fast = [one | {"engine": "fast"} for one in grid()]
    factories.write(tmp_path, *grid(), *fast)
    assert report(tmp_path, "sweep", "report.strict=true") == 0  # nothing is missing from a sweep
    assert report(tmp_path, "sweep", "engine=fast", "tasks=[sd]") == 0
    assert written(tmp_path) == {
        f"sweep{variant}.{kind}" for variant in ("", ".tasks=sd.engine=fast") for kind in ("md", "csv")
    }
    table = pd.read_csv(tmp_path / "toy" / "sweep.tasks=sd.engine=fast.csv")
    assert "IE_rouge_l" not in table.columns and set(table.benchmarks) == {1}
    assert report(tmp_path, "sweep", "engine=fast", "method.alpha=0.9") == 0
    table = pd.read_csv(tmp_path / "toy" / "sweep.engine=fast.csv")
    assert set(table[table.method == "plphp"].alpha) == {0.9}
