"""Each row against Uncompressed and the best baseline: which one that is, and that pairs are pairs."""

import math

import numpy as np
import pytest

from plphp_core.analysis import baseline_comparison
from plphp_core.analysis.bootstrap import Estimate, Resamples, difference, relative, with_interval
from plphp_core.analysis.comparable import RowSpec
from plphp_core.analysis.results import evaluate
from plphp_core.config.report_choices import Filters, Options
from plphp_core.records.cell_result import load_cells
from plphp_core.reporting import comparison_tables
from plphp_core.reporting.csv_export import long_table
from plphp_core.reporting.table_spec import HEAD, fronts
from tests.reporting import factories
from tests.reporting.reports_made import FAST, exact, results_of, without

ROWS = [
    RowSpec("none"),
    RowSpec("fastv", {"K": 2}, "K=2"),
    RowSpec("vtw", {"K": 3}, "K=3"),
    RowSpec("plphp", factories.PLPHP, "r=0.4, Δr=0.3"),
]


def records_of(scores):
    """{benchmark: score of none, fastv, vtw, plphp} as cells."""
    records = []
    for name, levels in scores.items():
        for row, level in zip(ROWS, levels, strict=True):
            if level is not None:
                record = exact(name, row.method, level)
                records.append(record | {"params": row.params, "cell": f"{name}-{row.method}"})
    return records


def sheet_of(results):
    return comparison_tables.baseline_table(results, "T", HEAD, fronts(results))


def test_the_best_baseline_is_chosen_per_benchmark_and_on_average(tmp_path):
    # relative to none: fastv −40 %, −10 %; vtw −10 %, −30 %: fastv −25 %, vtw −20 % on average
    results = results_of(tmp_path, records_of({"SD": (0.5, 0.3, 0.45, 0.5), "IE": (0.5, 0.45, 0.35, 0.6)}), ROWS)
    assert baseline_comparison.baselines(results) == [1, 2]
    assert [baseline_comparison.best(results, [name]) for name in ("SD", "IE")] == [2, 1]
    assert baseline_comparison.best(results) == 2
    sheet = sheet_of(results)
    assert sheet.title == "T: against Uncompressed and the best baseline"
    plphp = [entry.text for entry in sheet.rows[3].cells]
    # against none: 0 and +20 %; against vtw: +11.1 % and +71.4 %
    assert plphp == [
        *("PLPHP", "r=0.4, Δr=0.3", "+10.00%", "[+10.00%, +10.00%]", "1 of 2", "0 of 2"),
        *("+41.27%", "[+41.27%, +41.27%]", "2 of 2", "0 of 2", "8"),
    ]
    assert [entry.text for entry in sheet.rows[0].cells[2:6]] == ["reference", "", "", ""]
    assert [entry.text for entry in sheet.rows[2].cells[6:10]] == ["reference", "", "0 of 1", "1 of 1"]
    said = " ".join(sheet.notes)
    assert "on average VTW K=3" in said and "VTW K=3 on SD; FastV K=2 on IE" in said and "very samples" in said


def test_a_baseline_that_lacks_a_benchmark_is_not_best_on_average(tmp_path):
    results = results_of(tmp_path, records_of({"SD": (0.5, 0.3, 0.45, 0.5), "IE": (0.5, 0.45, None, 0.6)}), ROWS)
    assert baseline_comparison.best(results, ["SD"]) == 2 and baseline_comparison.best(results) == 1


def test_without_uncompressed_or_baselines_there_is_nothing_to_compare(tmp_path):
    alone = results_of(tmp_path, records_of({"SD": (0.5, None, None, 0.4)}), ROWS)
    assert baseline_comparison.best(alone) is None
    sheet = sheet_of(alone)
    assert sheet.title == "T: against Uncompressed" and len(sheet.columns) == len(HEAD) + 5
    assert {entry.text for entry in sheet.rows[1].cells[2:]} == {"n/a"}
    orphan = results_of(tmp_path / "2", records_of({"SD": (None, 0.3, None, 0.4)}), ROWS)
    assert baseline_comparison.best(orphan) is None
    assert {entry.text for entry in sheet_of(orphan).rows[3].cells[2:]} == {"n/a"}


def test_the_comparison_with_a_baseline_is_the_paired_bootstrap_written_out(tmp_path):
    """Against resampling documents by hand, the same ones for both rows."""
    records = [one for one in factories.suite(benchmarks=("SD",)) if one["method"] in ("none", "fastv", "plphp")]
    rows = [RowSpec(one["method"], one["params"], one["setting"]) for one in records]
    results = results_of(tmp_path, records, rows, Options(resamples=4000))
    ours, rival = 5, baseline_comparison.best(results, ["SD"])
    samples = [np.array(records[at]["metrics"]["rouge_l"]["samples"]) for at in (ours, rival)]
    draws = np.random.default_rng(11).integers(0, 48, size=(4000, 48))
    changes = samples[0][draws].mean(1) / samples[1][draws].mean(1) - 1
    found = results.change(ours, "SD", "rouge_l", rival)
    low, high = np.quantile(changes, [0.025, 0.975])
    assert found.value == pytest.approx(samples[0].mean() / samples[1].mean() - 1)
    assert (found.low, found.high) == (pytest.approx(low, abs=2e-3), pytest.approx(high, abs=2e-3))
    unpaired = samples[0][draws].mean(1) / samples[1][draws[::-1]].mean(1) - 1
    assert found.high - found.low < 0.6 * np.ptp(np.quantile(unpaired, [0.025, 0.975]))


def test_equals_seldom_look_different():
    """Two settings of equal quality: about one interval of twenty leaves out 0."""
    rng, wrong, runs = np.random.default_rng(3), 0, 200
    for seed in range(runs):
        hard = rng.random(60)
        both = [np.clip(hard + rng.normal(0, 0.1, 60), 0, None) for _ in range(2)]
        draws = Resamples(range(60), resamples=400, seed=seed)
        one, other = (with_interval(float(s.mean()), draws.means(np.arange(60), s)) for s in both)
        change = relative(one, other)
        wrong += change.low > 0 or change.high < 0
    assert 0.01 < wrong / runs < 0.11


def test_samples_that_failed_are_not_counted_as_pairs(tmp_path):
    records = without(factories.suite(benchmarks=("SD", "IE")), "plphp", "r=0.4, Δr=0.3", "SD")
    records.append(factories.cell("SD", "plphp", factories.PLPHP, "r=0.4, Δr=0.3", 0.9, failed=(3, 5)))
    results = results_of(tmp_path, records)
    assert sheet_of(results).rows[8].cells[-1].text == str(48 + 46)
    table = long_table(results)
    line = table[(table.setting == "r=0.4, Δr=0.3") & (table.metric == "rouge_l") & (table.benchmark == "SD")]
    assert line.n_none.item() == line.n_baseline.item() == 46


def test_the_csv_has_both_comparisons(tmp_path):
    results = results_of(tmp_path, factories.suite())
    table = long_table(results)
    for benchmark in factories.BENCHMARKS:
        rival = baseline_comparison.best(results, [benchmark])
        lines = table[(table.benchmark == benchmark) & (table.setting == "r=0.5, Δr=0.3")]
        assert set(lines.best_baseline) == {results.label(rival)}
        for line in lines.to_dict("records"):
            change = results.change(9, benchmark, line["metric"], rival)
            scores = [results.value(at, benchmark, line["metric"]).value for at in (9, rival, 0)]
            assert line["relative_to_baseline"] == pytest.approx(scores[0] / scores[1] - 1)
            assert line["relative_to_none"] == pytest.approx(scores[0] / scores[2] - 1)
            assert (line["baseline_low"], line["baseline_high"]) == (change.low, change.high)
            assert line["baseline_low"] <= line["relative_to_baseline"] <= line["baseline_high"]
    own = table[table.setting == table.best_baseline.str.replace("FastV ", "")]
    assert len(own) and (own.relative_to_baseline == 0).all()


def test_verdicts_count_only_intervals():
    def change(low, high):
        return Estimate((low + high) / 2, np.empty(0), low, high)

    found = baseline_comparison.verdicts([change(0.1, 0.2), change(-0.2, -0.1), change(-0.1, 0.1), change(0.0, 0.1),
                             change(math.nan, math.nan)])  # fmt: skip
    assert (found.above, found.below, found.columns) == (1, 1, 4)


def test_a_difference_is_paired():
    rng = np.random.default_rng(4)
    base = rng.normal(0.5, 0.1, 3000)
    one, other = Estimate(0.52, base + 0.02, 0, 1), Estimate(0.5, base, 0, 1)
    found = difference(one, other)
    assert found.value == pytest.approx(0.02) and (found.low, found.high) == pytest.approx((0.02, 0.02))


def test_filters_reach_the_comparison(tmp_path):
    factories.write(tmp_path, *factories.suite(benchmarks=("SD",)))
    cells = load_cells(tmp_path / "toy" / "cells", "toy")
    left = evaluate(cells, None, Filters(exclude=("*fastv*",)), FAST)
    assert {left.rows[index].method for index in baseline_comparison.baselines(left)} == {"vtw"}
