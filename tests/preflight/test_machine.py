"""Packages, device, network, memory and disk: what would break is told from what would not."""

import shutil
import socket
from collections import namedtuple

import datasets.config
import pytest
import torch
from huggingface_hub import close_session, constants
from transformers import DynamicCache

from plphp_core.config.run_settings import Benchmark
from plphp_core.preflight import machine, room
from plphp_core.preflight.checks import BenchmarkSample, CheckpointFiles, CheckStatus, PlannedRun, PromptSize
from plphp_core.preflight.room import disk, estimate, memory
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
    assert result.status is FAILED and words in result.sentence and "device=cpu" in result.remedy


def test_a_gpu_that_is_not_there(planned, examine, monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    (result,) = examine(machine.device, planned("device=cuda:5"))
    assert result.status is FAILED and "no device cuda:5: there are 2" in result.sentence


@pytest.mark.parametrize(
    "overrides, words",
    [
        (["attn_implementation=eager"], "numerically wrong"),
        (["attn_implementation=flash_attention_2"], "runs on GPUs only"),
        (["attn_implementation=flash_attention_2", "device=cuda"], "has no float32"),
        (["attn_implementation=flash_attention_2", "device=cuda", "dtype=bfloat16"], "cannot import"),
    ],
)
def test_attention_that_would_break(overrides, words, planned, examine):
    (result,) = examine(machine.attention, planned(*overrides))
    assert result.status is FAILED and words in result.sentence and "attn_implementation=sdpa" in result.remedy


@pytest.fixture
def online(monkeypatch):
    """The libraries may use the network, without a proxy."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", False)
    close_session()
    yield
    close_session()


def test_an_unreachable_hub_keeps_later_checks_from_waiting(online, planned, examine, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    monkeypatch.setattr(constants, "ENDPOINT", url)
    (result,) = examine(machine.hub, planned("model.checkpoint=somebody/not-here"))
    assert constants.HF_HUB_OFFLINE and datasets.config.HF_HUB_OFFLINE
    assert result.status is CheckStatus.SKIPPED and f"{url} cannot be reached" in result.sentence


def test_the_hub_is_not_asked_where_all_is_local(online, planned, examine, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", None)
    (result,) = examine(machine.hub, planned())
    assert result.status is CheckStatus.SKIPPED and "not needed" in result.sentence


# --- memory and disk -----------------------------------------------------------------------------------------------


def sized(run: PlannedRun, model, tokens: int, new_tokens: int) -> PlannedRun:
    run.config, run.model = model.config, model
    run.checkpoint = CheckpointFiles(None, shapes={name: tuple(one.shape) for name, one in model.named_parameters()})
    run.largest = PromptSize(tokens, new_tokens, patches=64)
    return run


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_and_cache_of_the_estimate_are_what_they_take(dtype, planned):
    model = factories.tiny_llava_onevision(layers=5).to(dtype)
    parts = estimate(sized(planned("batch_size=2", f"dtype={str(dtype)[6:]}"), model, 30, 3))
    assert parts["weights"] == sum(tensor.nbytes for tensor in model.parameters())
    cache = DynamicCache()
    with torch.no_grad():
        model(input_ids=torch.zeros(2, 33, dtype=torch.long), past_key_values=cache)
    assert parts["cache"] == sum(tensor.nbytes for layer in cache.layers for tensor in (layer.keys, layer.values))
    assert parts["decoder"] > 0 and parts["vision"] > 0


@pytest.mark.parametrize("share, status", [(1.05, PASSED), (0.99, FAILED)])
def test_too_little_memory_is_a_failure(share, status, planned, monkeypatch):
    run = sized(planned(), factories.tiny_llava_onevision(layers=4), 50, 5)
    needed = sum(estimate(run).values())
    monkeypatch.setattr(room, "available_ram", lambda: int(needed * share))
    (result,) = memory.examine(run)
    assert result.status is status and "weights" in result.sentence and "cache" in result.sentence


def test_a_gpu_is_asked_for_its_memory_and_the_weights_pass_through_ram(planned, monkeypatch):
    run = sized(planned("device=cuda", "batch_size=1"), factories.tiny_llava_onevision(layers=4), 50, 5)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda where: (GIB, 80 * GIB))
    monkeypatch.setattr(room, "available_ram", lambda: 10)
    gpu, ram = memory.examine(run)
    assert "on the GPU" in gpu.sentence and gpu.status is PASSED
    assert ram.status is FAILED and "on their way to the GPU" in ram.sentence


def test_results_need_a_folder_that_can_be_written_and_nothing_is_left_there(tmp_path, planned, examine):
    assert examine(disk, planned(f"results={tmp_path / 'a' / 'b'}"))[0].status is PASSED
    assert list(tmp_path.iterdir()) == []
    (result,) = examine(disk, planned("results=/proc/results"))
    assert result.status is FAILED and "results=…" in result.remedy


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
    [(["method=none"], "3.9 GiB"), (["table=table1"], "38.2 GiB"), (["method=none", "limit=100"], "100 MiB")],
)
def test_results_grow_with_samples_and_methods_and_a_limit_bounds_them(overrides, needed, tmp_path, planned, examine):
    run = planned(f"results={tmp_path}", *overrides)
    run.data = [BenchmarkSample(Benchmark("A", "a"), 10**6, [])]
    assert f"about {needed} needed" in examine(disk, run)[0].sentence
