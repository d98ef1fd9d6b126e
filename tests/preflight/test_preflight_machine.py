"""Python, packages, device, memory, disk: what would break is told from what would not."""

import shutil
from collections import namedtuple

import pytest
import torch
from transformers import DynamicCache

from plphp_core.preflight import device as device_module
from plphp_core.preflight import memory as memory_module
from plphp_core.preflight.answers import _eager_calls
from plphp_core.preflight.case import Case
from plphp_core.preflight.check import Status, run_checks
from plphp_core.preflight.checkpoint import Checkpoint
from plphp_core.preflight.data import TaskData
from plphp_core.preflight.disk import disk, results_folder
from plphp_core.preflight.headers import TensorHeader
from plphp_core.preflight.longest import LongestPrompt
from plphp_core.preflight.memory import estimate, free_ram, memory, vision_sizes
from plphp_core.preflight.units import GIB, count, gib, plural
from plphp_core.preflight.versions import packages
from tests import factories
from tests.configured import configured


def look(one, subject):
    (result,) = run_checks([one], subject)
    return result


def case(*overrides: str) -> Case:
    return Case(configured("profile=toy", "tasks=[sd]", *overrides))


# --- packages ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "python, wanted, found",
    [
        (">=3.11", "torch>=2.6", None),
        (">=3.99", "torch>=2.6", "but >=3.99 is needed"),
        (">=3.11", "torch>=99", "but torch>=99 is needed"),
        (">=3.11", "a-package-that-nobody-has>=1", "a-package-that-nobody-has is not installed"),
    ],
)
def test_versions_are_held_against_pyproject(python, wanted, found, tmp_path):
    (tmp_path / "pyproject.toml").write_text(
        f'[project]\nrequires-python = "{python}"\ndependencies = ["{wanted}"]\n'
        '[project.optional-dependencies]\neval = ["datasets"]\n'
    )
    subject = case()
    object.__setattr__(subject.settings, "root", tmp_path)
    result = look(packages, subject)
    assert result.status is (Status.FAILED if found else Status.OK)
    if found:
        assert found in result.findings[0].found and "make" in result.findings[0].remedy
    assert f"torch {torch.__version__.split('+')[0]}" in result.findings[-1].found


def test_without_a_checkout_the_installed_package_says_what_it_needs(tmp_path):
    subject = case()
    object.__setattr__(subject.settings, "root", tmp_path)
    assert look(packages, subject).status is Status.OK


# --- device --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "build, driver, found, remedy",
    [
        (None, None, "built without CUDA", "TORCH_BACKEND=cu128"),
        ("13.0", None, "no NVIDIA driver answers", "nvidia-smi"),
        ("13.0", "470.1", "driver 470.1, torch is built for CUDA 13.0", "TORCH_BACKEND=cu126"),
    ],
)
def test_why_there_is_no_gpu(build, driver, found, remedy, monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", build)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(device_module, "_driver", lambda: driver)
    (finding,) = look(device_module.device, case("device=cuda")).findings
    assert finding.status is Status.FAILED and found in finding.found
    assert remedy in finding.remedy and "device=cpu" in finding.remedy


def test_a_gpu_that_is_not_there(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    (finding,) = look(device_module.device, case("device=cuda:5")).findings
    assert finding.status is Status.FAILED and "no device cuda:5: there are 2" in finding.found


def test_an_old_gpu_emulates_bfloat16(monkeypatch):
    monkeypatch.setattr(device_module, "_no_cuda", lambda where: None)
    monkeypatch.setattr(device_module, "_driver", lambda: "550.1")
    monkeypatch.setattr(device_module, "_multiplies", lambda where, dtype: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda where: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda where: "T4")
    result = look(device_module.device, case("device=cuda", "dtype=bfloat16"))
    assert result.status is Status.WARNING and "below capability 8.0" in result.findings[0].found
    assert look(device_module.device, case("device=cuda", "dtype=float16")).status is Status.OK


@pytest.mark.parametrize(
    "overrides, found",
    [
        (("attn_implementation=eager",), "numerically wrong"),
        (("attn_implementation=flash_attention_2",), "runs on GPUs only"),
        (("attn_implementation=flash_attention_2", "device=cuda"), "has no float32"),
        (("attn_implementation=flash_attention_2", "device=cuda", "dtype=bfloat16"), "cannot import"),
    ],
)
def test_attention_that_would_break(overrides, found):
    (finding,) = look(device_module.attention, case(*overrides)).findings
    assert finding.status is Status.FAILED and found in finding.found
    assert "attn_implementation=sdpa" in finding.remedy


@pytest.mark.parametrize("kind", ["sdpa", "eager"])
def test_eager_attention_is_seen_when_it_runs(kind):
    """Both nets: the modelling file's eager function, and S × S weights among what a module returns."""
    model = factories.tiny_llava_onevision(layers=4, attention=kind)
    with torch.no_grad(), _eager_calls(model) as seen:
        model(input_ids=torch.arange(5)[None])
    assert bool(seen) is (kind == "eager")
    if kind == "eager":
        assert "Qwen2Attention (modeling_qwen2)" in seen and any(name.endswith("layers.2.self_attn") for name in seen)
    with torch.no_grad():  # and the nets are gone again
        model(input_ids=torch.arange(5)[None])


# --- memory --------------------------------------------------------------------------------------------------------


def sized(model, tokens: int, new: int, *overrides: str) -> Case:
    subject = case("device=cpu", *overrides)
    subject.config, subject.model = model.config, model
    tensors = {name: TensorHeader("F32", tuple(tensor.shape)) for name, tensor in model.named_parameters()}
    subject.checkpoint = Checkpoint(folder=None, tensors=tensors)
    subject.longest = LongestPrompt(tokens, new, 1, 64)
    return subject


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_and_cache_of_the_estimate_are_what_they_take(dtype):
    model = factories.tiny_llava_onevision(layers=5).to(dtype)
    subject = sized(model, 30, 3, "batch_size=2", f"dtype={str(dtype)[6:]}")
    parts = estimate(subject)
    assert parts["weights"] == sum(tensor.nbytes for tensor in model.parameters())
    cache = DynamicCache()
    with torch.no_grad():
        model(input_ids=torch.zeros(2, 33, dtype=torch.long), past_key_values=cache)
    held = sum(tensor.nbytes for layer in cache.layers for tensor in (layer.keys, layer.values))
    assert parts["cache"] == held
    assert parts["decoder"] > 0 and parts["vision"] > 0


@pytest.mark.parametrize("free, status", [(1000, "ok"), (105, "warning"), (99, "failed")])
def test_too_little_memory_is_a_failure_and_little_a_warning(free, status, monkeypatch):
    subject = sized(factories.tiny_llava_onevision(layers=4), 50, 5)
    needed = sum(estimate(subject).values())
    monkeypatch.setattr(memory_module, "free_ram", lambda: int(needed * free / 100))
    (finding,) = look(memory, subject).findings
    assert finding.status == status and "weights" in finding.found and "cache" in finding.found
    assert ("batch_size=1" in finding.remedy) is (status != "ok")


def test_a_gpu_is_asked_for_its_memory_and_the_weights_pass_through_ram(monkeypatch):
    subject = sized(factories.tiny_llava_onevision(layers=4), 50, 5, "device=cuda", "batch_size=1")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda where: (1 * GIB, 80 * GIB))
    monkeypatch.setattr(memory_module, "free_ram", lambda: 10)
    gpu, ram = look(memory, subject).findings
    assert "on the GPU of 80.0 GiB" in gpu.found and "CUDA itself" in gpu.found and gpu.status is Status.OK
    assert ram.status is Status.FAILED and "on their way to the GPU" in ram.found


def test_free_ram_is_a_plausible_number():
    free = free_ram()
    assert free is None or 0 < free < 2**50


def test_vision_towers_name_their_sizes_differently():
    vision = namedtuple("Qwen", "embed_dim mlp_ratio depth hidden_size")(1280, 4, 32, 3584)
    assert vision_sizes(vision) == (1280, 5120, 32)
    siglip = namedtuple("Siglip", "hidden_size intermediate_size num_hidden_layers")(1152, 4304, 26)
    assert vision_sizes(siglip) == (1152, 4304, 26)


def test_amounts_for_people():
    assert [gib(74 * 2**10), gib(300 * 2**20), gib(1.5 * GIB), gib(640 * GIB)] == [
        "74.0 KiB",
        "300 MiB",
        "1.5 GiB",
        "640 GiB",
    ]
    assert (count(8_030_000_000), count(2_430_000)) == ("8.03 billion", "2.43 million")
    assert (plural(1, "file"), plural(0, "file")) == ("1 file", "0 files")


# --- disk ----------------------------------------------------------------------------------------------------------


def test_results_need_a_folder_that_can_be_written(tmp_path):
    assert look(results_folder, case(f"results={tmp_path / 'a' / 'b'}")).status is Status.OK
    assert list(tmp_path.iterdir()) == []
    result = look(results_folder, case("results=/proc/results"))
    assert result.status is Status.FAILED and "results=…" in result.findings[0].remedy


def test_downloads_count_against_the_disk(tmp_path, monkeypatch):
    subject = case(f"results={tmp_path}", "method=none")
    subject.checkpoint = Checkpoint(tmp_path, to_download={"a": 15 * GIB, "b": GIB})
    subject.tasks = [TaskData("a", 1000, None, 1, ["x"], to_download=4 * GIB)]
    usage = namedtuple("Usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(0, 0, 30 * GIB))
    result = look(disk, subject)
    said = " ".join(finding.found for finding in result.findings)
    assert result.status is Status.OK and "weights 16.0 GiB" in said and "data 4.0 GiB" in said
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(0, 0, 10 * GIB))
    result = look(disk, subject)
    assert result.status is Status.FAILED and "HF_HOME=" in result.findings[0].remedy


def test_results_grow_with_samples_and_methods_and_a_limit_bounds_them(tmp_path):
    def needed(*overrides):
        subject = case(f"results={tmp_path}", *overrides)
        subject.tasks = [TaskData("a", 10**6, None, 1, ["x"])]
        return look(disk, subject).findings[0].found.split(" needed")[0]

    assert needed("method=none") == "about 3.9 GiB" and needed("table=table1") == "about 38.2 GiB"
    assert needed("method=none", "limit=100") == "about 100 MiB"
