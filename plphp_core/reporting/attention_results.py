"""Attention readings (`scripts/attend.py`), as Figures 1 and 2 and claim C14 take them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import numpy as np

from plphp_core.analysis.comparable import Filters
from plphp_core.config.benchmark_catalogue import catalogue
from plphp_core.families import family_names, get_family
from plphp_core.records.errors import ReportError
from plphp_core.reporting.choice import Choice, DtypeOf, settle
from plphp_core.vision.spatial_groups import CUTS

SCHEMA = 1
MODELS = ("llava_onevision", "qwen2_vl", "idefics2", "mantis")  # as the paper orders them
TEXT = ("profile", "model", "family", "checkpoint", "revision", "dtype", "attn_implementation", "protocol", "prompts",
        "task", "benchmark", "hardware", "data_revision")  # fmt: skip
CHOSEN = ("checkpoint", "revision", "dtype", "attn_implementation", "protocol", "prompts")  # by options of a report
FREE = Filters()


@dataclass(frozen=True, eq=False)
class AttentionResult:
    """One model on one benchmark.

    Attributes:
        located: whether the family's tokens have places of their own.
        doc_ids: `(n,)`; errors: samples that could not be read; population: of the benchmark.
        vision_attention: γ, `(n, layers)`.
        groups: cut → share of γ in each spatial group and in none, `(n, layers, 6)`.
        group_tokens: cut → share of the vision tokens there, `(n, 6)`.
    """

    path: Path
    profile: str
    model: str
    family: str
    checkpoint: str
    revision: str
    dtype: str
    attn_implementation: str
    protocol: str
    prompts: str
    task: str
    benchmark: str
    hardware: str
    data_revision: str
    located: bool
    limit: int | None
    limit_seed: int
    population: int
    errors: int
    doc_ids: np.ndarray
    vision_attention: np.ndarray
    groups: dict[str, np.ndarray]
    group_tokens: dict[str, np.ndarray]

    @property
    def n(self) -> int:
        return len(self.doc_ids)

    @property
    def title(self) -> str:
        """The model as figures print it."""
        return get_family(self.model).title if self.model in family_names() else self.model


def load_readings(folder: Path) -> list[AttentionResult]:
    """Every result of attention readings in `folder` (`results/<profile>/attention`); none if there is no folder.

    Raises ReportError for the first file that is damaged or of another profile.
    """
    files = sorted(path for path in folder.glob("*.json") if ".doc=" not in path.name and path.name[0] != ".")
    found = [reading for reading in map(_load, files) if reading.n]
    for reading in found:
        if reading.profile != folder.parent.name:
            raise ReportError(f"{reading.path}: belongs to profile {reading.profile!r}")
    return found


def by_model(readings: Sequence[AttentionResult], filters: Filters = FREE) -> dict[str, list[AttentionResult]]:
    """The readings of each model, in the paper's order of models and benchmarks; of several subsets of a benchmark the
    largest. What else is open has been settled before (`settled`).

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


def settled(readings: Sequence[AttentionResult], filters: Filters, dtype_of: DtypeOf) -> Choice:
    """The readings of the usual protocol, prompts and dtype where nobody chose, by the rule of all reports.

    Of several subsets `by_model` takes the largest, benchmark by benchmark: to look at more samples changes no score.
    """
    leave = ("engine", "limit", "limit_seed")
    return settle(
        readings, filters, dtype_of, admits=lambda one: _fits(one, filters), leave=leave, alike=lambda benchmark: False
    )


def _fits(one: AttentionResult, filters: Filters) -> bool:
    limit = "full" if one.limit is None else str(one.limit)
    seed = filters.limit_seed
    return (
        all(getattr(filters, name) in (None, getattr(one, name)) for name in CHOSEN)
        and filters.limit in (None, "full", limit)  # a full run reads a subset too
        and (seed is None or one.limit is None or one.limit_seed == seed)
        and not any(fnmatch(one.path.name, pattern) for pattern in filters.exclude)
    )


def _alike(parts: Sequence[AttentionResult]) -> None:
    """See that readings of one model can stand beside each other."""
    for name in CHOSEN:
        if len({getattr(one, name) for one in parts}) > 1:
            files = ", ".join(one.path.name for one in parts)
            raise ReportError(
                f"attention of {parts[0].model} was read with different {name}: {files}; choose with "
                f"--{name.replace('_', '-')}"
            )
    if len({one.vision_attention.shape[1] for one in parts}) > 1:
        raise ReportError(
            f"readings of {parts[0].model} differ in the number of layers; delete those that do not belong"
        )


def _order(reading: AttentionResult) -> tuple:
    models = (*MODELS, reading.model)
    return models.index(reading.model), reading.model, catalogue()[reading.benchmark].order, reading.benchmark


def _load(path: Path) -> AttentionResult:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if raw["schema"] != SCHEMA:
            raise ReportError(f"{path}: schema {raw['schema']!r}, this version reads schema {SCHEMA}")
        doc_ids = np.asarray(raw["doc_ids"], dtype=np.int64)
        n, layers = len(doc_ids), len(raw["vision_attention"][0]) if len(doc_ids) else 0
        if len(set(raw["doc_ids"])) < n:
            raise ValueError("doc_ids repeats a sample")
        return AttentionResult(
            path=path,
            **{name: str(raw[name]) for name in TEXT},
            located=bool(raw["located"]),
            limit=None if raw["limit"] is None else int(raw["limit"]),
            limit_seed=int(raw["limit_seed"]),
            population=int(raw["population"]),
            errors=int(raw["errors"]),
            doc_ids=doc_ids,
            vision_attention=_array(raw.get("vision_attention", []), n, layers),
            groups={cut: _array([one[cut] for one in raw.get("groups", [])], n, layers, 6) for cut in CUTS},
            group_tokens={cut: _array([one[cut] for one in raw.get("group_tokens", [])], n, 6) for cut in CUTS},
        )
    except ReportError:
        raise
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise ReportError(
            f"{path}: not a result of attention readings ({type(error).__name__}: {error}); delete it and run "
            "scripts/attend.py again"
        ) from error


def _array(values: list, *shape: int) -> np.ndarray:
    found = np.asarray(values, dtype=float)
    if shape[0] and (found.shape != shape or not np.isfinite(found).all()):
        raise ValueError(f"an array has the shape {found.shape}, not {shape}, or holds what is not a number")
    return found.reshape(shape)
