"""Table 4: its layout, its numbers against the cell files, marks and notes, and its files."""

import statistics

import pandas as pd
import pytest

from plphp_core.reporting import table4
from tests.reporting import factories
from tests.reporting.reports_made import costs_of, report, texts


def test_every_printed_number_is_the_cells(tmp_path):
    results = costs_of(tmp_path, factories.of_costs())
    scores, intervals = table4.sheets(results, "DetailCaps", "toy", {})
    cells = {record["method"]: record for record in factories.of_costs()}
    none = cells["none"]["efficiency"]
    for row, method in enumerate(("none", "fastv", "vtw", "plphp")):
        cell, paid = cells[method], cells[method]["efficiency"]
        latency = statistics.median(paid["decode_ms_per_token"])
        change = latency / statistics.median(none["decode_ms_per_token"]) - 1
        assert texts(scores, row)[2:9] == [
            f"{100 * cell['metrics']['cider']['value']:.2f}",
            f"{100 * cell['metrics']['meteor']['value']:.2f}",
            f"{100 * statistics.mean(paid['retention']):.1f}%",
            f"{statistics.mean(paid['kv_bytes']) / 2**20:.2f}",
            f"{100 * (1 - sum(paid['kv_bytes']) / sum(paid['kv_bytes_full'])):.1f}%",
            f"{latency:.2f}",
            f"{100 * change:+.2f}%".replace("-", "−") if row else "reference",
        ]
        assert texts(scores, row)[9] == f"{sum(paid['prefill_ms'] + paid['decode_ms']) / 1e3:.2f}"
    assert len(intervals.rows) == 4 and texts(intervals, 0)[-2:] == ["reference", "reference"]
    low, high = (getattr(results.change(3, "DetailCaps", "decode_ms_per_token"), end) for end in ("low", "high"))
    assert texts(intervals, 3)[-2] == f"[{100 * low:+.2f}%, {100 * high:+.2f}%]".replace("-", "−")


@pytest.mark.parametrize(("factor", "unit"), [(1 / 64, "KiB"), (1, "MiB"), (4096, "GiB")])
def test_the_cache_is_printed_in_a_unit_that_fits(tmp_path, factor, unit):
    records = factories.of_costs()
    for record in records:
        for name in ("kv_bytes", "kv_bytes_full"):
            record["efficiency"][name] = [factor * size for size in record["efficiency"][name]]
    scores = table4.sheets(costs_of(tmp_path, records), "DetailCaps", "toy", {})[0]
    assert scores.columns[5].label == unit
    size = statistics.mean(records[0]["efficiency"]["kv_bytes"]) / {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30}[unit]
    assert texts(scores, 0)[5] == f"{size:.2f}"


def test_missing_and_failed(tmp_path):
    records = factories.of_costs()[:3]
    records[1] = factories.of_costs(failed=(3,))[1]
    scores = table4.sheets(costs_of(tmp_path, records), "DetailCaps", "toy", {})[0]
    assert set(texts(scores, 3)[2:]) == {"n/a"}
    assert scores.rows[1].cells[2].mark == "†1"


def test_captions_run_under_both_protocols_belong_to_the_one_asked_for(tmp_path):
    plain = [record | {"prompts": "plain"} for record in factories.of_costs()]
    llava = [record | {"protocol": "llava"} for record in plain]
    factories.write(tmp_path, *plain, *llava)
    for name in ("lmms_eval", "llava"):
        assert report(tmp_path, "table4", "prompts=plain", f"protocol={name}") == 0
    for name, variant in (("lmms_eval", ".prompts=plain"), ("llava", ".protocol=llava")):
        table = pd.read_csv(tmp_path / "toy" / f"table4{variant}.csv")
        assert set(table.protocol) == {name}
