"""Costs: equal to a recomputation from the cell files; which times are compared; intervals by whole batches."""

import json
import math
import statistics

import numpy as np
import pandas as pd
import pytest

from plphp_core.analysis import costs as cost
from plphp_core.analysis.bootstrap import Resamples
from plphp_core.analysis.comparable import Filters
from plphp_core.records.errors import ReportError
from plphp_core.reporting import cost_notes, csv_export
from plphp_core.reporting.configured import benchmark_configured, rows_configured
from tests.reporting import factories
from tests.reporting.reports_made import costs_of


def by_row(folder, costs):
    """The raw cell files in the order of the rows."""
    raw = [json.loads(path.read_text(encoding="utf-8")) for path in (folder / "toy" / "cells").glob("*.json")]
    found = {(one["method"], one["setting"]): one for one in raw}
    return [found[row.method, costs.results.setting(at)] for at, row in enumerate(costs.results.rows)]


@pytest.mark.parametrize("batch", [1, 8])
def test_every_number_is_the_cell_files(tmp_path, batch):
    costs = costs_of(tmp_path, factories.of_costs(batch=batch))
    raw = by_row(tmp_path, costs)
    none = raw[0]["efficiency"]
    for at, one in enumerate(raw):
        paid = one["efficiency"]
        tokens = [ms for ms in paid["decode_ms_per_token"] if ms is not None]
        assert len(tokens) == (47 if batch == 1 else 48)
        assert costs.value(at, cost.DECODE).value == pytest.approx(statistics.median(tokens))
        assert costs.value(at, cost.PREFILL).value == pytest.approx(statistics.median(paid["prefill_ms"]))
        assert costs.value(at, cost.KV).value == pytest.approx(sum(paid["kv_bytes"]) / 48)
        assert costs.value(at, cost.RETENTION).value == pytest.approx(sum(paid["retention"]) / 48)
        total = sum(paid["prefill_ms"]) + sum(paid["decode_ms"])
        assert costs.seconds(at) == pytest.approx(total / 1e3)
        before = sum(none["prefill_ms"]) + sum(none["decode_ms"])
        assert costs.change(at, cost.EVALUATION).value == pytest.approx((total - before) / before)
        assert costs.change(at, cost.KV).value == pytest.approx(sum(paid["kv_bytes"]) / sum(none["kv_bytes"]) - 1)
        reference = statistics.median([ms for ms in none["decode_ms_per_token"] if ms is not None])
        assert costs.change(at, cost.DECODE).value == pytest.approx(statistics.median(tokens) / reference - 1)


def test_the_median_of_a_resample_is_the_median_of_the_documents_drawn():
    rng = np.random.default_rng(0)
    for n in (1, 2, 7, 30):
        docs = rng.permutation(n) + 5
        samples = rng.normal(size=n).round(1)
        resamples = Resamples(docs, "x", 50)
        drawn = [np.median(np.repeat(samples, counts[docs - 5])) for counts in resamples.counts]
        assert np.allclose(resamples.medians(docs, samples), drawn)
    few = Resamples(range(6), "x", 400)
    medians = few.medians(np.array([2]), np.array([3.0]))
    assert set(medians[few.counts[:, 2] > 0]) == {3.0} and np.isnan(medians[few.counts[:, 2] == 0]).all()
    assert np.isnan(few.medians(np.array([], dtype=int), np.array([]))).all()


def test_intervals_of_times_draw_whole_batches(tmp_path):
    """Eight copies of one measurement are one: every resampled mean is that of six of the six batches."""
    costs = costs_of(tmp_path, factories.of_costs(batch=8))
    prefill = costs.cell(0).costs["prefill_ms"]
    values = {round(draw, 6) for draw in costs.value(0, cost.EVALUATION).replicates}
    six = cost.per_sample(costs.cell(0), cost.EVALUATION)[::8]
    sums = {round(sum(pick) / 6, 6) for pick in _multisets(six.tolist(), 6)}
    assert values <= sums and len(np.unique(prefill)) == 6
    alone = costs_of(tmp_path / "alone", factories.of_costs(batch=1))
    assert len({round(draw, 6) for draw in alone.value(0, cost.EVALUATION).replicates}) > 190


def _multisets(values, length):
    from itertools import combinations_with_replacement

    return combinations_with_replacement(values, length)


def test_few_batches_have_no_interval(tmp_path):
    costs = costs_of(tmp_path, factories.of_costs(samples=40))
    assert math.isnan(costs.value(0, cost.DECODE).low) and math.isnan(costs.change(3, cost.EVALUATION).high)
    assert not math.isnan(costs.change(3, cost.DECODE).value) and not math.isnan(costs.value(0, cost.KV).low)
    assert "fewer than 6 batches" in cost_notes.times([costs], "toy")[0]
    many = costs_of(tmp_path / "many", factories.of_costs(samples=48))
    assert not math.isnan(many.value(0, cost.DECODE).low) and "too few" not in cost_notes.times([many], "toy")[0]


def test_changes_of_times_are_paired(tmp_path):
    """A row exactly 20 % faster in every batch is 20 % faster in every resample."""
    records = factories.of_costs()
    none, plphp = records[0], records[3]
    for name in ("prefill_ms", "decode_ms", "decode_ms_per_token"):
        plphp["efficiency"][name] = [0.8 * ms for ms in none["efficiency"][name]]
    costs = costs_of(tmp_path, records)
    for quantity in cost.TIMES:
        change = costs.change(3, quantity)
        assert [change.value, change.low, change.high] == pytest.approx([-0.2] * 3)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"hardware": "H200"}, "measured on H200, Uncompressed on 2 CPU cores"),
        ({"batch_size": 1}, "batch size 1, Uncompressed 8"),
        ({"hardware": "2 CPU cores; H200"}, "measured on several machines (2 CPU cores; H200)"),
    ],
)
def test_times_of_other_machines_and_batch_sizes_are_not_compared(tmp_path, changes, reason):
    records = factories.of_costs()
    records[2] |= changes
    costs = costs_of(tmp_path, records)
    assert costs.apart == {2: reason}
    assert all(math.isnan(costs.change(2, quantity).value) for quantity in cost.TIMES)
    assert not math.isnan(costs.change(2, cost.KV).value) and not math.isnan(costs.value(2, cost.DECODE).value)
    assert not math.isnan(costs.change(3, cost.DECODE).value)


def test_a_reference_from_several_machines_is_compared_with_nothing(tmp_path):
    records = [record | {"hardware": "A; B"} for record in factories.of_costs()]
    costs = costs_of(tmp_path, records)
    assert sorted(costs.apart) == [0, 1, 2, 3]


@pytest.mark.parametrize(("name", "value"), [("engine", "fast"), ("dtype", "bfloat16")])
def test_one_table_has_one_engine_and_one_dtype(tmp_path, name, value):
    records = factories.of_costs()
    records[1] |= {name: value}
    with pytest.raises(ReportError, match=rf"differ in {name}(.|\n)*{name}="):
        costs_of(tmp_path, records)
    assert list(costs_of(tmp_path, [], filters=Filters(**{name: value})).cells()) == [1]


def test_files_without_engine_are_of_generate(tmp_path):
    costs = costs_of(tmp_path, factories.of_costs(), filters=Filters(engine="generate"))
    assert {cell.engine for cell in costs.cells().values()} == {"generate"} and len(costs.cells()) == 4


def test_failed_samples_are_left_out_of_costs(tmp_path):
    records = factories.of_costs(failed=(0, 9))
    costs = costs_of(tmp_path, records)
    paid = records[3]["efficiency"]
    assert costs.cell(3).n == 46
    assert costs.seconds(3) == pytest.approx(sum(paid["prefill_ms"] + paid["decode_ms"]) / 1e3)
    gone = factories.of_costs(failed=range(48))
    lost = costs_of(tmp_path / "gone", [factories.of_costs()[0], gone[3]])
    assert math.isnan(lost.value(3, cost.KV).value) and math.isnan(lost.change(3, cost.DECODE).value)


def test_cells_without_decode_times_have_no_evaluation_time(tmp_path):
    records = factories.of_costs()
    records[1]["efficiency"]["decode_ms"] = [None] * records[1]["n"]
    costs = costs_of(tmp_path, records)
    assert math.isnan(costs.seconds(1)) and not math.isnan(costs.value(1, cost.DECODE).value)
    assert not math.isnan(costs.seconds(0))


def test_without_uncompressed_nothing_is_compared(tmp_path):
    costs = costs_of(tmp_path, factories.of_costs()[1:])
    assert not costs.changes and not costs.apart
    assert not math.isnan(costs.value(3, cost.DECODE).value)


def test_the_tables_of_numbers(tmp_path):
    costs = costs_of(tmp_path, factories.of_costs()[:3])
    table = csv_export.cost_table(costs)
    assert list(table.columns) == list(csv_export.COST_COLUMNS)
    line = table[(table.method == "vtw") & (table.metric == "evaluation_s")].iloc[0]
    assert line.value == pytest.approx(costs.seconds(2)) and line.ci_low <= line.value <= line.ci_high
    assert (line.hardware, line.engine, line.batch_size, line.n) == ("2 CPU cores", "generate", 8, 48)
    missing = table[table.method == "plphp"]
    assert list(missing.metric) == ["cider", "meteor", *cost.QUANTITIES] and missing.value.isna().all()
    samples = csv_export.sample_table(costs)
    assert len(samples) == 3 * 48 and list(samples.position[:48]) == list(range(1, 49))
    one = samples[(samples.method == "fastv")].set_index("doc_id")
    raw = factories.of_costs()[1]
    expected = pd.Series(raw["efficiency"]["decode_ms_per_token"], raw["doc_ids"], dtype=float)
    assert one.decode_ms_per_token.to_dict() == pytest.approx(expected.to_dict())
    assert one.kv_bytes.tolist() == pytest.approx(raw["efficiency"]["kv_bytes"])


def test_the_configured_tasks_are_one_benchmark():
    for table in ("table4", "table5", "figure7"):
        assert benchmark_configured(None, table) == "DetailCaps"
    assert benchmark_configured("[mv]") == "MV"
    for several in ("table1", "[sd,mv]"):
        with pytest.raises(ReportError, match="about one benchmark, not about SD"):
            benchmark_configured(several)
    with pytest.raises(ReportError, match="options of tasks"):
        benchmark_configured("nothing")


def test_figure_7_has_the_rows_of_table_4():
    for profile in ("paper", "toy"):
        four, seven = (rows_configured(name, profile, "llava_onevision") for name in ("table4", "figure7"))
        assert four == seven and len(four) == 4
        one = rows_configured("table1", profile, "llava_onevision")
        for table in ("table4", "table5"):
            assert all(row in one for row in rows_configured(table, profile, "llava_onevision"))
