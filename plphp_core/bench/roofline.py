"""The roofline of decoding: every weight and every key and value read once, at the memory's speed."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import transformers

from plphp_core.decoding.device import synchronise
from plphp_core.records.host import cpu_name, nvidia_smi

# Bytes per second from the makers' data sheets, by a part of the device's name; the first match counts.
NOMINAL = (
    ("B200", 8.0e12),
    ("GH200", 4.0e12),
    ("H200", 4.8e12),
    ("H100 PCIe", 2.0e12),
    ("H100 NVL", 3.9e12),
    ("H100", 3.35e12),
    ("A100-SXM4-80GB", 2.039e12),
    ("A100 80GB PCIe", 1.935e12),
    ("A100", 1.555e12),
    ("L40S", 0.864e12),
    ("L40", 0.864e12),
    ("L4", 0.3e12),
    ("A40", 0.696e12),
    ("A10", 0.6e12),
    ("RTX 4090", 1.008e12),
    ("RTX 3090", 0.936e12),
    ("V100", 0.9e12),
    ("T4", 0.32e12),
)
CLOCKS = ("driver_version", "clocks.sm", "clocks.max.sm", "clocks.mem", "power.limit")


def nominal_bandwidth(device_name: str) -> float | None:
    """Bytes per second of this device's memory by its data sheet; None if it is not in the table (all CPUs)."""
    return next((speed for part, speed in NOMINAL if part in device_name), None)


def kv_bytes(lengths: Sequence[Sequence[int]], slot_bytes: int) -> int:
    """Bytes of keys and values: `lengths[layer][sample]` tokens of `slot_bytes` each."""
    return slot_bytes * sum(sum(layer) for layer in lengths)


def roofline_ms(weight_bytes: int, cache_bytes: int, bandwidth: float) -> float:
    """Milliseconds to read weights and cache once at `bandwidth` bytes per second."""
    return (weight_bytes + cache_bytes) / bandwidth * 1e3


def measured_bandwidth(device: str, nbytes: int, repeats: int) -> dict[str, float]:
    """Bytes per second of a copy (read and written bytes counted) and of a read (a sum), each the best of `repeats`.

    Args:
        nbytes: size of what is read; must be far larger than any cache.
    """
    source = torch.ones(nbytes // 4, dtype=torch.float32, device=device)
    target = torch.empty_like(source)
    found = {}
    for name, call, moved in (
        ("copy", lambda: target.copy_(source), 2 * nbytes),
        ("read", lambda: source.sum(), nbytes),
    ):
        best = float("inf")
        for _ in range(repeats + 1):
            synchronise(device)
            began = time.perf_counter()
            call()
            synchronise(device)
            best = min(best, time.perf_counter() - began)
        found[name] = moved / best
    return found


@dataclass(frozen=True)
class MeasuredMachine:
    """What the numbers were measured on. Bandwidths in bytes per second.

    Attributes:
        nominal: by the data sheet; None where the device is not known.
        measured: the better of a copy and a read, see `measured_bandwidth`.
        notes: clocks, driver, threads, versions.
    """

    name: str
    nominal: float | None
    measured: float
    notes: dict[str, str]

    @property
    def bandwidth(self) -> float:
        """That of the roofline."""
        return self.nominal or self.measured

    @property
    def memory(self) -> str:
        """Its memory's speed, for a page."""
        nominal = f"{self.nominal / 1e9:.0f} GB/s" if self.nominal else "n/a"
        return f"nominal {nominal}, measured {self.measured / 1e9:.1f} GB/s"

    @property
    def facts(self) -> str:
        """The notes, for a page."""
        return ", ".join(f"{name} {value}" for name, value in self.notes.items())


def measure_machine(device: str, dtype: str, bandwidth_mb: int) -> MeasuredMachine:
    """Name the device and measure its memory."""
    speeds = measured_bandwidth(device, bandwidth_mb * 2**20, repeats=5)
    notes = {"dtype": dtype, "torch": torch.__version__, "transformers": transformers.__version__}
    notes |= {name: f"{speed / 1e9:.1f} GB/s" for name, speed in speeds.items()}
    if device.startswith("cuda"):
        name = torch.cuda.get_device_name()
        notes |= nvidia_smi(CLOCKS) or {"nvidia-smi": "not available"}
    else:
        name = f"{cpu_name()} {os.cpu_count()} cores"
        policy = os.environ.get("OMP_WAIT_POLICY", "")
        notes["threads"] = f"{torch.get_num_threads()}{f' waiting {policy.lower()}ly' if policy else ''}"
        notes["load before"] = " ".join(f"{value:.2f}" for value in os.getloadavg())
    return MeasuredMachine(name, nominal_bandwidth(name), max(speeds.values()), notes)
