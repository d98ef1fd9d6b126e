"""Vision tokens and KV cache saved: values, and intervals that share the resamples of the scores."""

import math

import numpy as np
import pytest

from plphp_core.analysis.bootstrap import Resamples
from plphp_core.analysis.retention_stats import savings
from tests.reporting import factories
from tests.reporting.reports_made import FAST, results_of


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    records = factories.of_costs()
    results = results_of(tmp_path_factory.mktemp("costs"), records, [*_rows(records)])
    return savings(results), records


def _rows(records):
    from plphp_core.analysis.comparable import RowSpec

    return [RowSpec(one["method"], one["params"], one["setting"]) for one in records]


def test_values_are_the_cell_files(saved):
    found, records = saved
    for index, record in enumerate(records):
        paid = record["efficiency"]
        assert found.retention[index, "DetailCaps"].value == pytest.approx(np.mean(paid["retention"]))
        kv = found.kv_saved[index, "DetailCaps"]
        assert kv.value == pytest.approx(1 - sum(paid["kv_bytes"]) / sum(paid["kv_bytes_full"]))


def test_intervals_are_the_bootstrap_written_out_on_the_scores_resamples(saved):
    found, records = saved
    paid, counts = records[3]["efficiency"], Resamples(range(48), "DetailCaps", FAST.resamples).counts.astype(float)
    kept = counts @ np.array(paid["retention"]) / 48
    held = 1 - counts @ np.array(paid["kv_bytes"]) / (counts @ np.array(paid["kv_bytes_full"]))
    for estimate, draws in ((found.retention, kept), (found.kv_saved, held)):
        one = estimate[3, "DetailCaps"]
        assert np.allclose(one.replicates, draws)
        assert (one.low, one.high) == pytest.approx(tuple(np.quantile(draws, [0.025, 0.975])))
    assert found.retention[3, "DetailCaps"].low < found.retention[3, "DetailCaps"].high


def test_the_average_over_benchmarks_needs_all_of_them(tmp_path):
    records = factories.of_table("figure6", benchmarks=("SD", "IE"))
    last = records.pop()
    found = savings(results_of(tmp_path, records, _rows([*records[::2]])))
    kept = [np.mean(one["efficiency"]["retention"]) for one in records[2:4]]
    assert found.average("retention", 1).value == pytest.approx(np.mean(kept))
    assert last["benchmark"] == "IE" and math.isnan(found.average("kv_saved", 12).value)


def test_a_single_sample_has_a_value_and_no_interval(tmp_path):
    records = factories.of_table("figure6", benchmarks=("SD",), samples=1)
    found = savings(results_of(tmp_path, records, _rows(records)))
    one = found.retention[1, "SD"]
    assert not math.isnan(one.value) and math.isnan(one.low)
