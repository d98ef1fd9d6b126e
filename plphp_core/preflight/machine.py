"""This machine: Python and packages, the device, its arithmetic and the chosen attention."""

from __future__ import annotations

import importlib
import platform
from importlib.metadata import PackageNotFoundError, metadata, requires, version

import torch
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from plphp_core.preflight.checks import CheckFailed, Findings, PlannedRun, check, failing, reason
from plphp_core.pruning.method import broken_modules
from plphp_core.records.host import cpu_name, driver_version

SHOWN = ("torch", "transformers", "lmms-eval", "datasets")
NATIVE_BF16 = (8, 0)  # compute capability from which the hardware computes in bfloat16


@check("Packages")
def packages(run: PlannedRun) -> Findings:
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
        yield CheckFailed(f"{'; '.join(problems)}; `make setup`")
    else:
        yield ", ".join([f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in SHOWN)])
    for name, cause in broken_modules().items():
        yield f"the methods in {name} cannot be used: {cause}; all others can"


@check("Device")
def device(run: PlannedRun) -> Findings:
    """The device is there, multiplies matrices in the chosen dtype."""
    model, where = run.settings.model, torch.device(run.settings.model.device)
    name = f"{cpu_name()}, {torch.get_num_threads()} threads"
    if where.type == "cuda":
        name = _gpu(where)
        if model.dtype == "bfloat16" and torch.cuda.get_device_capability(where) < NATIVE_BF16:
            name += ", which emulates bfloat16 slowly (dtype=float16 may overflow)"
    if model.attn_implementation == "eager":
        raise CheckFailed("eager attention is numerically wrong for Qwen2 in bfloat16: attn_implementation=sdpa")
    square = torch.ones(64, 64, dtype=run.dtype)
    with failing(f"{name} cannot multiply matrices in {model.dtype}", "choose another dtype=…, or torch build"):
        finite = bool((square.to(where) @ square.to(where)).isfinite().all())
    if not finite:
        raise CheckFailed(f"{name}: a product in {model.dtype} is not finite: the device or its driver is faulty")
    yield f"{name}, {model.dtype}, {model.attn_implementation}"


def _gpu(where: torch.device) -> str:
    """What it is. Raises CheckFailed if CUDA cannot be used."""
    on_cpu = "without a GPU: profile=toy, or device=cpu dtype=float32"
    if torch.version.cuda is None:
        raise CheckFailed(
            f"torch {torch.__version__} is built without CUDA: `make setup TORCH_BACKEND=cu128`; {on_cpu}"
        )
    driver, built = driver_version(), f"torch is built for CUDA {torch.version.cuda}"
    if not torch.cuda.is_available():
        found = f"driver {driver}, {built}; `make setup TORCH_BACKEND=cu126`" if driver else "no NVIDIA driver answers"
        raise CheckFailed(f"no usable CUDA device: {found}; {on_cpu}")
    if (where.index or 0) >= torch.cuda.device_count():
        raise CheckFailed(f"no device {where}: there are {torch.cuda.device_count()}, from cuda:0 on")
    capability = ".".join(map(str, torch.cuda.get_device_capability(where)))
    return f"{torch.cuda.get_device_name(where)}, capability {capability}, driver {driver or 'unknown'}, {built}"
