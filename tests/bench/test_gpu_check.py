"""`scripts/gpu_check.py` at reduced size on a CPU: every part runs, is written at once, and can fail."""

import gc
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers
from packaging.version import Version

from plphp_core import PLPHP
from plphp_core.bench.gpu_check import gpu_answers, gpu_check_app, gpu_costs, gpu_exactness
from plphp_core.bench.gpu_check.gpu_answers import agreement
from plphp_core.bench.gpu_check.gpu_check_app import PARTS, main
from plphp_core.bench.gpu_check.gpu_evidence import GpuCheck
from plphp_core.bench.gpu_check.gpu_setting import REDUCED, GpuSetting
from plphp_core.bench.roofline import MeasuredMachine
from plphp_core.decoding import kernels
from plphp_core.decoding.fast_generate import prefill
from plphp_core.decoding.kernels import choose
from plphp_core.decoding.stepping import _Graph
from tests.bench.factories import ROOT
from tests.graphs import record


def run(folder: Path, *arguments: str) -> tuple[int, dict, str]:
    """Exit code, content and page."""
    code = main(ROOT, ["--device", "cpu", "--out", str(folder), *arguments], time.monotonic())
    (as_json,), (as_page,) = folder.glob("*.json"), folder.glob("*.md")
    assert as_json.stem == as_page.stem
    return code, json.loads(as_json.read_text()), as_page.read_text()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return run(tmp_path_factory.mktemp("whole"))


@pytest.mark.slow
def test_every_part_runs_at_reduced_size(whole):
    code, content, page = whole
    status = {part["name"]: part["status"] for part in content["parts"]}
    assert code == 0 and content["reduced"] and list(status) == [part.name for part in PARTS]
    assert status.pop("graph") == "skipped"
    assert status.pop("decoding") == status.pop("prefill") == "measured" and set(status.values()) == {"passed"}
    assert {"torch", "transformers", "numpy", "python", "dtype"} <= set(content["notes"])
    assert "nothing about a GPU" in page and all(f"## {part.title}: " in page for part in PARTS)


@pytest.mark.slow
def test_what_the_parts_found(whole):
    rows = {part["name"]: part["rows"] for part in whole[1]["parts"]}
    (taken,) = (row for row in rows["kernels"] if row.get("taken"))
    assert taken["kernel"] == "sdpa_slices" and taken["error"] < 0.02 and taken["ms"] > 0
    identical = {(row["attention"], row["prompts"]) for row in rows["identity"] if row["found"] == "identical"}
    assert identical == {("sdpa", "one"), ("sdpa", "padded"), ("sdpa, FlashAttention", "one")}
    absent = {row["attention"]: row["found"] for row in rows["identity"] if "method" not in row}
    assert absent == dict.fromkeys(
        ("flash_attention_2", "flash_attention_3"), "not available: its package is not installed"
    )
    none, *pruned = rows["memory"]
    assert none["held"] == none["full"] and all(row["reported"] == row["held"] < row["full"] for row in pruned)
    assert {row["dtype"] for row in rows["ragged"]} == {"float32", "bfloat16"}
    assert all(row["same"] + row["ties"] == row["samples"] and row["padding"] > 0 for row in rows["ragged"])
    measured = {(row["backend"], row["method"], row["batch"], row["vision_tokens"]) for row in rows["decoding"]}
    assert len(measured) == 3 * 2 * len(REDUCED.bench.batch) * len(REDUCED.bench.vision_tokens) == len(rows["decoding"])
    assert all(row["status"] == "ok" and row["rho"] > 0 for row in rows["decoding"])
    assert all(row["prefill_ms"] > 0 and row["added_decode_tokens"] is not None for row in rows["prefill"])
    assert {row["method"] for row in rows["prefill"]} == {"none", "plphp", "fastv", "vtw"}


@pytest.mark.slow
def test_with_nothing_but_torch_transformers_numpy_and_pydantic(tmp_path):
    absent = ("PIL", "torchvision", "hydra", "omegaconf", "rich", "pandas", "psutil", "matplotlib",
              "lmms_eval", "datasets", "accelerate", "jinja2")  # fmt: skip
    if Version(transformers.__version__) >= Version("5.23"):  # older ones import it wherever it is installed
        absent = (*absent, "scipy")
    script = (
        f"import runpy, sys; sys.modules.update(dict.fromkeys({absent}))\n"
        f"sys.argv = ['gpu_check.py', '--device', 'cpu', '--out', {str(tmp_path)!r}, '--parts', 'memory', 'ragged']\n"
        f"runpy.run_path({str(ROOT / 'scripts/gpu_check.py')!r}, run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.glob("*.json")
    memory, ragged = json.loads(path.read_text())["parts"]
    assert memory["status"] == "passed" and len(ragged["rows"]) == 4
    assert ragged["reason"] == "not shown: toy checkpoints read images with PIL and torchvision, not installed here"


def test_a_folder_that_cannot_be_written_is_told_before_anything_runs(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(gpu_check_app, "run_parts", None)  # would fail
    (tmp_path / "file").write_text("")
    assert main(ROOT, ["--device", "cpu", "--out", str(tmp_path / "file")], time.monotonic()) == 1
    assert "error: " in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_where_there_is_none(tmp_path, capsys):
    assert main(ROOT, ["--device", "cuda", "--out", str(tmp_path)], time.monotonic()) == 2
    assert "torch finds no CUDA device here" in capsys.readouterr().err and not list(tmp_path.iterdir())


# --- checks that fail -------------------------------------------------------------------------------------------------


def not_holding(content: dict) -> list[str]:
    return [check["what"] for part in content["parts"] for check in part["checks"] if not check["holds"]]


def test_a_method_that_prunes_is_not_identity(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_exactness, "PLPHP", lambda **_: PLPHP(r=0.2, delta_r=0.0))
    code, content, _ = run(tmp_path, "--parts", "identity")
    assert code == 1 and content["parts"][0]["status"] == "failed"
    wrong = not_holding(content)
    assert len(wrong) == 3 and all("identity of PLPHP(r=0.2" in what for what in wrong)


def test_a_fast_path_that_decodes_other_tokens_is_found_out(tmp_path, monkeypatch):
    def other(model, inputs, method, **arguments):
        found = original(model, inputs, method, **arguments)
        found.sequences[0, -1] = 7 - found.sequences[0, -1]
        return found

    monkeypatch.setattr(gpu_check_app, "REDUCED", replace(REDUCED, toys=()))
    original = gpu_answers.fast_generate
    monkeypatch.setattr(gpu_answers, "fast_generate", other)
    code, content, _ = run(tmp_path, "--parts", "ragged")
    assert code == 1 and len(not_holding(content)) == len(content["parts"][0]["rows"])


def test_tokens_may_differ_only_from_a_tie_on():
    def decided(gap):
        return torch.tensor([[0.0, 4.0, 4.0 + gap]] * 3)  # fp32, as `generate()` hands logits over

    tie, clear = decided(0.0625), decided(0.5)  # 8 roundings of 4 are 0.25
    expected = torch.tensor([[2, 2, 2], [2, 2, 2], [2, 2, 2]])
    found = torch.tensor([[2, 2, 2], [2, 1, 0], [1, 0, 2]])
    assert agreement(found, expected, (tie, tie, tie), torch.bfloat16) == (1, 2, 0)
    assert agreement(found, expected, (clear, tie, clear), torch.bfloat16) == (1, 1, 1)
    assert agreement(found[:1, :2], expected[:1], (clear,) * 3, torch.bfloat16) == (
        1,
        0,
        0,
    )  # all have ended: padding follows


# --- with a stand-in for CUDA graphs ----------------------------------------------------------------------------------


@pytest.fixture
def graphs(monkeypatch):
    monkeypatch.setattr(GpuSetting, "cuda", True)
    monkeypatch.setattr(gpu_exactness, "stepper", _Graph)
    monkeypatch.setattr("plphp_core.decoding.stepping.record", record)
    choose.cache_clear()
    yield
    choose.cache_clear()


@pytest.mark.parametrize("kernel, holds", [("sdpa_masked", True), ("sdpa_slices", False)])
def test_a_graph_that_decodes_other_tokens_is_found_out(monkeypatch, graphs, kernel, holds):
    """`sdpa_slices` reads lengths on the host: replayed, it attends to those of the recording."""
    monkeypatch.setattr(kernels, "_preferred", lambda device: (kernel,))
    setting = GpuSetting("cpu", REDUCED, MeasuredMachine("made up", None, 1e9, {}), ROOT, time.monotonic() + 60)
    found = list(gpu_exactness.graph.find(setting))
    rows, checks = found[0::2], found[1::2]
    assert {row["kernel"] for row in rows} == {kernel} and len(checks) == 4
    assert all(row["largest"] == 0 for row in rows) is holds
    assert all(check.holds for check in checks) is holds


def in_use() -> int:
    """Bytes of all tensors that Python still knows of: an allocator's stand-in."""
    tensors = [thing for thing in gc.get_objects() if type(thing) in (torch.Tensor, torch.nn.Parameter)]
    return sum(
        {storage.data_ptr(): storage.nbytes() for storage in map(torch.Tensor.untyped_storage, tensors)}.values()
    )


@pytest.fixture
def allocator(monkeypatch):
    monkeypatch.setattr(GpuSetting, "cuda", True)
    monkeypatch.setattr(torch.cuda, "memory_allocated", in_use)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 0)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: None)
    setting = GpuSetting("cpu", REDUCED, MeasuredMachine("made up", None, 1e9, {}), ROOT, time.monotonic() + 60)
    two = setting.methods()[:2]  # the stand-in is slow
    monkeypatch.setattr(GpuSetting, "methods", lambda self: two)
    return setting


def test_the_allocator_counts_what_the_trace_reports_and_gets_it_back(allocator):
    found = list(gpu_costs.memory.find(allocator))
    rows, checks = [one for one in found if isinstance(one, dict)], [one for one in found if isinstance(one, GpuCheck)]
    assert len(rows) == 2 and len(checks) == 8 and not [check for check in checks if not check.holds]
    assert all(row["left"] < 512 and row["reported"] <= row["allocated"] for row in rows)


def test_a_cache_that_somebody_keeps_is_found_out(allocator, monkeypatch):
    kept = []

    def keeps(model, inputs):
        kept.append(prefill(model, inputs))
        return kept[-1]

    monkeypatch.setattr(gpu_costs, "prefill", keeps)
    wrong = {one.what for one in gpu_costs.memory.find(allocator) if isinstance(one, GpuCheck) and not one.holds}
    assert wrong == {f"nothing is left behind, {method or 'none'}" for method in allocator.methods()}


def test_the_document_has_every_part():
    page = (ROOT / "docs/performance.md").read_text()
    order = [page.index(f"| `{part.name}` |") for part in PARTS]
    assert order == sorted(order)
