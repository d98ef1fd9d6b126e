"""The result file of one cell (model, method with parameters, task): loading, checking, summarising.

A cell file exists only for a finished cell. It is refused as a whole when its parts contradict each other, because
every interval in a table rests on the per-sample lists agreeing with the value they are printed beside.
"""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from plphp_core.records.errors import ReportError
from plphp_core.records.visible import visible_in

SCHEMA = 1
KINDS = ("mean", "group_mean", "corpus")
EFFICIENCY = ("retention", "kv_bytes", "kv_bytes_full", "prefill_ms", "decode_ms_per_token")
LATER_COSTS = ("decode_ms", "new_tokens", "prompt_tokens")  # not in every older file
TEXT_FIELDS = ("cell", "profile", "protocol", "model", "checkpoint", "dtype", "attn_implementation", "method", "task",
               "benchmark")  # fmt: skip
KINDS_OF_JSON = {str: "text", int: "a whole number", float: "a number", list: "a list", dict: "an object",
                 Mapping: "an object", (int, float): "a number"}  # fmt: skip
# CIDEr-D weighs an n-gram by log N − log df, with N documents and df of them that have it. Of one document every
# weight, and so every score, is 0 whatever the answer. From two on, n-grams that not all documents share have weight.
FEWEST_DOCUMENTS = {"cider": 2}


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


def evaluated_alone(cells: Iterable[Cell]) -> list[str]:
    """The benchmarks on which a metric of some cell has no value, since too few documents were scored for it."""
    few = (cell for cell in cells if any(0 < cell.n < FEWEST_DOCUMENTS.get(name, 1) for name in cell.metrics))
    return list(dict.fromkeys(cell.benchmark for cell in few))


def load_cells(folder: Path, profile: str) -> list[Cell]:
    """Every `*.json` in `folder`, by file name. Raises ReportError for a missing folder or the first damaged file."""
    cells, damaged = read_cells(folder, profile)
    if damaged:
        raise ReportError(next(iter(damaged.values())))
    return cells


def read_cells(folder: Path, profile: str) -> tuple[list[Cell], dict[Path, str]]:
    """The cells of all `*.json` in `folder`, by file name, and what is wrong with each file that holds none.

    Raises ReportError for a missing folder, or one without a readable file.
    """
    if not folder.is_dir():
        found = "is not a folder" if folder.exists() else "does not exist"
        raise ReportError(f"no finished cells: {folder} {found}; evaluate profile {profile!r} first")
    cells, damaged = [], {}
    for path in sorted(path for path in folder.glob("*.json") if not path.name.startswith(".")):
        try:
            cell = load_cell(path)
            if cell.profile != profile:
                raise ReportError(f"{path}: belongs to profile {cell.profile!r}, found among the cells of {profile!r}")
            cells.append(cell)
        except ReportError as error:
            damaged[path] = str(error)
    if not cells:
        raise ReportError("\n".join(damaged.values()) or f"no finished cells in {folder}; evaluate {profile!r} first")
    return cells, damaged


def load_cell(path: Path) -> Cell:
    """Read and check one cell file. Raises ReportError naming it, what is wrong with it and what writes it again."""
    try:
        if path.is_dir():
            raise ValueError("is a folder")
        return _parse(path, visible_in(json.loads(path.read_text(encoding="utf-8"))))
    except OSError as error:
        raise ReportError(f"{path}: cannot be read ({error.strerror})") from error
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:  # torn, not UTF-8, nested without end
        raise ReportError(f"{path}: not valid JSON ({error}); {_remedy(path)}") from error
    except (TypeError, ValueError) as error:
        raise ReportError(f"{path}: {error}; {_remedy(path)}") from error


def _remedy(path: Path) -> str:
    """What writes the file again; its answers are in the journal, so nothing is answered anew."""
    for manifest in sorted((path.parents[1] / "manifests").glob("*.json"), reverse=True):
        try:
            said = json.loads(manifest.read_text(encoding="utf-8"))
            if path.stem in said["scored"]:
                command = shlex.join([".venv/bin/python", "scripts/run.py", *map(str, said["command"][1:])])
                return f"delete it and run its cell again: {command}"
        except (OSError, ValueError, KeyError, TypeError):
            continue  # a manifest that cannot be read is no reason to stop looking
    return "delete it and run its cell again"


def _parse(path: Path, raw: object) -> Cell:
    if not isinstance(raw, Mapping):
        raise TypeError("a cell file holds one JSON object")
    if raw.get("schema") != SCHEMA:
        raise ValueError(f"schema {raw.get('schema')!r}, this version reads schema {SCHEMA}")
    n = _field(raw, "n", int)
    listed = _field(raw, "doc_ids", list)
    if not all(type(doc) is int and abs(doc) < 2**63 for doc in listed):
        raise TypeError("doc_ids holds what is no whole number")
    doc_ids = np.asarray(listed, dtype=np.int64)
    if len(doc_ids) != n:
        raise ValueError(f"n is {n} but doc_ids has {len(doc_ids)} entries")
    if len(np.unique(doc_ids)) != n:
        raise ValueError("doc_ids repeats a document")
    costs = _costs(_field(raw, "efficiency", Mapping), n)
    if "task_version" not in raw:
        raise ValueError("field 'task_version' is missing")
    limit = _field(raw, "limit", int, none=True)
    versions, images = (_field(raw, name, Mapping, {}) for name in ("versions", "image_notes"))
    metrics = _field(raw, "metrics", Mapping)
    return Cell(
        path=path,
        **{name: _field(raw, name, str) for name in TEXT_FIELDS},
        revision=str(raw.get("revision") or "unrecorded"),
        params=dict(_field(raw, "params", Mapping)),
        setting=_field(raw, "setting", str, ""),
        task_version=str(raw["task_version"]),
        limit=limit,
        # the seed matters only where a subset is drawn
        limit_seed=None if limit is None else _field(raw, "limit_seed", int, 0),
        population=_field(raw, "population", int),
        data_revision=str(raw.get("data_revision") or "unrecorded"),
        n=n,
        errors=_field(raw, "errors", int, 0),
        error_examples=tuple(map(str, _field(raw, "error_examples", list, []))),
        doc_ids=doc_ids,
        metrics={name: _metric(name, _field(metrics, name, Mapping, inside="metrics "), n) for name in metrics},
        efficiency=_efficiency(costs),
        costs=costs,
        hardware=str(raw.get("hardware") or "unrecorded"),
        engine=_field(raw, "engine", str, "generate"),  # older files: there was only this one
        batch_size=_field(raw, "batch_size", int, None),
        prompts=_field(raw, "prompts", str, "lmms_eval"),  # older files: there was only this style
        versions={str(name): str(number) for name, number in versions.items()},
        answers=_field(raw, "answers", int, None),
        image_notes={note: _field(images, note, int, inside="image_notes ") for note in images},
    )


def _field(raw: Mapping, name: str, kind: type, *default: object, none: bool = False, inside: str = "") -> object:
    """A field of the expected kind. A missing one, or null, is the default if there is one; null is allowed if `none`.

    Raises ValueError or TypeError naming it.
    """
    if name not in raw and not default:
        raise ValueError(f"field {inside}{name!r} is missing")
    value = raw.get(name)
    if value is None and (default or none):
        return default[0] if default else None
    if not isinstance(value, kind) or isinstance(value, bool):
        said = f"{value!r:.40}" if isinstance(value, (str, float, int)) else KINDS_OF_JSON.get(type(value), "null")
        raise TypeError(f"{inside}{name} is {said}, expected {KINDS_OF_JSON[kind]}")
    return value


def _metric(name: str, entry: Mapping, n: int) -> Metric:
    kind = _field(entry, "kind", str, inside=f"metric {name}: ")
    if kind not in KINDS:
        raise ValueError(f"metric {name}: kind {kind!r}, known kinds are {', '.join(KINDS)}")
    listed = _field(entry, "samples", list, inside=f"metric {name}: ")
    groups = _field(entry, "groups", list, None, inside=f"metric {name}: ")
    if len(listed) != n or (groups is not None and len(groups) != n):
        raise ValueError(f"metric {name}: per-sample lists must have n = {n} entries")
    samples = _numbers(f"metric {name}", listed)
    if not np.isfinite(samples).all():
        raise ValueError(f"metric {name}: a per-sample score is not a number")
    groups = None if groups is None else np.asarray(groups, dtype=str)
    if kind == "group_mean" and groups is None:
        raise ValueError(f"metric {name}: kind group_mean needs groups")
    if n < FEWEST_DOCUMENTS.get(name, 1):  # there is no score, whatever the file says
        return Metric(math.nan, kind, np.full(n, math.nan), groups)
    value = _field(entry, "value", (int, float), none=True, inside=f"metric {name}: ")
    metric = Metric(math.nan if value is None else float(value), kind, samples, groups)
    if not math.isfinite(metric.value):
        raise ValueError(f"metric {name}: value {value} is not a number")
    if kind != "corpus" and abs(metric.value - metric.plain()) > 1e-6:
        raise ValueError(f"metric {name}: value {metric.value} is not the {kind} of its samples, {metric.plain()}")
    return metric


def _numbers(name: str, listed: list) -> np.ndarray:
    """Numbers, nan for null: a sample without decode steps has no decode time. Raises TypeError naming the field."""
    if not all(value is None or isinstance(value, (int, float)) for value in listed):
        raise TypeError(f"{name} holds what is not a number")
    return np.asarray(listed, dtype=float)


def _costs(raw: Mapping, n: int) -> dict[str, np.ndarray]:
    found = {}
    for name in (*EFFICIENCY, *LATER_COSTS):
        default = [] if name in EFFICIENCY else [[None] * n]
        listed = _field(raw, name, list, *default, inside="efficiency ")
        if len(listed) != n:
            raise ValueError(f"efficiency {name}: must have n = {n} entries, has {len(listed)}")
        found[name] = _numbers(f"efficiency {name}", listed)
        if np.isinf(found[name]).any():
            raise ValueError(f"efficiency {name} holds an infinite number")
    return found


def _efficiency(costs: Mapping[str, np.ndarray]) -> Efficiency:
    columns = {}
    for name in EFFICIENCY:
        values = costs[name][~np.isnan(costs[name])]
        reduce = np.median if name.endswith(("_ms", "_ms_per_token")) else np.mean
        columns[name] = float(reduce(values)) if len(values) else math.nan
    return Efficiency(**columns)
