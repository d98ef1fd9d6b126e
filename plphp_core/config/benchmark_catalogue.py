"""What tables know of the benchmarks: label, headline metrics, order and group, from `configs/tasks/*.yaml`."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from plphp_core.config.locations import config_folders


@dataclass(frozen=True)
class BenchmarkInfo:
    """One benchmark.

    Attributes:
        task: lmms-eval's name without the profile's prefix.
        metrics: headline metrics and their headings, in order; empty: every metric that cells have, by its own name.
        order: place among the benchmarks of a table; those without one come last, by label.
        group: "multi_image", "caption" or any other word; averages are given for each group.
        by_protocol: whether generation or scoring differ between protocols.
        scale: what scores are multiplied by in print.
    """

    label: str
    task: str = ""
    metrics: Mapping[str, str] = field(default_factory=dict)
    order: float = math.inf
    group: str = ""
    by_protocol: bool = False
    scale: float = 100.0


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

    def group(self, name: str, among: Iterable[str] | None = None) -> tuple[str, ...]:
        """The benchmarks of a group, of all or among these."""
        return tuple(label for label in (self.labels if among is None else among) if self[label].group == name)


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
    for path in (path for folder in configs for path in sorted((folder / "tasks").glob("*.yaml"))):
        try:
            for task, entry in yaml.safe_load(path.read_text(encoding="utf-8")).items():
                if task != "defaults":
                    fields: dict[str, Any] = dict(entry) if isinstance(entry, Mapping) else {"label": str(entry)}
                    one = BenchmarkInfo(task=task, **fields)
                    infos.setdefault(one.label, one)
        except (TypeError, AttributeError, yaml.YAMLError) as error:
            raise ValueError(f"{path}: describes no benchmark ({error}); see docs/add-a-task.md") from error
    return BenchmarkCatalogue(
        {one.label: one for one in sorted(infos.values(), key=lambda one: (one.order, one.label))}
    )
