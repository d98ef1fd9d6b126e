"""Attention readings (`scripts/attend.py`), as Figures 1 and 2 and claim C14 take them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from plphp_core.families import family_names, get_family
from plphp_core.reporting.bootstrap import RESAMPLES, Estimate, Resamples, with_interval
from plphp_core.reporting.cells import ReportError
from plphp_core.reporting.comparison import BENCHMARKS

SCHEMA = 1
MODELS = ("llava_onevision", "qwen2_vl", "idefics2", "mantis")  # as the paper orders them
TEXT = ("profile", "model", "family", "checkpoint", "revision", "dtype", "prompts", "task", "benchmark", "hardware",
        "data_revision")  # fmt: skip


@dataclass(frozen=True, eq=False)
class Reading:
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
    prompts: str
    task: str
    benchmark: str
    hardware: str
    data_revision: str
    located: bool
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


def load_readings(folder: Path) -> list[Reading]:
    """Every result of attention readings in `folder` (`results/<profile>/attention`); none if there is no folder.

    Raises ReportError for the first damaged file.
    """
    files = sorted(path for path in folder.glob("*.json") if ".doc=" not in path.name and path.name[0] != ".")
    return [reading for reading in map(_load, files) if reading.n]


def by_model(readings: Sequence[Reading]) -> dict[str, list[Reading]]:
    """The readings of each model, in the paper's order of models and benchmarks.

    Raises ReportError if those of a model are not of one checkpoint and precision, or not equally deep.
    """
    found: dict[str, list[Reading]] = {}
    for reading in sorted(readings, key=_order):
        found.setdefault(reading.model, []).append(reading)
    for model, parts in found.items():
        kinds = {(one.checkpoint, one.revision, one.dtype, one.prompts, one.vision_attention.shape[1]) for one in parts}
        if len(kinds) > 1:
            names = ", ".join(one.path.name for one in parts)
            raise ReportError(
                f"attention of {model} was read from different checkpoints, precisions or prompts: {names}; delete the "
                "files that do not belong, or read it again with scripts/attend.py"
            )
    return found


def layer_means(parts: Sequence[Reading], values: Sequence[np.ndarray] | None = None, seed: int = 0) -> list[Estimate]:
    """The mean over benchmarks of the mean over samples, layer by layer, with 95 % intervals.

    All layers share their resamples of the samples, so that differences between layers are paired.

    Args:
        parts: readings of one model.
        values: `(n, layers)` of each reading; None: γ.
    """
    values = [one.vision_attention for one in parts] if values is None else values
    replicates = []
    for one, own in zip(parts, values, strict=True):
        resamples = Resamples(one.doc_ids, one.benchmark, RESAMPLES, seed)
        replicates.append(resamples.means(one.doc_ids, own) if one.n > 1 else np.full((own.shape[1], 1), np.nan))
    if any(part.shape[1] == 1 for part in replicates):
        replicates = [part[:, :1] * np.nan for part in replicates]
    drawn = np.mean(replicates, axis=0)
    means = np.mean([own.mean(axis=0) for own in values], axis=0)
    return [with_interval(float(mean), some) for mean, some in zip(means, drawn, strict=True)]


def _order(reading: Reading) -> tuple:
    models, benchmarks = (*MODELS, reading.model), (*BENCHMARKS, reading.benchmark)
    return models.index(reading.model), reading.model, benchmarks.index(reading.benchmark), reading.benchmark


def _load(path: Path) -> Reading:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if raw["schema"] != SCHEMA:
            raise ReportError(f"{path}: schema {raw['schema']!r}, this version reads schema {SCHEMA}")
        doc_ids = np.asarray(raw["doc_ids"], dtype=np.int64)
        cuts = list(raw["groups"][0]) if len(doc_ids) else []
        return Reading(
            path=path,
            **{name: str(raw[name]) for name in TEXT},
            located=bool(raw["located"]),
            population=int(raw["population"]),
            errors=int(raw["errors"]),
            doc_ids=doc_ids,
            vision_attention=_array(raw.get("vision_attention", []), len(doc_ids)),
            groups={cut: _array([one[cut] for one in raw["groups"]], len(doc_ids)) for cut in cuts},
            group_tokens={cut: _array([one[cut] for one in raw["group_tokens"]], len(doc_ids)) for cut in cuts},
        )
    except ReportError:
        raise
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise ReportError(
            f"{path}: not a result of attention readings ({type(error).__name__}: {error}); delete it and run "
            "scripts/attend.py again"
        ) from error


def _array(values: list, n: int) -> np.ndarray:
    found = np.asarray(values, dtype=float)
    if len(found) != n or not np.isfinite(found).all():
        raise ValueError(f"{len(found)} entries for {n} samples, or one that is not a number")
    return found
