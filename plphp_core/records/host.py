"""The machine that this process runs on: processor, memory, NVIDIA GPUs and their driver."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

CONTROL_GROUP = Path("/sys/fs/cgroup")  # version 2: the limits of the container that this process may run in


def hardware() -> dict[str, object]:
    """Processor, memory, GPUs and driver, as a manifest records them."""
    import psutil  # here, since scripts/gpu_check.py runs without it
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return {
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "gpus": [torch.cuda.get_device_name(index) for index in range(count)],
        "cuda": torch.version.cuda,
        "driver": driver_version(),
        "torch_threads": torch.get_num_threads(),
    }


def device_name(device: str) -> str:
    """The model name of a torch device, such as "NVIDIA H200" for "cuda:0"."""
    import torch

    return torch.cuda.get_device_name(torch.device(device)) if device.startswith("cuda") else cpu_name()


def cpu_name() -> str:
    """The processor's model name."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    match = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return match[1].strip() if match else platform.processor() or platform.machine()


def available_ram() -> int:
    """Bytes of RAM that this process can still allocate, within the limit of its container if it has one."""
    import psutil

    available = psutil.virtual_memory().available
    try:
        limit = int((CONTROL_GROUP / "memory.max").read_text())
        used = int((CONTROL_GROUP / "memory.current").read_text())
    except (OSError, ValueError):  # no control group of version 2, or "max": no limit
        return available
    return min(available, limit - used)


def driver_version() -> str | None:
    """Version of the NVIDIA driver; None if there is none."""
    return nvidia_smi(["driver_version"]).get("driver_version")


def nvidia_smi(fields: Iterable[str], gpu: int = 0) -> dict[str, str]:
    """What `nvidia-smi` says of a GPU: field of `--query-gpu` → value; empty where it does not answer."""
    fields = list(fields)
    command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader", f"--id={gpu}"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    return dict(zip(fields, (value.strip() for value in answer.strip().split(",")), strict=False))
