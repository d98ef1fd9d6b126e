"""This machine: Python and packages, the device and its arithmetic, the chosen attention, and the way to the hub."""

from __future__ import annotations

import importlib
import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from pathlib import Path

import torch
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from plphp_core.preflight.checks import CheckResult, PlannedRun, check, failed, failing, passed, reason, skipped
from plphp_core.pruning.method import broken_modules
from plphp_core.records.host import cpu_name, driver_version

SHOWN = ("torch", "transformers", "lmms-eval", "datasets")
NATIVE_BF16 = (8, 0)  # compute capability from which the hardware computes in bfloat16
PATIENCE = 10.0  # seconds for the hub to answer


@check("Packages")
def packages(run: PlannedRun) -> Iterator[CheckResult]:
    """Versions within the ranges of the installed package, and packages that import."""
    with failing("plphp is not installed in this environment", "`make setup`, or `pip install -e .[eval]`"):
        python = metadata("plphp")["Requires-Python"] or ""
        every = [Requirement(line) for line in requires("plphp") or ()]
    problems = []
    if not SpecifierSet(python).contains(platform.python_version(), prereleases=True):
        problems.append(f"Python {platform.python_version()}, but {python} is needed")
    for wanted in every:
        if wanted.marker is None or wanted.marker.evaluate({"extra": "eval"}):
            try:
                found = version(wanted.name)
            except PackageNotFoundError:
                problems.append(f"{wanted.name} is not installed, but {wanted.name}{wanted.specifier} is needed")
                continue
            if not wanted.specifier.contains(found, prereleases=True):
                problems.append(f"{wanted.name} {found}, but {wanted.specifier} is needed")
    for name in ("torchvision", "transformers"):
        try:
            importlib.import_module(name)
        except Exception as error:  # a torchvision built for another torch raises RuntimeError
            problems.append(f"{name} cannot be imported: {reason(error)}")
    if problems:
        yield failed("; ".join(problems), "`make setup`; torch and torchvision must be of one build (CPU or CUDA)")
    else:
        yield passed(", ".join([f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in SHOWN)]))
    for name, cause in broken_modules().items():
        yield skipped(f"the methods in {name} cannot be used: {cause}; all others can")


@check("Device")
def device(run: PlannedRun) -> Iterator[CheckResult]:
    """The device is there and multiplies matrices in the chosen dtype."""
    dtype, where = run.settings.model.dtype, torch.device(run.settings.model.device)
    name = f"{cpu_name()}, {torch.get_num_threads()} threads"
    if where.type == "cuda":
        if problem := _no_cuda(where):
            yield problem
            return
        capability = torch.cuda.get_device_capability(where)
        name = f"{torch.cuda.get_device_name(where)}, capability {'.'.join(map(str, capability))}"
        name += f", driver {driver_version() or 'unknown'}, CUDA {torch.version.cuda}"
        if dtype == "bfloat16" and capability < NATIVE_BF16:
            name += ", which emulates bfloat16 slowly (dtype=float16 may overflow)"
    square = torch.ones(64, 64, dtype=run.dtype)
    remedy = "choose another dtype=…, or install the torch build of this GPU and driver: `make setup TORCH_BACKEND=…`"
    with failing(f"{name} cannot multiply matrices in {dtype}", remedy):
        finite = bool((square.to(where) @ square.to(where)).isfinite().all())
    if finite:
        yield passed(f"{name}, {dtype}")
    else:
        yield failed(f"{name}: a product in {dtype} is not finite", "the device or its driver is faulty")


def _no_cuda(where: torch.device) -> CheckResult | None:
    """Why CUDA cannot be used; None if it can."""
    on_cpu = "without a GPU: profile=toy, or device=cpu dtype=float32"
    if torch.version.cuda is None:
        return failed(f"torch {torch.__version__} is built without CUDA", f"`make setup TORCH_BACKEND=cu128`; {on_cpu}")
    if not torch.cuda.is_available():
        driver = driver_version()
        found = (
            f"driver {driver}, torch is built for CUDA {torch.version.cuda}" if driver else "no NVIDIA driver answers"
        )
        return failed(
            f"no usable CUDA device: {found}",
            f"see `nvidia-smi`, CUDA_VISIBLE_DEVICES; an old driver wants `make setup TORCH_BACKEND=cu126`; {on_cpu}",
        )
    count = torch.cuda.device_count()
    if (where.index or 0) >= count:
        return failed(f"no device {where}: there are {count}", f"device=cuda:0 … cuda:{count - 1}")
    return None


@check("Attention")
def attention(run: PlannedRun) -> Iterator[CheckResult]:
    """The chosen attention kernel is available for the device and dtype."""
    from transformers.utils import is_flash_attn_2_available, is_flash_attn_3_available

    model, kind = run.settings.model, run.settings.model.attn_implementation
    problem = ""
    if kind == "eager":
        problem = "eager attention holds S × S matrices, and is numerically wrong for Qwen2 in bfloat16"
    elif kind.startswith("flash"):
        available = is_flash_attn_2_available if kind == "flash_attention_2" else is_flash_attn_3_available
        if not model.device.startswith("cuda"):
            problem = f"{kind} runs on GPUs only, the device is {model.device}"
        elif model.dtype == "float32":
            problem = f"{kind} has no float32"
        elif not available():
            problem = f"{kind}: transformers cannot import its package, or it does not support this GPU"
    yield failed(problem, "attn_implementation=sdpa, which is part of torch") if problem else passed(kind)


@check("Hub")
def hub(run: PlannedRun) -> Iterator[CheckResult]:
    """Whether the Hugging Face hub answers. If not, the libraries go offline, so that no later check waits for it."""
    import datasets.config
    from huggingface_hub import constants, get_session

    settings = run.settings
    if constants.HF_HUB_OFFLINE:
        yield skipped("offline (HF_HUB_OFFLINE=1, or a profile's choice): only what is on this machine counts")
    elif Path(settings.model.checkpoint).is_dir() and settings.data_root is not None:
        yield skipped("not needed: checkpoint and data are local folders")
    else:
        try:
            get_session().head(constants.ENDPOINT, timeout=PATIENCE)  # any answer counts, an error's too
        except Exception as error:  # the HTTP client's own classes, which differ between releases
            constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = datasets.config.HF_DATASETS_OFFLINE = True
            yield skipped(
                f"{constants.ENDPOINT} cannot be reached ({type(error).__name__}: {reason(error)}); the checks below "
                "look at this machine alone. See the network, HTTPS_PROXY and HF_ENDPOINT, or set HF_HUB_OFFLINE=1"
            )
        else:
            yield passed(f"{constants.ENDPOINT} answers")
