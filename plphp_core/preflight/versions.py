"""Python and packages against the ranges of pyproject.toml."""

from __future__ import annotations

import importlib
import platform
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from plphp_core.preflight.case import Case
from plphp_core.preflight.check import Finding, check, failed, first_line, ok, warning
from plphp_core.pruning.method import broken_modules

SHOWN = ("torch", "transformers", "lmms-eval", "datasets")


@check("Python, packages")
def packages(case: Case) -> Iterator[Finding]:
    python, requirements = _wanted(case.settings.root)
    if not SpecifierSet(python).contains(platform.python_version(), prereleases=True):
        yield failed(
            f"Python {platform.python_version()}, but {python} is needed",
            "make the environment with such a Python: `rm -rf .venv && make setup`",
        )
    for requirement in requirements:
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            yield failed(f"{requirement.name} is not installed, but {requirement} is needed", _install(requirement))
            continue
        if not requirement.specifier.contains(found, prereleases=True):
            yield failed(f"{requirement.name} {found}, but {requirement} is needed", _install(requirement))
    for name in ("torch", "torchvision", "transformers"):
        try:
            importlib.import_module(name)
        except Exception as error:  # a torchvision built for another torch raises RuntimeError
            yield failed(
                f"{name} cannot be imported: {first_line(error)}",
                "torch and torchvision must be of one build (both CPU or both CUDA): `make setup`, or reinstall both",
            )
    for name, cause in broken_modules().items():
        yield warning(f"the methods in {name} cannot be used: {cause}", "mend that module; the others are not touched")
    shown = [f"{name} {version(name)}" for name in SHOWN if _installed(name)]
    yield ok(", ".join([f"Python {platform.python_version()}", *shown]))


def _wanted(root: Path) -> tuple[str, list[Requirement]]:
    """Python's range and the packages that a run needs, from the checkout or else from the installed package."""
    file = root / "pyproject.toml"
    if file.is_file():
        project = tomllib.loads(file.read_text(encoding="utf-8"))["project"]
        lines = [*project["dependencies"], *project["optional-dependencies"]["eval"]]
        return project["requires-python"], [Requirement(line) for line in lines]
    every = [Requirement(line) for line in requires("plphp") or ()]
    wanted = [one for one in every if one.marker is None or one.marker.evaluate({"extra": "eval"})]
    return metadata("plphp").get("Requires-Python") or "", wanted


def _installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def _install(requirement: Requirement) -> str:
    return f"`make setup`, or `pip install '{requirement}'` in the environment in use"
