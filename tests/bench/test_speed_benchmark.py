"""A run's rows: whole, true to what is held, and set against none."""

import pytest

from plphp_core.bench.bench_tables import BenchResult
from plphp_core.bench.capacity_benchmark import capacity_benchmark
from plphp_core.bench.speed_benchmark import SPEED_COLUMNS, measure, speed_tables
from tests.bench.factories import MACHINE, settings

WEIGHTS = 1022208  # bytes of the tiny shape's decoder and head, fp32


@pytest.fixture(scope="module")
def rows():
    return measure(settings(), MACHINE, say=lambda line: None)


@pytest.fixture(scope="module")
def decoded(rows):
    return [row for row in rows if row["backend"] != "prefill"]


def test_every_case_is_one_whole_row(rows, decoded):
    assert len(decoded) == 3 * 4 * 2 and len(rows) == len(decoded) + 4
    for row in decoded:
        assert row["status"] == "ok" and row["vision_tokens"] == 130 and row["prompt_tokens"] == 150
        assert 0 < row["ms_q1"] <= row["ms_per_token"] <= row["ms_q3"] and row["rounds"] == 3
        assert 0 < row["speed_up_q1"] <= row["speed_up"] <= row["speed_up_q3"]
        if row["method"] == "none":
            assert row["speed_up_q1"] == row["speed_up_q3"] == 1  # itself, in the same round
    assert all(row["added_decode_tokens"] >= 0 for row in rows if row["backend"] == "prefill")


def test_bytes_reported_are_held_and_rho_is_roofline_over_measured(decoded):
    slot = 2 * 2 * 16 * 4  # K and V, heads, dim, fp32
    for row in decoded:
        free = row["batch"] * 6 * slot if row["backend"] == "fast" else 0  # for the token to come, in every layer
        assert row["kv_bytes_held"] == row["kv_bytes"] + free
        assert row["roofline_ms"] == pytest.approx((WEIGHTS + row["kv_bytes"]) / 2e9 * 1e3)  # of the data sheet
        assert row["rho"] == pytest.approx(row["roofline_ms"] / row["ms_per_token"])
        assert row["tokens_per_s"] == pytest.approx(1e3 * row["batch"] / row["ms_per_token"])
    plain = {row["kv_bytes"] for row in decoded if row["method"] == "none" and row["batch"] == 2}
    assert plain == {2 * 150 * 6 * slot}  # samples, tokens, layers


def test_what_does_not_fit_is_a_row_and_the_run_goes_on():
    bench = settings(methods=["none", "plphp"], backends=["fast"], batch=[2, 60000], memory_gb=0.5)
    rows = measure(bench, MACHINE, say=lambda line: None)
    assert [(row["batch"], row["status"]) for row in rows[:4]] == [
        (2, "ok"), (2, "ok"), (60000, "oom"), (60000, "oom")]  # fmt: skip
    result = BenchResult("Speed", "cpu", rows, SPEED_COLUMNS, ["A note."], speed_tables(rows))
    text = result.page("command", 1)
    assert text.count("| oom | n/a |") == 2 and text.count("\n## ") == 2
    assert result.csv().splitlines()[3].endswith(",n/a") and ",oom,n/a," in result.csv()


def test_a_model_that_does_not_fit_is_never_built(monkeypatch):
    monkeypatch.setattr("plphp_core.bench.random_model.build", lambda *_: pytest.fail("built"))
    bench = settings(models=["qwen2_7b"], memory_gb=1, batch=[1], methods=["none"])
    assert [row["status"] for row in measure(bench, MACHINE, say=lambda line: None)] == ["oom"] * 3


def test_capacity_of_80_gb_by_hand():
    bench = settings(
        kind="memory", dtype="bfloat16", models=["qwen2_7b"], methods=["none", "vtw"],
        params={"vtw": {"K": 14}}, vision_tokens=[7000], text_tokens=200, memory_gb=80, new_tokens=256,
    )  # fmt: skip
    none, vtw = capacity_benchmark(bench, say=lambda line: None).rows
    # 10 images of 730 tokens; 7,756 slots in 28 layers (and in one more) of 2,048 bytes; logits.
    assert none["largest_batch"] == int((80e9 - 1e9 - 7_615_616_512 * 2) // (7756 * 29 * 2048 + 152064 * 12))
    assert none["kv_mb_per_sample"] == pytest.approx(7500 * 28 * 2048 / 1e6)
    assert vtw["retention"] == pytest.approx(0.5)
    assert vtw["times_none"] == vtw["largest_batch"] / none["largest_batch"] > 1.8
