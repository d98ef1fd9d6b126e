"""What a task file says and names, as hashes: what asks and shows apart from what scores."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from plphp_core.records.source_code import hashes, hashes_of_functions, own_package, short_hash

SCORING = {"process_results", "metric_list", "filter_list", "doc_to_target"}
# of a task's configuration: where it and its data lie, and what keys hold by name
IN_KEYS = {"task", "task_alias", "tag", "group", "include", "dataset_path", "dataset_kwargs", "metadata"}
IN_KEYS |= {"generation_kwargs"}


def task_code(config: dict, folder: Path, scoring: bool) -> dict[str, str]:
    """File → hash of the functions that a task's configuration names, and "task file" → hash of what else it says.

    What is in keys anyway is left out, and where the data lie: moving them changes nothing.

    Args:
        config: of lmms-eval.
        folder: of the task files.
        scoring: True: what scores answers; False: what chooses, asks and shows.
    """
    chosen = {name: value for name, value in config.items() if (name in SCORING) == scoring and name not in IN_KEYS}
    functions: list[Callable] = []
    words = json.dumps(_named(chosen, functions), sort_keys=True, ensure_ascii=False)
    return {"task file": short_hash(words.encode()), **hashes_of_functions(functions, folder)}


def metrics_code(paths: Iterable[str]) -> dict[str, str]:
    """The same of extra metrics, dotted paths of functions."""
    modules = [path.rpartition(".")[0] for path in paths]
    return hashes(modules, own_package(module.partition(".")[0] for module in modules))


def _named(value: Any, functions: list[Callable]) -> Any:
    """As plain data: a function is its name, and is noted in `functions`."""
    if isinstance(value, dict):
        return {str(key): _named(item, functions) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_named(item, functions) for item in value]
    if callable(value):
        functions.append(value)
        return getattr(value, "__qualname__", type(value).__name__)
    return value if isinstance(value, (str, int, float, bool, type(None))) else type(value).__name__
