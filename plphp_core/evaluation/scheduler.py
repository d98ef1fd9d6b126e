"""The scheduler: which runs share a model, its prefills and its cells, and one such group after the other."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

from plphp_core.config.run_settings import Settings
from plphp_core.evaluation.distributed import say
from plphp_core.evaluation.run_status import FAILED, USAGE
from plphp_core.records.errors import UserError

Run = tuple[Settings, dict]  # and its resolved configuration
T = TypeVar("T")


def distinct(items: Iterable[T]) -> tuple[T, ...]:
    """Each item once, in order of first appearance; they need not be hashable."""
    found: list[T] = []
    for item in items:
        if item not in found:
            found.append(item)
    return tuple(found)


def group_runs(runs: Sequence[Run]) -> list[list[Run]]:
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


def run_groups(groups: Sequence[Sequence[Run]], run: Callable[[Sequence[Run]], int]) -> int:
    """Carry out groups of runs (`group_runs`); one that fails costs the others nothing.

    Returns:
        exit code: 0 all finished; 1 some samples, cells or groups failed; 2 every group was refused; 128 and more:
        interrupted, and the groups after that one were not begun.
    Raises:
        UserError: the only group was refused.
    """
    codes, failed = [], {}
    names = labels(groups)
    for number, (name, group) in enumerate(zip(names, groups, strict=True), start=1):
        if len(groups) > 1:
            say(f"group {number} of {len(groups)}: {name}")
        for settings, _ in group:
            if settings.skipped:
                left_out = f"{settings.table} leaves out {', '.join(settings.skipped)}"
                say(f"{settings.model.name}: {left_out}; table.skip=[] runs it too")
        group = [one for one in group if one[0].benchmarks]
        if not group:
            continue
        if len(groups) == 1:
            return run(group)
        try:
            codes.append(run(group))
        except UserError as error:
            failed[name] = str(error)
        except Exception as error:  # a night's run must not lose the groups that would work
            traceback.print_exc()
            failed[name] = f"{type(error).__name__}: {error}"
            codes.append(FAILED)
        if name in failed:
            say(f"error: {name}: {failed[name]}")
        elif codes[-1] >= 128:
            return codes[-1]
    for name, reason in failed.items():  # again: what was said above may have scrolled away hours ago
        say(f"failed: {name} was not run to its end: {reason}")
    if failed and not codes:
        return USAGE
    return max([*codes, FAILED if failed else 0])


def labels(groups: Sequence[Sequence[Run]]) -> list[str]:
    """A name for each group: its model, and where that is not enough, what it does not share with all others."""
    firsts = [_plain(group[0][0]) for group in groups]
    differing = {key for one in firsts for key in one if any(other[key] != one[key] for other in firsts)}
    models = [one["name"] for one in firsts]
    if len(set(models)) == len(models):
        return models
    extra = sorted(differing - {"name"})
    return [", ".join([one["name"], *(f"{key}={one[key]}" for key in extra)]) for one in firsts]


def _plain(settings: Settings) -> dict:
    """What the runs of a group share, the model's settings among the others."""
    whole = shared_settings(settings).as_dict()
    return whole | whole.pop("model")
