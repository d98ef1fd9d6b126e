"""What the numbers were measured on."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers

from plphp_core.bench.roofline import measured_bandwidth, nominal_bandwidth


@dataclass(frozen=True)
class Machine:
    """Device, software and memory speed. Bandwidths in bytes per second.

    Attributes:
        measured: the better of a copy and a read, see `measured_bandwidth`.
        notes: clocks, driver, threads, versions.
    """

    name: str
    nominal: float | None
    measured: float
    notes: dict[str, str]

    @property
    def slug(self) -> str:
        """The name as part of a file's name."""
        kept = "".join(letter if letter.isalnum() else "-" for letter in self.name.lower())
        return "-".join(part for part in kept.split("-") if part)


def look_at(device: str, dtype: str, bandwidth_mb: int) -> Machine:
    """Name the device and measure its memory."""
    speeds = measured_bandwidth(device, bandwidth_mb * 2**20, repeats=5)
    notes = {
        "dtype": dtype,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "copy": f"{speeds['copy'] / 1e9:.1f} GB/s",
        "read": f"{speeds['read'] / 1e9:.1f} GB/s",
    }
    if device.startswith("cuda"):
        name = torch.cuda.get_device_name()
        notes |= _nvidia()
    else:
        name = _cpu_name()
        notes |= {"threads": _threads(), "load before": load()}
    return Machine(name, nominal_bandwidth(name), max(speeds.values()), notes)


def _threads() -> str:
    policy = os.environ.get("OMP_WAIT_POLICY", "")
    return f"{torch.get_num_threads()}{' waiting ' + policy.lower() + 'ly' if policy else ''}"


def load() -> str:
    """The machine's load averages; anything beside this run makes its numbers worse."""
    return " ".join(f"{value:.2f}" for value in os.getloadavg())


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return f"{line.split(':', 1)[1].strip()} {os.cpu_count()} cores"
    except OSError:
        pass
    return f"{platform.processor() or platform.machine()} {os.cpu_count()} cores"


def _nvidia() -> dict[str, str]:
    fields = ("driver_version", "clocks.sm", "clocks.max.sm", "clocks.mem", "power.limit")
    command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader", "-i", "0"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return {"nvidia-smi": "not available"}
    return dict(zip(fields, (part.strip() for part in answer.strip().split(",")), strict=False))
