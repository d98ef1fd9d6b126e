"""What a metric says beyond its value: per-sample scores, groups and sub-sets, for intervals and sub-set columns."""

import functools
from collections.abc import Callable
from typing import Any, Literal, TypedDict

Kind = Literal["mean", "group_mean", "corpus"]


class Subset(TypedDict):
    value: float
    n: int


class Detail(TypedDict):
    """Scores are fractions.

    kind says how `value` follows from `samples`: their mean; the unweighted mean of the means of `groups`; or a metric
    of the corpus as a whole, for which the samples are its per-sample scores.
    """

    value: float
    kind: Kind
    samples: list[float]  # one per item, same order
    groups: list[str] | None  # one per item
    subsets: dict[str, Subset]


def aggregation(detail: Callable[[list[dict]], Detail]) -> Callable[[list[dict]], float]:
    """Make an lmms-eval aggregation (items -> value) of a function items -> Detail, which it keeps as `.detail`."""

    @functools.wraps(detail)
    def value(items: list[dict]) -> float:
        return detail(items)["value"]

    value.__annotations__ = {"items": list[dict], "return": float}
    value.detail = detail
    return value


def mean(scores: list[float]) -> float:
    """Arithmetic mean; NaN of nothing."""
    return sum(scores) / len(scores) if scores else float("nan")


def by_sub_task(items: list[dict[str, Any]], kind: Literal["mean", "group_mean"]) -> Detail:
    """Detail of items {"score", "sub_task"}, the sub-tasks in order of appearance.

    "mean" averages samples, "group_mean" averages the means of the sub-tasks, each counting once.
    """
    groups = [item["sub_task"] for item in items]
    samples = [float(item["score"]) for item in items]
    scores: dict[str, list[float]] = {}
    for group, score in zip(groups, samples, strict=True):
        scores.setdefault(group, []).append(score)
    subsets = {group: Subset(value=mean(found), n=len(found)) for group, found in scores.items()}
    value = mean(samples) if kind == "mean" else mean([subset["value"] for subset in subsets.values()])
    return Detail(value=value, kind=kind, samples=samples, groups=groups, subsets=subsets)
