"""Which runs can share a model, its prefills and its cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from plphp_core.evaluation.settings import Settings

Run = tuple[Settings, dict]  # and its resolved configuration


def together(runs: Sequence[Run]) -> list[list[Run]]:
    """Group runs that agree in their `shared_settings`, in order of first appearance."""
    groups: list[tuple[Settings, list[Run]]] = []
    for settings, config in runs:
        shared = shared_settings(settings)
        group = next((group for known, group in groups if known == shared), None)
        if group is None:
            groups.append((shared, group := []))
        group.append((settings, config))
    return [group for _, group in groups]


def shared_settings(settings: Settings) -> Settings:
    """Without what the runs of a group may differ in: methods, benchmarks, and the table they belong to."""
    return replace(settings, methods=(), benchmarks=(), table=None, skipped=(), refused=())
