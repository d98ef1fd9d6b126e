"""The result file of one cell (model, method with parameters, task): loading, checking, summarising.

A cell file exists only for a finished cell. It is refused as a whole when its parts contradict each other, because
every interval in a table rests on the per-sample lists agreeing with the value they are printed beside.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SCHEMA = 1
KINDS = ("mean", "group_mean", "corpus")
EFFICIENCY = ("retention", "kv_bytes", "kv_bytes_full", "prefill_ms", "decode_ms_per_token")
LATER_COSTS = ("decode_ms", "new_tokens", "prompt_tokens")  # not in every older file
TEXT_FIELDS = ("cell", "profile", "protocol", "model", "checkpoint", "dtype", "attn_implementation", "method", "task",
               "benchmark")  # fmt: skip


class ReportError(ValueError):
    """Something the user can put right: a missing folder, a damaged file, an ambiguous choice."""


@dataclass(frozen=True, eq=False)
class Metric:
    """One metric of one cell: `value`, a fraction, and `samples` (n,), one score per document of `doc_ids`.

    kind: "mean" (value is the mean of samples), "group_mean" (unweighted mean of the means of `groups`) or "corpus"
    (value is computed from all samples together, so that the mean of `samples` need not equal it).
    """

    value: float
    kind: str
    samples: np.ndarray
    groups: np.ndarray | None = None

    def plain(self, keep: np.ndarray | None = None) -> float:
        """The estimate that the per-sample scores alone give, over the samples where `keep` (bool, (n,)) is true."""
        keep = np.ones(len(self.samples), dtype=bool) if keep is None else keep
        if not keep.any():
            return math.nan
        if self.kind != "group_mean":
            return float(self.samples[keep].mean())
        groups = self.groups[keep]
        return float(np.mean([self.samples[keep][groups == name].mean() for name in np.unique(groups)]))


@dataclass(frozen=True)
class Efficiency:
    """Costs of one cell: retention and KV bytes are means over samples, the times medians; nan where unmeasured."""

    retention: float
    kv_bytes: float
    kv_bytes_full: float
    prefill_ms: float
    decode_ms_per_token: float

    @property
    def kv_saved(self) -> float:
        """Share of the prompt's KV bytes that the method does not hold, over all samples of the cell together."""
        return 1 - self.kv_bytes / self.kv_bytes_full if self.kv_bytes_full > 0 else math.nan


@dataclass(frozen=True, eq=False)
class Cell:
    """One finished cell. `doc_ids` (n,): the answered rows of the data set; failed samples are counted in `errors`.

    costs: EFFICIENCY and LATER_COSTS of each document, (n,) each, nan where unmeasured; a batch's times are shared
    equally among its samples. engine: what decoded, "generate" or "fast"; batch_size: the largest there was.
    prompts: style of the prompts; versions: of the libraries, by name; answers: revision of the code that answers;
    image_notes: how many images were not upright RGB, by what was done to them.
    """

    path: Path
    cell: str
    profile: str
    protocol: str
    model: str
    checkpoint: str
    revision: str
    dtype: str
    attn_implementation: str
    method: str
    params: dict[str, float | int | str]
    setting: str
    task: str
    benchmark: str
    task_version: str
    limit: int | None
    limit_seed: int | None
    population: int
    data_revision: str
    n: int
    errors: int
    error_examples: tuple[str, ...]
    doc_ids: np.ndarray
    metrics: dict[str, Metric]
    efficiency: Efficiency
    costs: dict[str, np.ndarray]
    hardware: str
    engine: str
    batch_size: int | None
    prompts: str
    versions: dict[str, str]
    answers: int | None
    image_notes: dict[str, int]


def load_cells(folder: Path, profile: str) -> list[Cell]:
    """Every `*.json` in `folder`, by file name. Raises ReportError for a missing folder or the first damaged file."""
    if not folder.is_dir():
        raise ReportError(f"no finished cells: {folder} does not exist; evaluate profile {profile!r} first")
    cells = [load_cell(path) for path in sorted(folder.glob("*.json")) if not path.name.startswith(".")]
    if not cells:
        raise ReportError(f"no finished cells in {folder}; evaluate profile {profile!r} first")
    for cell in cells:
        if cell.profile != profile:
            raise ReportError(f"{cell.path}: belongs to profile {cell.profile!r}, found among the cells of {profile!r}")
    return cells


def load_cell(path: Path) -> Cell:
    """Read and check one cell file. Raises ReportError naming the file and what is wrong with it."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ReportError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:  # torn JSON or bytes that are not UTF-8
        raise ReportError(f"{path}: not valid JSON ({error}); delete it and run its cell again") from error
    try:
        return _parse(path, raw)
    except KeyError as error:
        raise ReportError(f"{path}: field {error} is missing") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise ReportError(f"{path}: {error}") from error


def _parse(path: Path, raw: object) -> Cell:
    if not isinstance(raw, Mapping):
        raise TypeError("a cell file holds one JSON object")
    if raw.get("schema") != SCHEMA:
        raise ValueError(f"schema {raw.get('schema')!r}, this version reads schema {SCHEMA}")
    for name in TEXT_FIELDS:
        if not isinstance(raw[name], str):
            raise TypeError(f"{name} is {raw[name]!r}, expected text")
    n, errors = int(raw["n"]), int(raw.get("errors", 0))
    doc_ids = np.asarray(raw["doc_ids"], dtype=np.int64)
    if len(doc_ids) != n:
        raise ValueError(f"n is {n} but doc_ids has {len(doc_ids)} entries")
    if len(np.unique(doc_ids)) != n:
        raise ValueError("doc_ids repeats a document")
    metrics = {name: _metric(name, entry, n) for name, entry in raw["metrics"].items()}
    costs = _costs(raw["efficiency"], n)
    return Cell(
        path=path,
        **{name: raw[name] for name in TEXT_FIELDS},
        revision=str(raw.get("revision") or "unrecorded"),
        params=dict(raw["params"]),
        setting=str(raw.get("setting") or ""),
        task_version=str(raw["task_version"]),
        limit=None if raw["limit"] is None else int(raw["limit"]),
        # the seed matters only where a subset is drawn
        limit_seed=None if raw["limit"] is None else raw.get("limit_seed"),
        population=int(raw["population"]),
        data_revision=str(raw.get("data_revision") or "unrecorded"),
        n=n,
        errors=errors,
        error_examples=tuple(str(text) for text in raw.get("error_examples") or ()),
        doc_ids=doc_ids,
        metrics=metrics,
        efficiency=_efficiency(costs),
        costs=costs,
        hardware=str(raw.get("hardware") or "unrecorded"),
        engine=str(raw.get("engine") or "generate"),  # older files: there was only this one
        batch_size=None if raw.get("batch_size") is None else int(raw["batch_size"]),
        prompts=str(raw.get("prompts") or "lmms_eval"),  # older files: there was only this style
        versions={str(name): str(number) for name, number in (raw.get("versions") or {}).items()},
        answers=None if raw.get("answers") is None else int(raw["answers"]),
        image_notes={str(note): int(count) for note, count in (raw.get("image_notes") or {}).items()},
    )


def _metric(name: str, entry: Mapping, n: int) -> Metric:
    kind, groups = entry["kind"], entry.get("groups")
    if kind not in KINDS:
        raise ValueError(f"metric {name}: kind {kind!r}, known kinds are {', '.join(KINDS)}")
    samples = np.asarray(entry["samples"], dtype=float)
    groups = None if groups is None else np.asarray(groups, dtype=str)
    if samples.shape != (n,) or (groups is not None and groups.shape != (n,)):
        raise ValueError(f"metric {name}: per-sample lists must have n = {n} entries")
    if not np.isfinite(samples).all():
        raise ValueError(f"metric {name}: a per-sample score is not a number")
    if kind == "group_mean" and groups is None:
        raise ValueError(f"metric {name}: kind group_mean needs groups")
    if n == 0:  # every sample failed: there is no score, whatever the file says
        return Metric(math.nan, kind, samples, groups)
    metric = Metric(math.nan if entry["value"] is None else float(entry["value"]), kind, samples, groups)
    if not math.isfinite(metric.value):
        raise ValueError(f"metric {name}: value {entry['value']} is not a number")
    if kind != "corpus" and abs(metric.value - metric.plain()) > 1e-6:
        raise ValueError(f"metric {name}: value {metric.value} is not the {kind} of its samples, {metric.plain()}")
    return metric


def _costs(raw: Mapping, n: int) -> dict[str, np.ndarray]:
    found = {}
    for name in (*EFFICIENCY, *LATER_COSTS):
        # null becomes nan: a sample without decode steps has no decode time
        values = np.asarray(raw[name] if name in EFFICIENCY else raw.get(name, [math.nan] * n), dtype=float)
        if values.shape != (n,):
            raise ValueError(f"efficiency {name}: must have n = {n} entries, has shape {values.shape}")
        found[name] = values
    return found


def _efficiency(costs: Mapping[str, np.ndarray]) -> Efficiency:
    columns = {}
    for name in EFFICIENCY:
        values = costs[name][~np.isnan(costs[name])]
        reduce = np.median if name.endswith(("_ms", "_ms_per_token")) else np.mean
        columns[name] = float(reduce(values)) if len(values) else math.nan
    return Efficiency(**columns)
