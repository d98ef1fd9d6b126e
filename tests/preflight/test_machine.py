"""Packages, device, network, memory and disk: what would break is told from what would not."""

import shutil
from collections import namedtuple

import pytest
import torch
from transformers import DynamicCache

from plphp_core.config.run_settings import Benchmark
from plphp_core.preflight import machine, room
from plphp_core.preflight.checkpoint import weights
from plphp_core.preflight.checks import BenchmarkSample, CheckFailed, CheckpointFiles, CheckStatus, PlannedRun
from plphp_core.preflight.room import PromptSize, disk, estimate, memory
from tests import factories

PASSED, FAILED = CheckStatus.PASSED, CheckStatus.FAILED
GIB = 2**30


@pytest.mark.parametrize(
    "python, wanted, words",
    [
        (">=3.11", "torch>=2.6", None),
        (">=3.99", "torch>=2.6", "but >=3.99 is needed"),
        (">=3.11", "torch>=99", "but >=99 is needed"),
        (">=3.11", "no-such-package>=1", "no-such-package is not installed"),
    ],
)
def test_versions_are_held_against_the_package(python, wanted, words, planned, examine, monkeypatch):
    monkeypatch.setattr(machine, "metadata", lambda name: {"Requires-Python": python})
    monkeypatch.setattr(machine, "requires", lambda name: [wanted, 'gradio>=99; extra == "demo"'])
    result = examine(machine.packages, planned())[0]
    assert result.status is (FAILED if words else PASSED) and (words or "torch 2") in result.sentence


@pytest.mark.parametrize(
    "build, driver, words",
    [
        (None, None, "built without CUDA"),
        ("13.0", None, "no NVIDIA driver"),
        ("13.0", "470.1", "driver 470.1, torch is built for CUDA 13.0"),
    ],
)
def test_why_there_is_no_gpu(build, driver, words, planned, examine, monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", build)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(machine, "driver_version", lambda: driver)
    (result,) = examine(machine.device, planned("device=cuda"))
    assert result.status is FAILED and words in result.sentence and "device=cpu" in result.sentence


def test_a_gpu_that_is_not_there(planned, examine, monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    (result,) = examine(machine.device, planned("device=cuda:5"))
    assert result.status is FAILED and "no device cuda:5: there are 2" in result.sentence


def test_attention_that_would_break(planned, examine):
    (result,) = examine(machine.device, planned("attn_implementation=eager"))
    assert result.status is FAILED and "attn_implementation=sdpa" in result.sentence
    (result,) = examine(weights, planned("attn_implementation=flash_attention_2"))  # no such package here
    assert result.status is FAILED and "attn_implementation=flash_attention_2" in result.sentence


# --- memory and disk -----------------------------------------------------------------------------------------------


def sized(run: PlannedRun, model) -> PlannedRun:
    run.config, run.model = model.config, model
    run.checkpoint = CheckpointFiles(None, shapes={name: tuple(one.shape) for name, one in model.named_parameters()})
    return run


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_and_cache_of_the_estimate_are_what_they_take(dtype, planned):
    model = factories.tiny_llava_onevision(layers=5).to(dtype)
    parts = estimate(sized(planned("batch_size=2", f"dtype={str(dtype)[6:]}"), model), PromptSize(30, 3, 64))
    assert parts["weights"] == sum(tensor.nbytes for tensor in model.parameters())
    cache = DynamicCache()
    with torch.no_grad():
        model(input_ids=torch.zeros(2, 33, dtype=torch.long), past_key_values=cache)
    assert parts["cache"] == sum(tensor.nbytes for layer in cache.layers for tensor in (layer.keys, layer.values))
    assert parts["decoder"] > 0 and parts["vision"] > 0


@pytest.mark.parametrize("share, status", [(1.05, PASSED), (0.99, FAILED)])
def test_too_little_memory_is_a_failure(share, status, planned, examine, monkeypatch):
    run = planned()
    run.data = []
    assert examine(memory, run)[0].status is PASSED
    needed = sum(estimate(run, room._size(run, room.ASSUMED)).values())
    monkeypatch.setattr(room, "available_ram", lambda: int(needed * share))
    result = examine(memory, run)[0]
    assert result.status is status and "weights" in result.sentence and "cache" in result.sentence


def test_a_gpu_is_asked_for_its_memory_and_the_weights_pass_through_ram(planned, examine, monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda where: (GIB, 80 * GIB))
    monkeypatch.setattr(room, "available_ram", lambda: 10)
    run = planned("batch_size=1")
    examine(memory, run)
    run.settings = planned("device=cuda", "batch_size=1").settings
    gpu, ram = (found for found in memory.examine(run))
    assert "on the GPU" in gpu
    assert isinstance(ram, CheckFailed) and "on their way to the GPU" in str(ram)


def test_results_need_a_folder_that_can_be_written_and_nothing_is_left_there(tmp_path, planned, examine):
    assert examine(disk, planned(f"results={tmp_path / 'a' / 'b'}"))[0].status is PASSED
    assert list(tmp_path.iterdir()) == []
    (result,) = examine(disk, planned("results=/proc/results"))
    assert result.status is FAILED and "results=…" in result.sentence


@pytest.mark.parametrize("free, status", [(30, PASSED), (10, FAILED)])
def test_downloads_count_against_the_disk(free, status, tmp_path, planned, examine, monkeypatch):
    run = planned(f"results={tmp_path}", "method=none")
    run.checkpoint = CheckpointFiles(tmp_path, to_download={"a": 15 * GIB, "b": GIB})
    run.data = [BenchmarkSample(Benchmark("A", "a"), 1000, [], to_download=4 * GIB)]
    usage = namedtuple("Usage", "total used free")(0, 0, free * GIB)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    results = examine(disk, run)
    said = " ".join(result.sentence for result in results)
    assert status in {result.status for result in results} and "weights 16.0 GiB" in said and "data 4.0 GiB" in said


@pytest.mark.parametrize(
    "overrides, needed",
    [(["method=none"], "3.9 GiB"), (["table=table1"], "49.7 GiB"), (["method=none", "limit=100"], "100 MiB")],
)
def test_results_grow_with_samples_and_methods_and_a_limit_bounds_them(overrides, needed, tmp_path, planned, examine):
    run = planned(f"results={tmp_path}", *overrides)
    run.data = [BenchmarkSample(Benchmark("A", "a"), 10**6, [])]
    assert f"about {needed} needed" in examine(disk, run)[0].sentence
