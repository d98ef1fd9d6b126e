"""`python scripts/bench.py`: files, and one clear sentence for what cannot be."""

import csv
import shutil

import pytest
import torch

from plphp_core.bench.bench_app import _composed, main
from plphp_core.bench.bench_settings import bench_from_config
from tests.bench.factories import ROOT

TINY = [
    "bench.models=[tiny]", "bench.vision_tokens=[65]", "bench.text_tokens=10", "bench.steps=2", "bench.rounds=1",
    "bench.warm_up=0", "bench.prefill_rounds=1", "bench.bandwidth_mb=4", "bench.params.vtw.K=3", "bench.batch=[1]",
]  # fmt: skip
TOY = ROOT / "tasks/toy/checkpoints/llava_onevision"


def run(tmp_path, *arguments):
    return main(ROOT, [f"results={tmp_path}", *arguments])


def written(tmp_path):
    (path,) = (tmp_path / "bench").glob("*.csv")
    with path.open() as file:
        return list(csv.DictReader(file))


def test_csv_markdown_and_plots(tmp_path, capsys):
    assert run(tmp_path, *TINY, "bench.methods=[none,plphp]", "bench.retention=[0.3,0.4]", "bench.regimes=[fast]") == 0
    assert [row["params"] for row in written(tmp_path)] == ["", "delta_r=0.3, r=0.3", "delta_r=0.3, r=0.4"]
    assert sorted(path.suffix for path in (tmp_path / "bench").iterdir()) == [".csv", ".md", ".pdf", ".png"]
    printed = capsys.readouterr().out
    assert all(str(path) in printed for path in (tmp_path / "bench").iterdir())


def test_a_checkpoint_decides_its_own_retention(tmp_path):
    arguments = [f"model.checkpoint={TOY}", "model.image_size=96", *TINY[1:], "bench.batch=[2]"]
    arguments += ["bench.regimes=[generate,fast]", "+bench.params.plphp.alpha=0.75", "+bench.params.plphp.beta=0.6"]
    assert run(tmp_path, *arguments) == 0
    rows = written(tmp_path)
    assert {row["model"] for row in rows} == {"llava_onevision"} and len(rows) == 8
    assert all(row["status"] == "ok" for row in rows)
    kept = {row["method"]: float(row["retention"]) for row in rows}
    assert kept["none"] == 1 and kept["vtw"] == 3 / 8 and 0 < kept["plphp"] < 1
    for row in rows:  # one free slot per sample in the fast path
        assert float(row["kv_bytes_held"]) == pytest.approx(float(row["kv_bytes"]), rel=0.03)


def test_whoever_names_the_rows_gets_no_others(tmp_path):
    wanted = ["bench.regimes=[fast]", "bench.methods=[none]"]
    assert run(tmp_path, *TINY, *wanted) == 0 and len(written(tmp_path)) == 1
    also = "bench.also=[{regimes:[generate]}]"
    assert [case.regime for case in bench_from_config(_composed(ROOT, [also]), ROOT).cases].count("generate") == 8
    by_default = bench_from_config(_composed(ROOT, []), ROOT).cases
    legacy = {(case.batch, case.method) for case in by_default if case.regime == "legacy"}
    assert {method for batch, method in legacy if batch == 8} == {"none", "plphp"} and len(legacy) == 6


def test_a_folder_that_cannot_be_written(tmp_path, capsys):
    (tmp_path / "bench").write_text("a file")
    assert run(tmp_path, *TINY, "bench.regimes=[fast]", "bench.methods=[none]") == 1
    assert "error: " in capsys.readouterr().err  # beside a warning where other programs are running


def test_memory_preset(tmp_path):
    assert run(tmp_path, "bench=memory", "bench.models=[qwen2_7b]", "bench.vision_tokens=[7000]") == 0
    batch = {(row["method"], row["params"]): int(row["largest_batch"]) for row in written(tmp_path)}
    assert batch["plphp", "delta_r=0.3, r=0.4"] > 1.5 * batch["none", ""]


@pytest.mark.parametrize("arguments, said", [
    (["bench.methods=[none,snapkv]"], "unknown method 'snapkv'; allowed: fastv, none"),
    (["+bench.params.plphp.alpha=0.5"], "plphp.alpha = 0.5 needs attention scores"),
    (["bench.regimes=[slow]"], "unknown regime 'slow'; allowed: fast, generate, legacy"),
    (["bench.models=[huge]"], "unknown model shape 'huge'"),
    (["bench.batch=[0]"], "bench.batch holds 0"),
    (["bench.batch=[]"], "must be a list of at least one value"),
    (["bench.steps=0"], "bench.steps = 0"),
    (["bench.rounds=0"], "bench.rounds = 0, but must be at least 1"),
    (["dtype=int8"], "unknown dtype 'int8'"),
    (["device=tpu"], "unknown device 'tpu'"),
    (["+bench.stepz=3"], "unknown option of bench 'stepz'"),
    (["bench=tpu"], "cpu"),
    (["bench.params.vtw.K=99"], "VTW: K = 99, but the model has 6 layers"),
    (["model.checkpoint=no/such/folder", "model.family=clip"], "unknown model family 'clip'"),
])  # fmt: skip
def test_requests_that_cannot_be_served(tmp_path, capsys, arguments, said):
    assert run(tmp_path, *TINY, *arguments) == 2
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize("arguments", [["bench=gpu"], ["device=cuda"], ["bench=memory", "device=cuda"]])
def test_a_cuda_preset_without_cuda(tmp_path, capsys, arguments):
    assert run(tmp_path, *arguments) == 2
    assert "torch finds no CUDA device here" in capsys.readouterr().err


def test_a_checkpoint_that_is_not_there(tmp_path, capsys, monkeypatch):
    folder = tmp_path / "empty"
    folder.mkdir()
    shutil.copy(TOY / "config.json", folder)
    assert main(ROOT, [f"results={tmp_path / 'out'}", f"model.checkpoint={folder}", *TINY[1:]]) == 2
    assert "cannot be loaded" in capsys.readouterr().err
