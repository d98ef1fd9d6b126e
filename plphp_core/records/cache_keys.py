"""What content keys are made of: two samples share a key exactly when their answers must be the same.

`docs/fidelity.md`, "What identifies an answer", goes through all that can change an answer and says of each whether it
is in the key, and why not where it is not. An image is identified by data revision and sample number, so that an
answered sample is recognised without decoding it; the line itself carries a hash of the pixels. The benchmark's
protocol is part of the task's name and prompt.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from typing import Any

from plphp_core.config.run_settings import ModelSettings
from plphp_core.families import get_family
from plphp_core.records.record import digest
from plphp_core.records.source_code import hashes, hashes_of_functions, own_package, short_hash

# Of the harness, what answers; of the rest of `plphp_core`, whatever these modules and the family import.
HARNESS = ("encoding", "generation", "loading", "options", "requests")
ANSWERING = tuple(f"plphp_core.evaluation.{name}" for name in HARNESS)
HARNESS_PACKAGES = ("config", "evaluation", "records")
# Compute prompts, pixels and answers. lmms-eval's part in answers is the prompt's text, which is in every sample's key.
LIBRARIES = ("torch", "torchvision", "transformers", "tokenizers", "pillow")

REEXPORTING = ("plphp_core", "plphp_core.pruning")  # packages that hold nothing of their own
CODE = ("answering_code", "method_code", "task_code")  # parts of an identity: file → hash
SCORING = {"process_results", "metric_list", "filter_list", "doc_to_target"}
# of a task's configuration: where it and its data lie, and what keys hold by name
IN_KEYS = {"task", "task_alias", "tag", "group", "include", "dataset_path", "dataset_kwargs", "metadata"}
IN_KEYS |= {"generation_kwargs"}


def numerics(model: ModelSettings) -> dict[str, str]:
    """What decides how a model's arithmetic is carried out."""
    device = model.device.partition(":")[0]
    return {"dtype": model.dtype, "attention": model.attn_implementation, "device": device, "engine": model.engine}


def sample_key(cell: str, doc_id: int, context: str, generation: dict[str, Any]) -> str:
    """One sample of the cell with key `cell`."""
    return digest([cell, doc_id, context, generation])


def sample_keys(cell: str, requests: Mapping[int, Any], chosen: Iterable[int]) -> dict[int, str]:
    """doc_id → key, for the chosen ones of a task's requests (`evaluation.requests.Request`)."""
    return {row: sample_key(cell, row, requests[row].context, requests[row].generation) for row in chosen}


def library_versions() -> dict[str, str]:
    """Versions of the libraries that compute answers, without build tags such as +cu126; "none" where not installed."""
    return {name: installed(name) for name in LIBRARIES}


@functools.cache
def installed(library: str) -> str:
    """Version of one library."""
    try:
        return version(library).split("+")[0]
    except PackageNotFoundError:
        return "none"


@functools.cache
def answering_code(family: str) -> dict[str, str]:
    """File → hash, of the code that answers with this family under whatever method."""
    return hashes([*ANSWERING, type(get_family(family)).__module__], _answers)


@functools.cache
def method_code(cls: type) -> dict[str, str]:
    """File → hash, of a method's module, its base classes' and what they import from their own packages or the core.

    A method of another distribution than ours brings that one's name and version.
    """
    modules = [base.__module__ for base in cls.__mro__ if base is not object]
    tops = {module.partition(".")[0] for module in modules} - {"plphp_core"}
    own = own_package(tops)
    others = {one for top in tops for one in packages_distributions().get(top, ()) if one != "plphp"}
    versions = {one: installed(one) for one in sorted(others)}
    return hashes(modules, lambda other: own(other) or _answers(other)) | versions


def task_code(config: Mapping[str, Any], folder: Path, scoring: bool) -> dict[str, str]:
    """File → hash of the functions that a task's configuration names, and "task file" → hash of what else it says.

    What is in keys anyway is left out, and where the data lie: moving them changes nothing.

    Args:
        config: of lmms-eval.
        folder: of the task files.
        scoring: True: what scores answers; False: what chooses, asks and shows.
    """
    chosen = {name: value for name, value in config.items() if (name in SCORING) == scoring and name not in IN_KEYS}
    functions: list[Callable[..., object]] = []
    words = json.dumps(_named(chosen, functions), sort_keys=True, ensure_ascii=False)
    return {"task file": short_hash(words.encode()), **hashes_of_functions(functions, folder)}


def metrics_code(paths: Iterable[str]) -> dict[str, str]:
    """The same of extra metrics, dotted paths of functions."""
    modules = [path.rpartition(".")[0] for path in paths]
    return hashes(modules, own_package(module.partition(".")[0] for module in modules))


def _named(value: Any, functions: list[Callable[..., object]]) -> Any:
    """As plain data: a function is its name, and is noted in `functions`."""
    if isinstance(value, dict):
        return {str(key): _named(item, functions) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_named(item, functions) for item in value]
    if callable(value):
        functions.append(value)
        return getattr(value, "__qualname__", type(value).__name__)
    return value if isinstance(value, (str, int, float, bool, type(None))) else type(value).__name__


def _answers(module: str) -> bool:
    """Whether a module that answering imports is part of it: not the harness around it, nor what only re-exports."""
    parts = module.split(".")
    if parts[0] != "plphp_core" or module in REEXPORTING:
        return False
    return parts[1] not in HARNESS_PACKAGES or module in ANSWERING
