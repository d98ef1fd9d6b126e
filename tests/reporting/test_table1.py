"""Table 1: its layout, the numbers in it, what happens to missing and failed samples, and its notes."""

import math

import pytest

from plphp_core.analysis.results import evaluate
from plphp_core.config.report_choices import Filters, Options
from plphp_core.reporting.csv_export import long_table
from plphp_core.reporting.table1 import sheets
from tests.reporting import factories
from tests.reporting.reports_made import PAIR, exact, results_of, without


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return results_of(tmp_path_factory.mktemp("whole"), factories.suite())


def test_each_column_marks_one_best_and_one_second_among_compressed_rows(whole):
    scores = sheets(whole, "toy", {})[0]
    for at, (benchmark, metric) in enumerate(factories.COLUMNS, start=2):
        values = [whole.value(index, benchmark, metric).value for index in range(10)]
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


def test_the_average_change_is_paired_over_documents(whole):
    changes = whole.average_change(9)
    assert changes.low < changes.value < changes.high
    plphp, none = (whole.value(index, "SD", "rouge_l") for index in (9, 0))
    assert changes.high - changes.low < (plphp.high - plphp.low + none.high - none.low) / none.value / 2


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
    assert any("the 1 of 10 score columns" in note for note in sheets(results, "toy", {})[0].notes)


def test_a_cell_whose_samples_all_failed_prints_no_score(tmp_path):
    lost = factories.cell("SD", "plphp", factories.PLPHP, "r=0.4, Δr=0.3", samples=4, failed=(0, 1, 2, 3))
    results = results_of(tmp_path, [exact("SD", "none", 0.5), lost], PAIR)
    entry = sheets(results, "toy", {})[0].rows[1].cells[2]
    assert (entry.text, entry.mark, entry.detail) == ("n/a", "†4", "")
    assert math.isnan(results.average(1, "kv_saved").value)


def test_subsets_have_wider_intervals(tmp_path, whole):
    few = [factories.cell(b, m, p, s, q, r, samples=10, population=48, limit=10, limit_seed=3)
           for m, p, s, q, r in factories.ROWS for b in ("SD", "MV")]  # fmt: skip
    results = results_of(tmp_path, few)
    small, large = results.value(0, "SD", "rouge_l"), whole.value(0, "SD", "rouge_l")
    assert small.high - small.low > 1.5 * (large.high - large.low)


def test_notes_name_the_cells_of_other_software(tmp_path):
    records = [exact("SD", "none", 0.5), exact("SD", "plphp", 0.4, versions={"torch": "2.9"})]
    notes = " ".join(sheets(results_of(tmp_path, records, PAIR), "toy", {})[0].notes)
    assert "torch 2.9: PLPHP r=0.4, Δr=0.3 on SD" in notes


def test_the_same_cells_and_seed_give_the_same_table(tmp_path, whole):
    again = results_of(tmp_path, factories.suite())
    assert long_table(again).equals(long_table(whole))
    other = results_of(tmp_path / "other", factories.suite(), options=Options(resamples=200, seed=1))
    assert not long_table(other).ci_low.equals(long_table(whole).ci_low)
