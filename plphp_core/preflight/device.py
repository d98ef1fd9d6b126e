"""The device, its arithmetic in the chosen dtype, and the chosen attention."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator

import torch

from plphp_core.preflight.case import Case
from plphp_core.preflight.check import Finding, check, failed, first_line, ok, warning

NATIVE_BF16 = (8, 0)  # compute capability from which bfloat16 is computed by hardware


@check("Device")
def device(case: Case) -> Iterator[Finding]:
    model = case.settings.model
    where = torch.device(model.device)
    if where.type == "cuda":
        if problem := _no_cuda(where):
            yield problem
            return
        capability = torch.cuda.get_device_capability(where)
        driver = _driver()
        name = f"{torch.cuda.get_device_name(where)}, capability {capability[0]}.{capability[1]}"
        name += f", driver {driver}" if driver else ""
        name += f", CUDA {torch.version.cuda}"
        if model.dtype == "bfloat16" and capability < NATIVE_BF16:
            yield warning(
                f"{name}: bfloat16 is emulated below capability 8.0, slowly",
                "use an Ampere GPU or newer, or dtype=float16 (which may overflow: watch the check of samples)",
            )
    else:
        name = f"CPU, {os.cpu_count()} cores"
    try:
        finite = _multiplies(where, case.dtype)
    except (RuntimeError, NotImplementedError) as error:
        yield failed(
            f"{name} cannot multiply matrices in {model.dtype}: {first_line(error)}",
            "choose another dtype=…, or install the torch build of this GPU and driver: `make setup TORCH_BACKEND=…`",
        )
        return
    if not finite:
        yield failed(f"{name}: a product in {model.dtype} is not finite", "the device or its driver is faulty")
        return
    yield ok(f"{name}, {model.dtype}")


@check("Attention")
def attention(case: Case) -> Iterator[Finding]:
    from transformers.utils import is_flash_attn_2_available, is_flash_attn_3_available

    model = case.settings.model
    kind = model.attn_implementation
    if kind == "eager":
        yield failed(
            "eager attention holds S × S matrices, and is numerically wrong for Qwen2 in bfloat16",
            "attn_implementation=sdpa",
        )
    elif kind == "sdpa":
        yield ok("sdpa, part of torch")
    elif not model.device.startswith("cuda"):
        yield failed(f"{kind} runs on GPUs only, the device is {model.device}", "attn_implementation=sdpa")
    elif model.dtype == "float32":
        yield failed(f"{kind} has no float32", "dtype=bfloat16, or attn_implementation=sdpa")
    elif not (is_flash_attn_2_available() if kind == "flash_attention_2" else is_flash_attn_3_available()):
        package = "flash-attn" if kind == "flash_attention_2" else "flash-attn-3"
        yield failed(
            f"{kind}: transformers cannot import the package {package}, or it does not support this GPU",
            f"install {package} for this torch and CUDA, or attn_implementation=sdpa",
        )
    else:
        yield ok(kind)


def _no_cuda(where: torch.device) -> Finding | None:
    """Why CUDA cannot be used, or None."""
    on_cpu = "without a GPU: profile=toy, or device=cpu dtype=float32"
    if torch.version.cuda is None:
        return failed(
            f"torch {torch.__version__} is built without CUDA", f"`make setup TORCH_BACKEND=cu128` (or cu126); {on_cpu}"
        )
    if not torch.cuda.is_available():
        driver = _driver()
        if driver is None:
            return failed("no CUDA device: no NVIDIA driver answers", f"see that `nvidia-smi` lists a GPU; {on_cpu}")
        return failed(
            f"no usable CUDA device: driver {driver}, torch is built for CUDA {torch.version.cuda}",
            "if the driver is too old, `make setup TORCH_BACKEND=cu126` or update it; "
            f"is CUDA_VISIBLE_DEVICES empty?; {on_cpu}",
        )
    count = torch.cuda.device_count()
    if (where.index or 0) >= count:
        return failed(f"no device {where}: there are {count}", f"device=cuda:0 … cuda:{count - 1}")
    return None


def _driver() -> str | None:
    """Version of the NVIDIA driver; None if there is none."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    command = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip().splitlines()[0] if done.returncode == 0 and done.stdout.strip() else None


def _multiplies(where: torch.device, dtype: torch.dtype) -> bool:
    square = torch.ones(64, 64, device=where, dtype=dtype)
    return bool((square @ square).isfinite().all())
