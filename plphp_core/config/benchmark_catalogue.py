"""What is known of the benchmarks beyond lmms-eval's task files, from `configs/tasks/*.yaml`.

A file there may describe one benchmark or many; each can be chosen by its own name.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from plphp_core.config.locations import config_folders

SCALES = {"fraction": 100.0, "percent": 1.0, "sum": 1.0}


@dataclass(frozen=True)
class BenchmarkInfo:
    """One benchmark.

    Attributes:
        task: lmms-eval's name without the profile's prefix.
        metrics: headline metrics and their headings, in order; empty: every metric that cells have, by its own name.
        order: place among the benchmarks of a table; those without one come last, by label.
        group: "multi_image", "caption" or any other word; averages are given for each group.
        by_protocol: whether generation or scoring differ between protocols.
        scale: what scores are multiplied by in print. Files may say "fraction" (the default, × 100), "percent" or "sum"
            (both as they are) instead of a number.
        lower_is_better: whether less is better, of all its metrics.
        together: the column whose equal values belong together, perhaps with `% number` or `// number` behind it: such
            documents are drawn together, by a limit and by the bootstrap. Empty: each document stands alone.
        right: from which score on, of the first metric, an answer is right; None: answers are not right or wrong.
    """

    label: str
    task: str = ""
    metrics: Mapping[str, str] = field(default_factory=dict)
    order: float = math.inf
    group: str = ""
    by_protocol: bool = False
    scale: float = 100.0
    lower_is_better: bool = False
    together: str = ""
    right: float | None = None


@dataclass(frozen=True)
class BenchmarkCatalogue:
    """The benchmarks by label, in the order of tables. One that has no file is known by its label alone."""

    infos: Mapping[str, BenchmarkInfo]

    def __getitem__(self, label: str) -> BenchmarkInfo:
        return self.infos.get(label, BenchmarkInfo(label))

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(self.infos)

    def ordered(self, labels: Iterable[str]) -> list[str]:
        """`labels`, each once, in the order of tables."""
        return sorted(dict.fromkeys(labels), key=lambda label: (self[label].order, label))

    def label_of_task(self, task: str) -> str:
        """The label under which tables show a task; its own name where no file describes it."""
        return next((label for label, one in self.infos.items() if one.task == task), task)

    def knows_task(self, task: str) -> bool:
        return any(one.task == task for one in self.infos.values())

    def group(self, name: str, among: Iterable[str] | None = None) -> tuple[str, ...]:
        """The benchmarks of a group, of all or among these."""
        return tuple(label for label in (self.labels if among is None else among) if self[label].group == name)


def entries(*configs: Path) -> dict[str, Any]:
    """Task → what a file says of it, of all files in `tasks/` of these folders of configuration; the first one counts.

    Raises:
        ValueError: a file is no such description; the message names it.
    """
    found: dict[str, Any] = {}
    for path in (path for folder in configs for path in sorted((folder / "tasks").glob("*.yaml"))):
        try:
            for task, entry in yaml.safe_load(path.read_text(encoding="utf-8")).items():
                if task != "defaults":
                    _info(task, entry)
                    found.setdefault(task, entry)
        except (TypeError, ValueError, AttributeError, yaml.YAMLError) as error:
            raise ValueError(f"{path}: describes no benchmark ({error}); see docs/add-a-task.md") from error
    return found


def _info(task: str, entry: object) -> BenchmarkInfo:
    fields: dict[str, Any] = dict(entry) if isinstance(entry, Mapping) else {"label": str(entry)}
    scale = fields.get("scale", "fraction")
    if isinstance(scale, str) and scale not in SCALES:
        raise ValueError(f"scale {scale!r} of {task}; allowed: {', '.join(SCALES)} or a number")
    return BenchmarkInfo(task=task, **fields | {"scale": SCALES[scale] if isinstance(scale, str) else float(scale)})


def label_of(entry: object) -> str:
    """The label in an entry of `configs/tasks`, which may be nothing but the label."""
    return str(entry["label"]) if isinstance(entry, Mapping) else str(entry)


def catalogue(*configs: Path) -> BenchmarkCatalogue:
    """All benchmarks that `tasks/` in these folders of configuration describes; by default one's own and the packaged.

    Raises:
        ValueError: a file is no such description; the message names it.
    """
    return _read(configs or tuple(config_folders()))


@functools.cache
def _read(configs: tuple[Path, ...]) -> BenchmarkCatalogue:
    infos: dict[str, BenchmarkInfo] = {}
    for task, entry in entries(*configs).items():
        one = _info(task, entry)
        infos.setdefault(one.label, one)
    return BenchmarkCatalogue(
        {one.label: one for one in sorted(infos.values(), key=lambda one: (one.order, one.label))}
    )
