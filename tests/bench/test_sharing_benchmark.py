"""The benchmark of shared prefills: every setting once alone and once shared, with the same tokens."""

from pathlib import Path

import pandas as pd
import pytest

from plphp_core.bench.bench_app import main

ROOT = Path(__file__).resolve().parents[2]
TOY = ROOT / "tasks" / "toy" / "checkpoints" / "llava_onevision"


@pytest.mark.skipif(not TOY.is_dir(), reason="no toy checkpoint")
def test_a_sweep_is_measured_both_ways(tmp_path, capsys):
    chosen = ["regimes=[fast,generate]", "retention=[0.3,0.5]", "delta_r=[0.0]", "new_tokens=3", "vision_tokens=[100]"]
    options = [f"bench.{option}" for option in [*chosen, "bandwidth_mb=1"]]
    model = [f"model.checkpoint={TOY}", "model.image_size=96"]
    assert main(ROOT, ["bench=sharing", f"results={tmp_path}", *model, *options]) == 0, capsys.readouterr().err
    (csv,) = (tmp_path / "bench").glob("sharing-*.csv")
    rows = pd.read_csv(csv)
    assert list(rows.method) == ["shared prefill", "none", "plphp", "plphp", "sweep"] * 2
    settings = rows[rows.method.isin(["none", "plphp"])]
    assert (settings.alone_ms > 0).all() and (settings.shared_ms > 0).all() and settings.same_tokens.all()
    for engine in ("fast", "generate"):
        own = rows[rows.engine == engine]
        total = own[own.method == "sweep"].iloc[0]
        assert total.alone_ms == pytest.approx(own[own.method != "sweep"].alone_ms.sum(), rel=1e-4)
        assert total.shared_ms == pytest.approx(own[own.method != "sweep"].shared_ms.sum(), rel=1e-4)
        assert total.extra_bytes > 0
    (page,) = (tmp_path / "bench").glob("sharing-*.md")
    assert "3 settings together take" in page.read_text() and "the same tokens in all" in page.read_text()


def test_an_unknown_kind_is_named(tmp_path, capsys):
    assert main(ROOT, ["bench=cpu", "+bench.kind=magic", f"results={tmp_path}"]) == 2
    assert "memory, sharing, speed" in capsys.readouterr().err
