"""`plphp bench`: files, and one clear sentence for what cannot be."""

import pandas as pd
import pytest
import torch

from plphp_core.cli.entry_point import command

TINY = [
    "bench.models=[tiny]", "bench.vision_tokens=[65]", "bench.text_tokens=10", "bench.steps=2", "bench.rounds=1",
    "bench.warm_up=0", "bench.prefill_rounds=1", "bench.bandwidth_mb=4", "bench.params.vtw.K=3", "bench.batch=[1]",
]  # fmt: skip


def run(tmp_path, *arguments):
    return command("bench", [f"results={tmp_path}", *arguments])


def written(tmp_path):
    (path,) = (tmp_path / "bench").glob("*.csv")
    return pd.read_csv(path)


def test_csv_and_markdown(tmp_path, capsys):
    assert run(tmp_path, *TINY, "bench.methods=none,plphp", "bench.retention=[0.3,0.4]", "bench.backends=[fast]") == 0
    rows = written(tmp_path)
    assert rows.params.fillna("").tolist() == ["", "delta_r=0.3, r=0.3", "delta_r=0.3, r=0.4"] * 2
    assert rows.backend.tolist() == ["fast"] * 3 + ["prefill"] * 3
    files = sorted((tmp_path / "bench").iterdir())
    assert [path.suffix for path in files] == [".csv", ".md"]
    assert capsys.readouterr().out.splitlines()[-2:] == list(map(str, files))
    page = files[1].read_text()
    assert "| fast | plphp | delta\\_r=0.3, r=0.3 | 1 |" in page and f"{rows.ms_per_token[1]:.2f}" in page


def test_a_folder_that_cannot_be_written(tmp_path, capsys):
    (tmp_path / "bench").write_text("a file")
    assert run(tmp_path, *TINY, "bench.backends=[fast]", "bench.methods=[none]") == 1
    assert capsys.readouterr().err.startswith("error: ")


def test_memory_preset(tmp_path):
    assert run(tmp_path, "bench=memory", "bench.models=[qwen2_7b]", "bench.vision_tokens=[7000]") == 0
    batch = {(row.method, row.params): row.largest_batch for row in written(tmp_path).fillna("").itertuples()}
    assert batch["plphp", "delta_r=0.3, r=0.4"] > 1.5 * batch["none", ""]


def test_scores_preset(tmp_path):
    tiny = ["bench.models=[tiny]", "bench.vision_tokens=[65]", "bench.prefill_rounds=2", "bench.bandwidth_mb=4"]
    assert run(tmp_path, "bench=scores", *tiny, "bench.windows=[1,8]") == 0
    rows = written(tmp_path)
    assert rows.rows.tolist() == [1, 8] and (rows.prompt_tokens == 200 + 2 * 65).all()
    assert (0 < rows.added_prefill_ms).all() and (rows.added_prefill_ms < rows.prefill_ms).all()
    assert rows.added_share_of_prefill.between(rows.added_share_q1, rows.added_share_q3).all()


@pytest.mark.parametrize("arguments, said", [
    (["bench.methods=[none,magic]"], "unknown method 'magic'; allowed: adakv, "),
    (["+bench.params.plphp.alpha=0.5"], "plphp.alpha = 0.5 needs attention scores"),
    (["bench.backends=[slow]"], "unknown backend 'slow'; allowed: fast, generate, legacy"),
    (["bench.models=[huge]"], "unknown model shape 'huge'"),
    (["bench.batch=[0]"], "bench.batch must be a whole number, at least 1, got 0"),
    (["+bench.windows=[0]"], "each value of bench.windows must be a whole number, at least 1, got 0"),
    (["bench.batch=[]"], "must be a list of at least one value"),
    (["bench.rounds=0"], "bench.rounds must be a whole number, at least 1, got 0"),
    (["dtype=int8"], "unknown dtype 'int8'"),
    (["device=tpu"], "unknown device 'tpu'"),
    (["+bench.stepz=3"], "unknown option of bench 'stepz'"),
    (["+bench.kind=magic"], "memory, scores, sharing, speed"),
    (["bench=tpu"], "cpu"),
    (["bench.params.vtw.K=99"], "tiny: VTW: K = 99, but the model has 6 layers"),
    (["model.checkpoint=somewhere"], "Could not override 'model.checkpoint'"),
])  # fmt: skip
def test_requests_that_cannot_be_served(tmp_path, capsys, arguments, said):
    assert run(tmp_path, *TINY, *arguments) == 2
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize("arguments", [["bench=gpu"], ["bench=cpu", "device=cuda"]])
def test_a_cuda_preset_without_cuda(tmp_path, capsys, arguments):
    assert run(tmp_path, *arguments) == 2
    assert "torch finds no CUDA device here" in capsys.readouterr().err


def test_a_sweep_is_measured_alone_and_from_a_shared_prefill(tmp_path):
    options = ["retention=[0.3,0.5]", "delta_r=[0.0]", "new_tokens=3", "bandwidth_mb=1",
               "models=[tiny]", "vision_tokens=[100]", "text_tokens=10"]  # fmt: skip
    assert run(tmp_path, "bench=sharing", *(f"bench.{option}" for option in options)) == 0
    rows = written(tmp_path)
    assert list(rows.method) == ["shared prefill", "none", "plphp", "plphp", "sweep"]
    settings = rows[rows.method.isin(["none", "plphp"])]
    assert (settings.alone_ms > 0).all() and (settings.shared_ms > 0).all() and settings.same_tokens.all()
    total, parts = rows.iloc[-1], rows.iloc[:-1]
    assert total.alone_ms == pytest.approx(parts.alone_ms.sum())
    assert total.shared_ms == pytest.approx(parts.shared_ms.sum()) and total.extra_bytes > 0
    (page,) = (tmp_path / "bench").glob("sharing-*.md")
    assert "3 settings together take" in page.read_text() and "the same tokens in all" in page.read_text()
