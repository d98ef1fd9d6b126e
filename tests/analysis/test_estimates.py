"""Scores, savings and times: equal to a recomputation from the cell files; which times are compared; whole batches."""

import itertools
import json
import math
import statistics

import numpy as np
import pytest

from plphp_core.analysis.bootstrap import DECODE, EVALUATION, KV, KV_SAVED, PREFILL, RETENTION, TIMES, Resamples
from plphp_core.analysis.comparable import RowSpec
from tests.reporting import factories
from tests.reporting.reports_made import costs_of, results_of

ON = "DetailCaps"


def by_row(folder, results):
    """The raw cell files in the order of the rows."""
    raw = [json.loads(path.read_text(encoding="utf-8")) for path in (folder / "toy" / "cells").glob("*.json")]
    found = {(one["method"], one["setting"]): one for one in raw}
    return [found[row.method, results.setting(at)] for at, row in enumerate(results.rows)]


def rows_of(records):
    return [RowSpec(one["method"], one["params"], one["setting"]) for one in records]


@pytest.mark.parametrize("batch", [1, 8])
def test_every_number_is_the_cell_files(tmp_path, batch):
    results = costs_of(tmp_path, factories.of_costs(batch=batch))
    raw = [one["efficiency"] for one in by_row(tmp_path, results)]
    none = raw[0]
    for at, paid in enumerate(raw):
        tokens = [ms for ms in paid["decode_ms_per_token"] if ms is not None]
        assert len(tokens) == (47 if batch == 1 else 48)
        value, change = ({q: give(at, ON, q).value for q in (*TIMES, KV, RETENTION, KV_SAVED)}
                         for give in (results.value, results.change))  # fmt: skip
        assert value[DECODE] == pytest.approx(statistics.median(tokens))
        assert value[PREFILL] == pytest.approx(statistics.median(paid["prefill_ms"]))
        assert value[KV] == pytest.approx(sum(paid["kv_bytes"]) / 48)
        assert value[KV_SAVED] == pytest.approx(1 - sum(paid["kv_bytes"]) / sum(paid["kv_bytes_full"]))
        assert value[RETENTION] == pytest.approx(sum(paid["retention"]) / 48)
        total, before = (sum(one["prefill_ms"]) + sum(one["decode_ms"]) for one in (paid, none))
        assert results.seconds(at, ON).value == pytest.approx(total / 1e3)
        assert change[EVALUATION] == pytest.approx((total - before) / before)
        assert change[KV] == pytest.approx(sum(paid["kv_bytes"]) / sum(none["kv_bytes"]) - 1)
        reference = statistics.median([ms for ms in none["decode_ms_per_token"] if ms is not None])
        assert change[DECODE] == pytest.approx(statistics.median(tokens) / reference - 1)


def test_savings_have_intervals_of_the_scores_resamples(tmp_path):
    results = costs_of(tmp_path, factories.of_costs())
    paid, counts = by_row(tmp_path, results)[3]["efficiency"], Resamples(range(48), ON, 200).counts.astype(float)
    kept = counts @ np.array(paid["retention"]) / 48
    held = 1 - counts @ np.array(paid["kv_bytes"]) / (counts @ np.array(paid["kv_bytes_full"]))
    for quantity, draws in ((RETENTION, kept), (KV_SAVED, held)):
        one = results.value(3, ON, quantity)
        assert np.allclose(one.replicates, draws) and one.low < one.high
        assert (one.low, one.high) == pytest.approx(tuple(np.quantile(draws, [0.025, 0.975])))


def test_the_average_over_benchmarks_needs_all_of_them(tmp_path):
    records = factories.of_table("figure6", benchmarks=("SD", "IE"))
    assert records.pop()["benchmark"] == "IE"
    results = results_of(tmp_path, records, rows_of(records[::2]))
    kept = [np.mean(one["efficiency"]["retention"]) for one in records[2:4]]
    assert results.average(1, RETENTION).value == pytest.approx(np.mean(kept))
    assert math.isnan(results.average(12, KV_SAVED).value)


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
    results = costs_of(tmp_path, factories.of_costs(batch=8))
    paid = results.cells[0, ON].costs
    values = {round(draw, 6) for draw in results.value(0, ON, EVALUATION).replicates}
    six = (paid["prefill_ms"] + paid["decode_ms"])[::8].tolist()
    assert values <= {round(sum(pick) / 6, 6) for pick in itertools.combinations_with_replacement(six, 6)}
    assert len(np.unique(paid["prefill_ms"])) == 6
    alone = costs_of(tmp_path / "alone", factories.of_costs(batch=1))
    assert len({round(draw, 6) for draw in alone.value(0, ON, EVALUATION).replicates}) > 190


def test_few_batches_have_no_interval(tmp_path):
    results = costs_of(tmp_path, factories.of_costs(samples=40))
    assert math.isnan(results.value(0, ON, DECODE).low) and math.isnan(results.change(3, ON, EVALUATION).high)
    assert not math.isnan(results.change(3, ON, DECODE).value) and not math.isnan(results.value(0, ON, KV).low)
    many = costs_of(tmp_path / "many", factories.of_costs(samples=48))
    assert not math.isnan(many.value(0, ON, DECODE).low)


def test_changes_of_times_are_paired(tmp_path):
    """A row exactly 20 % faster in every batch is 20 % faster in every resample."""
    records = factories.of_costs()
    none, plphp = records[0], records[3]
    for name in ("prefill_ms", "decode_ms", "decode_ms_per_token"):
        plphp["efficiency"][name] = [0.8 * ms for ms in none["efficiency"][name]]
    results = costs_of(tmp_path, records)
    for quantity in TIMES:
        change = results.change(3, ON, quantity)
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
    mixed = costs_of(tmp_path / "mixed", [record | {"hardware": "A; B"} for record in factories.of_costs()])
    assert all(mixed.apart(at, ON) for at in range(4))
    records = factories.of_costs()
    records[2] |= changes
    results = costs_of(tmp_path, records)
    assert [results.apart(at, ON) for at in range(4)] == ["", "", reason, ""]
    assert all(math.isnan(results.change(2, ON, quantity).value) for quantity in TIMES)
    assert not math.isnan(results.change(2, ON, KV).value) and not math.isnan(results.value(2, ON, DECODE).value)
    assert not math.isnan(results.change(3, ON, DECODE).value)


def test_failed_samples_are_left_out_of_costs(tmp_path):
    records = factories.of_costs(failed=(0, 9))
    results = costs_of(tmp_path, records)
    paid = records[3]["efficiency"]
    assert results.cells[3, ON].n == 46
    assert results.seconds(3, ON).value == pytest.approx(sum(paid["prefill_ms"] + paid["decode_ms"]) / 1e3)
    gone = factories.of_costs(failed=range(48))
    lost = costs_of(tmp_path / "gone", [factories.of_costs()[0], gone[3]])
    assert math.isnan(lost.value(3, ON, KV).value) and math.isnan(lost.change(3, ON, DECODE).value)


def test_cells_without_decode_times_have_no_evaluation_time(tmp_path):
    records = factories.of_costs()
    records[1]["efficiency"]["decode_ms"] = [None] * records[1]["n"]
    results = costs_of(tmp_path, records)
    assert [math.isnan(results.seconds(at, ON).value) for at in range(4)] == [False, True, False, False]
    assert not math.isnan(results.value(1, ON, DECODE).value)


def test_without_uncompressed_nothing_is_compared(tmp_path):
    results = costs_of(tmp_path, factories.of_costs()[1:])
    assert all(math.isnan(results.change(3, ON, name).value) for name in (*TIMES, KV, "cider"))
    assert not results.apart(3, ON) and not math.isnan(results.value(3, ON, DECODE).value)
