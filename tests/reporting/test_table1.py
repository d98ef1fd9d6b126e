"""Table 1: its layout, the numbers in it, what happens to missing and failed samples, and its notes."""

import math

import numpy as np
import pytest

from plphp_core.analysis.comparable import Filters, RowSpec
from plphp_core.analysis.results import Options, evaluate
from plphp_core.records.cell_result import load_cells
from plphp_core.records.errors import ReportError
from plphp_core.reporting.csv_export import long_table, relative_table
from plphp_core.reporting.table1 import sheets
from tests.reporting import factories

ROWS = [RowSpec(method, params, setting) for method, params, setting, *_ in factories.ROWS]
FAST = Options(resamples=200)


def results_of(folder, records, rows=ROWS, options=FAST, filters=None):
    factories.write(folder, *records)
    return evaluate(load_cells(folder / "toy" / "cells", "toy"), rows, filters or Filters(), options)


def without(records, method, setting, *benchmarks):
    return [r for r in records if (r["method"], r["setting"]) != (method, setting) or r["benchmark"] not in benchmarks]


def exact(benchmark, method, score, **changes):
    """A cell of four samples whose every metric is `score`, or the list of scores given."""
    scores = np.broadcast_to(score, 4)
    params, setting = (factories.PLPHP, "r=0.4, Δr=0.3") if method == "plphp" else ({}, "")
    record = factories.cell(benchmark, method, params, setting, samples=4, **changes)
    for name, old in record["metrics"].items():
        record["metrics"][name] = factories.metric(scores, old["kind"], old["groups"], float(scores.mean()))
    return record


PAIR = [RowSpec("none"), RowSpec("plphp", factories.PLPHP, "r=0.4, Δr=0.3")]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return results_of(tmp_path_factory.mktemp("whole"), factories.suite())


def test_layout_is_the_papers(whole):
    scores, intervals, against, slots = sheets(whole, "toy", {})
    heads = [f"{column.group} {column.label}".strip() for column in scores.columns]
    assert heads == [
        *("Method", "Setting", "SD R-L", "IE R-L", "VST R-L", "MV Overall", "Flickr30k C", "Flickr30k M"),
        *("COCO2017 C", "COCO2017 M", "DetailCaps C", "DetailCaps M", "Average change", "Vision kept", "KV saved"),
    ]
    assert [(row.cells[0].text, row.cells[1].text, row.rule) for row in scores.rows] == [
        ("Uncompressed", "", True),
        ("FastV", "K=2, R=0.75", True),
        ("FastV", "K=2, R=0.5", False),
        ("FastV", "K=2, R=0.25", False),
        ("VTW", "K=3", True),
        ("VTW", "K=4", False),
        ("VTW", "K=6", False),
        ("PLPHP", "r=0.3, Δr=0.3", True),
        ("PLPHP", "r=0.4, Δr=0.3", False),
        ("PLPHP", "r=0.5, Δr=0.3", False),
        ("As published", "all rows", True),
    ]
    assert all(entry.text == "n/a" for entry in scores.rows[-1].cells[2:])
    assert len(intervals.rows) == len(against.rows) == len(slots.rows) == 10


def test_each_column_marks_one_best_and_one_second_among_compressed_rows(whole):
    scores = sheets(whole, "toy", {})[0]
    for at, (benchmark, metric) in enumerate(factories.COLUMNS, start=2):
        values = [whole.score(index, benchmark, metric).value for index in range(10)]
        order = sorted(range(1, 10), key=lambda index: -values[index])
        marks = [row.cells[at].emphasis for row in scores.rows]
        assert marks.index("best") == order[0]
        assert marks.index("second") == order[1]
        assert marks[0] == ""
        assert sum(map(bool, marks)) == 2


def test_ranking_may_include_the_uncompressed_row(tmp_path):
    records = [exact("SD", "none", 0.9), exact("SD", "plphp", 0.8)]
    rows = sheets(results_of(tmp_path, records, PAIR, Options(rank="all", resamples=50)), "toy", {})[0].rows
    assert [row.cells[2].emphasis for row in rows[:2]] == ["best", "second"]


def test_gains_changes_and_averages_follow_from_the_scores(tmp_path):
    levels = {"SD": (0.5, 0.4), "Flickr30k": (0.5, 0.55)}
    records = [exact(b, m, s) for b, pair in levels.items() for m, s in zip(("none", "plphp"), pair, strict=True)]
    results = results_of(tmp_path, records, PAIR)
    assert results.change(1, "SD", "rouge_l").value == pytest.approx(-0.2)
    assert results.average_change(1).value == pytest.approx((-0.2 + 0.1 + 0.1) / 3)
    assert results.average_change(1, factories.MULTI_IMAGE).value == pytest.approx(-0.2)
    row = sheets(results, "toy", {})[0].rows[1].cells
    assert (row[2].text, row[2].detail) == ("40.00", "−20.00%")
    assert (row[6].text, row[6].detail) == ("55.00", "+10.00%")
    by_benchmark = evaluate(list(results.cells.values()), PAIR, Filters(), Options(average="benchmarks", resamples=50))
    assert by_benchmark.average_change(1).value == pytest.approx((-0.2 + 0.1) / 2)
    points = evaluate(list(results.cells.values()), PAIR, Filters(), Options(gains="points", resamples=50))
    assert [sheets(points, "toy", {})[0].rows[1].cells[at].detail for at in (2, 6)] == ["−10.00", "+5.00"]


def test_uncompressed_is_zero_relative_to_itself(whole):
    table = long_table(whole)
    assert (table[table.method == "none"].relative_to_none == 0).all()
    assert whole.average_change(0).value == 0


def test_only_plphp_carries_gains_in_the_score_sheet(whole):
    for row in sheets(whole, "toy", {})[0].rows:
        assert all(bool(entry.detail) == (row.cells[0].text == "PLPHP") for entry in row.cells[2:12])


def test_the_average_change_is_paired_over_documents(whole):
    changes = whole.average_change(9)
    assert changes.low < changes.value < changes.high
    plphp, none = (whole.score(index, "SD", "rouge_l") for index in (9, 0))
    assert changes.high - changes.low < (plphp.high - plphp.low + none.high - none.low) / none.value / 2


def test_long_table_has_the_agreed_columns_and_one_line_per_metric(whole):
    table = long_table(whole)
    agreed = """model,method,setting,benchmark,metric,value,ci_low,ci_high,n,errors,relative_to_none,\
relative_low,relative_high,n_none,best_baseline,relative_to_baseline,baseline_low,baseline_high,n_baseline,retention,\
kv_bytes,kv_bytes_full,prefill_ms,decode_ms_per_token,protocol"""
    assert ",".join(table.columns) == agreed
    assert len(table) == 10 * (10 + 7)  # ten rows; ten scores and seven slot accuracies
    assert not table.duplicated(["method", "setting", "benchmark", "metric"]).any()
    line = table[
        (table.method == "vtw") & (table.setting == "K=4") & (table.benchmark == "MV") & (table.metric == "overall")
    ]
    assert line.iloc[0].value == whole.score(5, "MV", "overall").value
    assert (line.iloc[0].retention, line.iloc[0].n, line.iloc[0].errors) == (0.5, 48, 0)
    assert line.iloc[0].ci_low < line.iloc[0].value < line.iloc[0].ci_high


def test_relative_table_has_each_change_and_the_averages(whole):
    table = relative_table(whole)
    ours = table[(table.method == "plphp") & (table.setting == "r=0.4, Δr=0.3")]
    assert len(ours) == 17 + 3
    averages = ours[ours.metric == "scores"]
    assert list(averages.benchmark) == ["average all", "average multi-image", "average captions"]
    four = ours[ours.benchmark.isin(factories.MULTI_IMAGE) & ours.metric.isin(["rouge_l", "overall"])]
    assert averages.iloc[1].relative_to_none == pytest.approx(four.relative_to_none.mean())


def test_missing_cells_are_listed_and_never_averaged_over(tmp_path):
    results = results_of(tmp_path, without(factories.suite(), "vtw", "K=6", "MV", "SD"))
    scores = sheets(results, "toy", {})[0]
    assert [scores.rows[6].cells[at].text for at in (2, 5, 12, 13, 14)] == ["n/a"] * 5
    assert scores.rows[6].cells[3].text != "n/a"
    assert "n/a, not run yet (2 of 70 cells): VTW K=6: SD, MV." in scores.notes
    line = long_table(results).query("method == 'vtw' and setting == 'K=6' and benchmark == 'SD'")
    assert list(line.metric) == ["rouge_l"]
    assert line[["value", "n", "errors", "retention"]].isna().all(axis=None)


def test_without_uncompressed_cells_nothing_is_relative(tmp_path):
    results = results_of(tmp_path, [exact("SD", "plphp", 0.5)], PAIR)
    row = sheets(results, "toy", {})[0].rows[1].cells
    assert (row[2].text, row[2].detail, row[12].text) == ("50.00", "", "n/a")
    assert long_table(results).relative_to_none.isna().all()


def test_averages_run_over_the_benchmarks_that_were_run_and_say_so(tmp_path):
    results = results_of(tmp_path, [exact("SD", "none", 0.5), exact("SD", "plphp", 0.4)], PAIR)
    assert results.average_change(1).value == pytest.approx(-0.2)
    assert any("the 1 of 10 score columns that have results" in note for note in sheets(results, "toy", {})[0].notes)


def test_failed_samples_are_marked_and_explained(tmp_path):
    failing = exact("SD", "plphp", 0.4, failed=())
    failing |= {"errors": 1, "error_examples": ["OSError: broken\nimage"], "n": 3, "doc_ids": [0, 1, 2]}
    failing["metrics"] = {"rouge_l": factories.metric([0.4] * 3)}
    failing["efficiency"] = {name: values[:3] for name, values in failing["efficiency"].items()}
    results = results_of(tmp_path, [exact("SD", "none", 0.5), failing], PAIR)
    scores, intervals = sheets(results, "toy", {})[:2]
    assert [row.cells[2].mark for row in scores.rows[:2]] == ["", "†1"]
    assert any("PLPHP r=0.4, Δr=0.3 on SD: 1 of 4 (OSError: broken image)" in note for note in scores.notes)
    assert any(note.startswith("Failed samples:") and "PLPHP" in note for note in intervals.notes)


def test_a_cell_whose_samples_all_failed_prints_no_score(tmp_path):
    lost = factories.cell("SD", "plphp", factories.PLPHP, "r=0.4, Δr=0.3", samples=4, failed=(0, 1, 2, 3))
    results = results_of(tmp_path, [exact("SD", "none", 0.5), lost], PAIR)
    entry = sheets(results, "toy", {})[0].rows[1].cells[2]
    assert (entry.text, entry.mark, entry.detail) == ("n/a", "†4", "")
    assert math.isnan(results.average_cost(1, "kv_saved"))


def test_subsets_are_named_with_their_size_and_seed_and_have_wider_intervals(tmp_path, whole):
    few = [factories.cell(b, m, p, s, q, r, samples=10, population=48, limit=10, limit_seed=3)
           for m, p, s, q, r in factories.ROWS for b in ("SD", "MV")]  # fmt: skip
    results = results_of(tmp_path, few)
    notes = sheets(results, "toy", {})[0].notes
    assert "Random subsets, seed 3, not the full benchmarks: SD 10 of 48, MV 10 of 48 samples." in notes
    assert not any("all there are" in note for note in notes)
    small, large = results.score(0, "SD", "rouge_l"), whole.score(0, "SD", "rouge_l")
    assert small.high - small.low > 1.5 * (large.high - large.low)


def test_costs_are_averaged_over_benchmarks(whole):
    row = sheets(whole, "toy", {})[0].rows[4].cells  # VTW K=3
    assert (row[13].text, row[14].text) == ("37.5%", "50.0%")  # kv_bytes: 0.2 + 0.8 · 0.375 of the full prompt's


def test_notes_name_profile_protocol_ranking_and_published_cells(whole):
    notes = " ".join(sheets(whole, "toy", {})[0].notes)
    expected = (
        "Toy profile|scaled to the toy's depth|Protocol: lmms_eval|uncompressed row is not ranked|share their mark"
    )
    for part in f"{expected}|stay n/a|SD 48|float32|2 CPU cores".split("|"):
        assert part in notes
    assert "Toy profile" not in " ".join(sheets(whole, "paper", {})[0].notes)


def test_notes_name_prompts_and_software(whole, tmp_path):
    notes = " ".join(sheets(whole, "toy", {})[0].notes)
    assert "Prompts: lmms_eval (as lmms-eval's wrapper of the model makes them)." in notes
    assert "Software: torch 2.13.0, transformers 5.23.0, lmms-eval 0.7.3, answering code 1." in notes
    records = [exact("SD", "none", 0.5), exact("SD", "plphp", 0.4, answers=2), exact("IE", "none", 0.5, versions={})]
    mixed = " ".join(sheets(results_of(tmp_path, records, PAIR), "toy", {})[0].notes)
    assert "Software differs between cells" in mixed
    for part in ("answering code 2: PLPHP r=0.4, Δr=0.3 on SD", "unrecorded: Uncompressed on IE"):
        assert part in mixed


def test_notes_name_images_that_had_to_be_converted(whole, tmp_path):
    odd = {"image_notes": {"mode P to RGB": 3, "EXIF orientation 6 applied": 1}}
    records = [exact("SD", "none", 0.5, **odd), exact("SD", "plphp", 0.4, **odd), exact("IE", "none", 0.5)]
    notes = sheets(results_of(tmp_path, records, PAIR), "toy", {})[0].notes
    assert "Images that were not upright RGB: SD: 3 mode P to RGB, 1 EXIF orientation 6 applied." in notes
    assert not any("upright" in note for note in sheets(whole, "toy", {})[0].notes)


def test_slot_accuracy_is_a_sheet_of_its_own_only_where_measured(tmp_path, whole):
    slots = sheets(whole, "toy", {})[3]
    mean = np.mean([whole.score(4, name, "slot_accuracy").value for name in factories.BENCHMARKS])
    assert slots.rows[4].cells[9].text == f"{100 * mean:.2f}"
    record = factories.cell("SD")
    del record["metrics"]["slot_accuracy"]
    assert len(sheets(results_of(tmp_path, [record]), "paper", {})) == 3


def test_published_numbers_appear_as_rows_and_are_not_ranked(whole):
    rows = sheets(whole, "paper", {("plphp", "r=0.4, Δr=0.3"): {("SD", "rouge_l"): 99.5}})[0].rows
    assert [entry.text for entry in rows[-1].cells[:4]] == ["PLPHP, as published", "r=0.4, Δr=0.3", "99.50", "n/a"]
    assert not any(entry.emphasis for entry in rows[-1].cells)


def test_the_same_cells_and_seed_give_the_same_table(tmp_path, whole):
    again = results_of(tmp_path, factories.suite())
    assert long_table(again).equals(long_table(whole))
    other = results_of(tmp_path / "other", factories.suite(), options=Options(resamples=200, seed=1))
    assert not long_table(other).ci_low.equals(long_table(whole).ci_low)


def test_nothing_to_show_is_an_error(tmp_path):
    with pytest.raises(ReportError, match="none of the 1 finished cells"):
        results_of(tmp_path, [factories.cell("SD")], filters=Filters(protocol="llava"))
