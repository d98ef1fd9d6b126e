"""Table 4: its layout, its numbers against the cell files, marks and notes, and its files."""

import json
import statistics

import pandas as pd
import pytest

from plphp_core.cli.entry_point import command
from plphp_core.reporting import table4
from plphp_core.reporting.published import load_reference
from tests.analysis.test_costs import costs_of
from tests.reporting import factories
from tests.reporting.test_report import PUBLISHED


def texts(sheet, row):
    return [entry.text for entry in sheet.rows[row].cells]


def report(folder, *argv):
    return command("report", [*argv, "profile=toy", f"results={folder}"])


def written(folder):
    return {path.name for path in (folder / "toy").iterdir() if path.is_file()}


def test_layout_and_every_printed_number(tmp_path):
    costs = costs_of(tmp_path, factories.of_costs())
    scores, intervals = table4.sheets(costs, "toy", {})
    assert [f"{column.group} {column.label}".strip() for column in scores.columns] == [
        *("Method", "Setting", "DetailCaps C", "DetailCaps M", "Vision kept", "KV cache MiB", "KV cache saved"),
        *("Decode ms/token", "Decode change", "Evaluation s", "Evaluation change"),
    ]
    heads = [("Uncompressed", ""), ("FastV", "K=2, R=0.5"), ("VTW", "K=4"), ("PLPHP", "r=0.4, Δr=0.3")]
    assert [tuple(texts(scores, row)[:2]) for row in range(4)] == heads
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
    assert texts(scores, 4)[:2] == ["As published", "all rows"] and set(texts(scores, 4)[2:]) == {"n/a"}
    assert len(intervals.rows) == 4 and texts(intervals, 0)[-2:] == ["reference", "reference"]
    low, high = (costs.change(3, "decode_ms_per_token").low, costs.change(3, "decode_ms_per_token").high)
    assert texts(intervals, 3)[-2] == f"[{100 * low:+.2f}%, {100 * high:+.2f}%]".replace("-", "−")


@pytest.mark.parametrize(("factor", "unit"), [(1 / 64, "KiB"), (1, "MiB"), (4096, "GiB")])
def test_the_cache_is_printed_in_a_unit_that_fits(tmp_path, factor, unit):
    records = factories.of_costs()
    for record in records:
        for name in ("kv_bytes", "kv_bytes_full"):
            record["efficiency"][name] = [factor * size for size in record["efficiency"][name]]
    scores = table4.sheets(costs_of(tmp_path, records), "toy", {})[0]
    assert scores.columns[5].label == unit
    size = statistics.mean(records[0]["efficiency"]["kv_bytes"]) / {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30}[unit]
    assert texts(scores, 0)[5] == f"{size:.2f}"


def test_scores_are_ranked_and_costs_are_not(tmp_path):
    scores = table4.sheets(costs_of(tmp_path, factories.of_costs()), "toy", {})[0]
    for at in (2, 3):
        marks = [row.cells[at].emphasis for row in scores.rows]
        assert sorted(marks) == ["", "", "", "best", "second"] and marks[0] == ""
    assert not any(entry.emphasis for row in scores.rows for entry in row.cells[4:])


def test_notes_say_what_is_measured_and_that_the_toys_times_mean_nothing(tmp_path):
    toy = " ".join(table4.sheets(costs_of(tmp_path, factories.of_costs()), "toy", {})[0].notes)
    for part in ("Toy profile", "scaled to the toy's depth", "Times of the toy", "2 CPU cores", "DetailCaps 48",
                 "float32", "engine generate, batch size 8", "whole batches", "stay n/a", "resumed evaluation",
                 "settings of FastV and VTW"):  # fmt: skip
        assert part in toy, part
    records = factories.of_costs(profile="paper", batch=1)
    paper = " ".join(table4.sheets(costs_of(tmp_path / "p", records, profile="paper"), "paper", {})[0].notes)
    assert "Times of the toy" not in paper and "Toy profile" not in paper
    assert "batch size 1. 95% intervals by resampling samples" in paper


def test_times_that_are_not_compared_are_marked_and_explained(tmp_path):
    records = factories.of_costs()
    records[2]["hardware"] = "H200"
    scores = table4.sheets(costs_of(tmp_path, records), "toy", {})[0]
    vtw = scores.rows[2].cells
    assert [vtw[at].mark for at in (7, 9)] == ["‡", "‡"] and [vtw[at].text for at in (8, 10)] == ["n/a", "n/a"]
    assert not any(entry.mark for entry in scores.rows[3].cells)
    assert any(note.startswith("‡") and "VTW K=4: measured on H200" in note for note in scores.notes)


def test_missing_and_failed(tmp_path):
    records = factories.of_costs()[:3]
    records[1] = factories.of_costs(failed=(3,))[1]
    scores = table4.sheets(costs_of(tmp_path, records), "toy", {})[0]
    assert set(texts(scores, 3)[2:]) == {"n/a"}
    assert scores.rows[1].cells[2].mark == "†1"
    said = " ".join(scores.notes)
    assert "n/a, not run yet (1 of 4 cells): PLPHP r=0.4, Δr=0.3: all" in said
    assert "Failed samples are left out of every mean" in said


def test_published_numbers_stand_below_ours(tmp_path):
    known = {("vtw", "K=20"): {("DetailCaps", "cider"): 12.5, ("DetailCaps", "decode_latency"): 30.25}}
    scores = table4.sheets(costs_of(tmp_path, factories.of_costs()), "toy", known)[0]
    assert texts(scores, 4) == ["VTW, as published", "K=20", "12.50", *["n/a"] * 4, "30.25", *["n/a"] * 3]
    assert load_reference(PUBLISHED, "table4") == {}


def test_the_command_writes_the_table_and_a_variant_per_benchmark_and_engine(tmp_path, capsys):
    fast = [record | {"engine": "fast"} for record in factories.of_costs()]
    vst = [factories.timed(benchmark="VST")]
    factories.write(tmp_path, *factories.of_costs(), *fast, *vst)
    assert report(tmp_path, "table4", "protocol=lmms_eval") == 0
    assert (
        "Reproduction of Table 4 (toy profile): scores and costs on DetailCaps, LLaVA-OneVision"
        in capsys.readouterr().out
    )
    assert report(tmp_path, "table4", "report.quiet=true", "engine=fast") == 0
    assert report(tmp_path, "table4", "report.quiet=true", "tasks=vst") == 0
    assert written(tmp_path) == {
        f"table4{variant}.{kind}" for variant in ("", ".engine=fast", ".tasks=vst") for kind in ("csv", "md", "tex")
    }
    table = pd.read_csv(tmp_path / "toy" / "table4.engine=fast.csv")
    assert set(table.engine.dropna()) == {"fast"} and set(table.benchmark) == {"DetailCaps"}
    assert "VST R-L" in (tmp_path / "toy" / "table4.tasks=vst.md").read_text(encoding="utf-8")
    assert report(tmp_path, "table4", "report.quiet=true", "tasks=table1") == 1
    assert "a table of costs is about one benchmark" in capsys.readouterr().err


def test_captions_run_under_both_protocols_belong_to_the_one_asked_for(tmp_path):
    plain = [record | {"prompts": "plain"} for record in factories.of_costs()]
    llava = [record | {"protocol": "llava"} for record in plain]
    factories.write(tmp_path, *plain, *llava)
    for name in ("lmms_eval", "llava"):
        assert report(tmp_path, "table4", "report.quiet=true", "prompts=plain", f"protocol={name}") == 0
    for name, variant in (("lmms_eval", ".prompts=plain"), ("llava", ".protocol=llava")):
        table = pd.read_csv(tmp_path / "toy" / f"table4{variant}.csv")
        assert set(table.protocol) == {name}


def test_table_1s_cells_serve_table_4(tmp_path):
    factories.write(tmp_path, *factories.suite())
    assert report(tmp_path, "table4", "report.quiet=true", "report.strict=true") == 0
    table = pd.read_csv(tmp_path / "toy" / "table4.csv")
    cell = json.loads(
        next((tmp_path / "toy" / "cells").glob("toy_detailcaps-vtw-K=4*.json")).read_text(encoding="utf-8")
    )
    line = table[(table.method == "vtw") & (table.metric == "cider")]
    assert line.value.item() == pytest.approx(cell["metrics"]["cider"]["value"])
