"""What Figures 1 and 2 share: which attention results they show, and what is said of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from plphp_core.analysis.results import NothingToShow
from plphp_core.records.attention_result import AttentionResult
from plphp_core.reporting import notes
from plphp_core.reporting.configured import benchmarks_configured
from plphp_core.reporting.request import ReportRequest, joined


def chosen(asked: ReportRequest) -> tuple[dict[str, list[AttentionResult]], str]:
    """The results of each model, and what files' names say of the choice. Raises NothingToShow."""
    alone = asked.options.table in ("figure1", "figure2")  # `all` chooses models and benchmarks of tables
    names = [name for name in asked.options.models.strip("[]").split(",") if name] if alone else []
    tasks = asked.options.tasks if alone else None
    labels = benchmarks_configured(tasks) if tasks else []
    found = {
        model: own
        for model, parts in asked.attention().items()
        if (not names or model in names) and (own := [one for one in parts if not labels or one.benchmark in labels])
    }
    if not found:
        raise NothingToShow(f"no attention has been read; make reproduce-figure1 PROFILE={asked.profile}")
    variant = (f".models={'+'.join(names)}" if names else "") + (f".tasks={joined(tasks)}" if tasks else "")
    for name in ("protocol", "prompts"):
        kinds = {getattr(one, name) for parts in found.values() for one in parts}
        variant += "".join(f".{name}={kind}" for kind in sorted(kinds) if kind != "lmms_eval")
    limit = asked.filters.limit
    return found, variant + (f".limit={limit}" if limit not in (None, "full") else "")


def conditions(models: Mapping[str, Sequence[AttentionResult]], profile: str) -> list[str]:
    """What was read, of which weights, on what: a sentence per model."""
    found = [notes.profile(profile, several=True)]
    for parts in models.values():
        one = parts[0]
        names = ", ".join(f"{part.benchmark} {part.n} of {part.population}" for part in parts)
        failed = sum(part.errors for part in parts)
        said = f" {failed} more could not be read." if failed else ""
        found.append(f"{notes.weights(one.title, one)}, on {one.hardware}. Seeded random samples: {names}.{said}")
    return found


GAMMA = (
    "γ (equation 8): attention of the last prompt token on all vision tokens, mean over query heads, in fp32 beside "
    "the model's own SDPA or FlashAttention; nothing is pruned. Layers count from 1, as in the paper."
)


def layer_ticks(layers: int) -> list[int]:
    """Which layers an axis names."""
    return list(range(1, layers + 1, max(1, round(layers / 7))))
