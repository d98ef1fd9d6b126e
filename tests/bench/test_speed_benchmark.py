"""A run's rows: whole, true to what is held, and set against none."""

import pytest

from plphp_core.bench.bench_tables import BenchResult
from plphp_core.bench.capacity_benchmark import capacity_benchmark
from plphp_core.bench.speed_benchmark import COLUMNS, SPEED_COLUMNS, disturbance, measure, speed_tables
from plphp_core.records.errors import UserError
from tests.bench.factories import MACHINE, settings

MAYBE = {"share_of_ideal_nominal", "share_of_ideal_measured", "peak_bytes"}  # none has no share; not every OS tells


@pytest.fixture(scope="module")
def rows():
    return measure(settings(), MACHINE, say=lambda line: None)


def test_every_case_is_one_whole_row(rows):
    assert len(rows) == 3 * 4 * 2
    for row in rows:
        assert tuple(row) == COLUMNS and row["status"] == "ok"
        assert not [name for name in COLUMNS if row[name] is None and name not in MAYBE]
        assert row["vision_tokens"] == 130 and row["prompt_tokens"] == 150
        assert 0 < row["ms_best"] <= row["ms_q1"] <= row["ms_per_token"] <= row["ms_q3"]
        assert (row["rounds"], row["steps"]) == (3, 6) and row["preempted_per_s"] >= 0
        assert 0 < row["speed_up_q1"] <= row["speed_up"] <= row["speed_up_q3"]
        if row["method"] == "none":
            assert row["speed_up_q1"] == row["speed_up_q3"] == 1  # itself, in the same round


def test_bytes_reported_are_held(rows):
    slot = 2 * 2 * 16 * 4  # K and V, heads, dim, fp32
    for row in rows:
        free = row["batch"] * 6 * slot if row["backend"] == "fast" else 0  # for the token to come, in every layer
        assert row["kv_bytes_held"] == row["kv_bytes"] + free
    plain = {row["kv_bytes"] for row in rows if row["method"] == "none" and row["batch"] == 2}
    assert plain == {2 * 150 * 6 * 2 * 2 * 16 * 4}  # samples, tokens, layers, K and V, heads, dim, fp32


def test_rho_is_roofline_over_measured(rows):
    weights = 1022208  # of the tiny shape's decoder and head, fp32
    for row in rows:
        roofline = (weights + row["kv_bytes"]) / 1e9 * 1e3
        assert row["roofline_ms_measured"] == pytest.approx(roofline)
        assert row["roofline_ms_nominal"] == pytest.approx(roofline / 2)
        assert row["rho_measured"] == pytest.approx(roofline / row["ms_per_token"])
        assert row["gb_per_s"] == pytest.approx(row["rho_measured"])  # of 1 GB/s
        assert row["tokens_per_s"] == pytest.approx(1e3 * row["batch"] / row["ms_per_token"])


def test_prefill_columns(rows):
    by_method = {row["method"]: row for row in rows if row["backend"] == "fast" and row["batch"] == 1}
    assert by_method["none"]["added_prefill_ms"] == 0 and by_method["none"]["flops_vs_none"] == 1
    assert by_method["plphp"]["added_prefill_ms"] > 0 and by_method["plphp"]["flops_vs_none"] == 1

    def flops(n):  # hidden 64, intermediate 128
        return 4 * n * 64**2 + 2 * n**2 * 64 + 2 * n * 64 * 128

    assert by_method["fastv"]["flops_vs_none"] == pytest.approx((2 * flops(150) + 4 * flops(85)) / 6 / flops(150))
    assert by_method["vtw"]["flops_vs_none"] == pytest.approx((3 * flops(150) + 3 * flops(20)) / 6 / flops(150))
    for row in by_method.values():
        tokens = row["added_prefill_ms"] / by_method["none"]["ms_per_token"]
        assert row["added_decode_tokens"] == pytest.approx(tokens)


def test_what_does_not_fit_is_a_row_and_the_run_goes_on():
    bench = settings(methods=["none", "plphp"], backends=["fast"], batch=[2, 60000], memory_gb=0.5)
    rows = measure(bench, MACHINE, say=lambda line: None)
    assert [(row["batch"], row["status"]) for row in rows] == [
        (2, "ok"), (2, "ok"), (60000, "oom"), (60000, "oom")]  # fmt: skip
    assert rows[2]["ms_per_token"] is None and rows[2]["speed_up"] is None
    result = BenchResult("Speed", "cpu", rows, SPEED_COLUMNS, ["A note."], speed_tables(rows))
    text = result.page("command", 1)
    assert text.count("| oom | n/a |") == 2
    assert result.csv().splitlines()[3].endswith(",n/a") and ",oom,n/a," in result.csv()


@pytest.mark.parametrize("preempted, warned", [((20, 30, 500), False), ((90, 150, 500), True), ((None,), False)])
def test_a_disturbed_run_says_so(preempted, warned):
    for name, other in (("preempted_per_s", "prefill_preempted_per_s"), ("prefill_preempted_per_s", "preempted_per_s")):
        rows = [{name: value, other: None} for value in preempted]
        assert (disturbance(rows) is not None) == warned


def test_a_model_that_does_not_fit_is_never_built(monkeypatch):
    monkeypatch.setattr("plphp_core.bench.bench_models.build", lambda *_: pytest.fail("built"))
    bench = settings(models=["qwen2_7b"], memory_gb=1, batch=[1], methods=["none"])
    assert [row["status"] for row in measure(bench, MACHINE, say=lambda line: None)] == ["oom"] * 3


def test_depths_that_a_model_does_not_have():
    bench = settings(params={"vtw": {"K": 7}})
    with pytest.raises(UserError, match="tiny: VTW: K = 7, but the model has 6 layers"):
        measure(bench, MACHINE, say=lambda line: None)


def test_capacity_of_80_gb_by_hand():
    bench = settings(
        kind="memory", dtype="bfloat16", models=["qwen2_7b"], methods=["none", "vtw"],
        params={"vtw": {"K": 14}}, vision_tokens=[7000], text_tokens=200, memory_gb=80, new_tokens=256,
    )  # fmt: skip
    none, vtw = capacity_benchmark(bench, say=lambda line: None).rows
    # 10 images of 730 tokens; 7,756 slots in 28 layers (and in one more) of 2,048 bytes; logits.
    assert none["largest_batch"] == int((80e9 - 1e9 - 7_615_616_512 * 2) // (7756 * 29 * 2048 + 152064 * 12))
    assert none["kv_mb_per_sample"] == pytest.approx(7500 * 28 * 2048 / 1e6)
    assert vtw["retention"] == pytest.approx(0.5) and vtw["tried"] == "no"
    assert vtw["times_none"] == vtw["largest_batch"] / none["largest_batch"] > 1.8
