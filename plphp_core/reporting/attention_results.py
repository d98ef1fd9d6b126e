"""Attention readings (`scripts/attend.py`), as Figures 1 and 2 and claim C14 take them."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatch

from plphp_core.analysis.comparable import KEYS
from plphp_core.analysis.usual_kind import Choice, DtypeOf, usual_kind
from plphp_core.config.benchmark_catalogue import catalogue
from plphp_core.config.report_choices import ANY, Filters
from plphp_core.records.attention_result import AttentionResult
from plphp_core.records.errors import ReportError

MODELS = ("llava_onevision", "qwen2_vl", "idefics2", "mantis")  # as the paper orders them
CHOSEN = ("checkpoint", "revision", "dtype", "attn_implementation", "protocol", "prompts")  # by options of a report
FREE = Filters()


def by_model(readings: Sequence[AttentionResult], filters: Filters = FREE) -> dict[str, list[AttentionResult]]:
    """The readings of each model, in the paper's order of models and benchmarks; of several subsets of a benchmark the
    largest. What else is open has been chosen before (`usual_readings`).

    Raises ReportError, naming files, if those of a model are not of one checkpoint and precision, or not equally deep.
    """
    found: dict[str, dict[str, AttentionResult]] = {}
    for reading in sorted((one for one in readings if _fits(one, filters)), key=_order):
        parts = found.setdefault(reading.model, {})
        rival = parts.get(reading.benchmark)
        if rival is None or rival.n < reading.n:
            parts[reading.benchmark] = reading
        _alike([*parts.values(), *([rival] if rival else [])])
    return {model: list(parts.values()) for model, parts in found.items()}


def usual_readings(readings: Sequence[AttentionResult], filters: Filters, dtype_of: DtypeOf) -> Choice:
    """The readings of the usual protocol, prompts and dtype where nobody chose, by the rule of all reports.

    Of several subsets `by_model` takes the largest, benchmark by benchmark: to look at more samples changes no score.
    """
    leave = ("engine", "limit", "limit_seed")
    return usual_kind(readings, filters, dtype_of, lambda one: _fits(one, filters), leave, lambda benchmark: False)


def _fits(one: AttentionResult, filters: Filters) -> bool:
    seed = filters.limit_seed
    return (
        all(getattr(filters, name) in (None, getattr(one, name)) for name in CHOSEN)
        and filters.limit in (ANY, None, one.limit)  # a full run reads a subset too
        and (seed is None or one.limit is None or one.limit_seed == seed)
        and not any(fnmatch(one.path.name, pattern) for pattern in filters.exclude)
    )


def _alike(parts: Sequence[AttentionResult]) -> None:
    """See that readings of one model can stand beside each other."""
    files = ", ".join(one.path.name for one in parts)
    for name in CHOSEN:
        if len({getattr(one, name) for one in parts}) > 1:
            key = KEYS.get(name, name)
            raise ReportError(
                f"attention of {parts[0].model} was read with different {name}: {files}; choose with {key}=…"
            )
    if len({one.vision_attention.shape[1] for one in parts}) > 1:
        raise ReportError(f"{files}: differ in the number of layers; delete those that do not belong to the model")


def _order(reading: AttentionResult) -> tuple:
    models = (*MODELS, reading.model)
    return models.index(reading.model), reading.model, catalogue()[reading.benchmark].order, reading.benchmark
