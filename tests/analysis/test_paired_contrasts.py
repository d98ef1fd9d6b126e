"""Each row against Uncompressed and the best baseline: which one that is, and that pairs are pairs."""

import math

import numpy as np
import pytest

from plphp_core.analysis.bootstrap import Estimate
from plphp_core.analysis.comparable import RowSpec
from plphp_core.analysis.paired_contrasts import baselines, best, verdicts
from plphp_core.config.report_choices import Options
from plphp_core.reporting.csv_export import long_table
from tests.reporting import factories
from tests.reporting.reports_made import exact, results_of, without

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


@pytest.mark.parametrize(
    ("ie", "on_each", "overall"),
    [
        # relative to none: fastv −40 %, −10 %; vtw −10 %, −30 %: fastv −25 %, vtw −20 % on average
        ((0.5, 0.45, 0.35, 0.6), [2, 1], 2),
        ((0.5, 0.45, None, 0.6), [2, 1], 1),  # one that lacks a benchmark is not best on average
        ((0.5, None, None, 0.6), [2, None], None),
        ((None, 0.45, 0.35, 0.6), [2, None], 2),  # nothing to compare with on IE
    ],
)
def test_the_best_baseline_is_chosen_per_benchmark_and_on_average(tmp_path, ie, on_each, overall):
    results = results_of(tmp_path, records_of({"SD": (0.5, 0.3, 0.45, 0.5), "IE": ie}), ROWS)
    assert baselines(results) == [1, 2]
    assert [best(results, [name]) for name in ("SD", "IE")] == on_each
    if ie[0] is not None:
        assert best(results) == overall


def test_the_comparison_with_a_baseline_is_the_paired_bootstrap_written_out(tmp_path):
    """Against resampling documents by hand, the same ones for both rows."""
    records = [one for one in factories.suite(benchmarks=("SD",)) if one["method"] in ("none", "fastv", "plphp")]
    rows = [RowSpec(one["method"], one["params"], one["setting"]) for one in records]
    results = results_of(tmp_path, records, rows, Options(resamples=4000))
    ours, rival = 5, best(results, ["SD"])
    samples = [np.array(records[at]["metrics"]["rouge_l"]["samples"]) for at in (ours, rival)]
    draws = np.random.default_rng(11).integers(0, 48, size=(4000, 48))
    changes = samples[0][draws].mean(1) / samples[1][draws].mean(1) - 1
    found = results.change(ours, "SD", "rouge_l", rival)
    low, high = np.quantile(changes, [0.025, 0.975])
    assert found.value == pytest.approx(samples[0].mean() / samples[1].mean() - 1)
    assert (found.low, found.high) == (pytest.approx(low, abs=2e-3), pytest.approx(high, abs=2e-3))
    unpaired = samples[0][draws].mean(1) / samples[1][draws[::-1]].mean(1) - 1
    assert found.high - found.low < 0.6 * np.ptp(np.quantile(unpaired, [0.025, 0.975]))


def test_samples_that_failed_are_not_counted_as_pairs(tmp_path):
    records = without(factories.suite(benchmarks=("SD", "IE")), "plphp", "r=0.4, Δr=0.3", "SD")
    records.append(factories.cell("SD", "plphp", factories.PLPHP, "r=0.4, Δr=0.3", 0.9, failed=(3, 5)))
    results = results_of(tmp_path, records)
    assert [results.paired(8, 0, name) for name in ("SD", "IE")] == [46, 48]
    table = long_table(results)
    line = table[
        (table.method == "plphp")
        & (table.setting == "r=0.4, Δr=0.3")
        & (table.metric == "rouge_l")
        & (table.benchmark == "SD")
    ]
    assert line.n_none.item() == line.n_baseline.item() == 46


def test_verdicts_count_only_intervals():
    ends = [(0.1, 0.2), (-0.2, -0.1), (-0.1, 0.1), (0.0, 0.1), (math.nan, math.nan)]
    found = verdicts([Estimate((low + high) / 2, np.empty(0), low, high) for low, high in ends])
    assert (found.above, found.below, found.columns) == (1, 1, 4)
