"""The result file of one cell (model, method with parameters, task).

A cell file exists only for a finished cell. It is refused as a whole when its parts contradict each other, because
every interval in a table rests on the per-sample lists agreeing with the value they are printed beside.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import BeforeValidator, Field, model_validator

from plphp_core.records.errors import ReportError
from plphp_core.records.journal_lines import Answer
from plphp_core.records.manifest import Manifest
from plphp_core.records.record import Identifiers, Names, Numbers, Part, Record, digest

EFFICIENCY = ("retention", "kv_bytes", "kv_bytes_full", "prefill_ms", "decode_ms_per_token")
COSTS = (*EFFICIENCY, "decode_ms", "new_tokens", "prompt_tokens")
FLOPS, ENTERED = LATER = "prefill_flops", "vision_entered"  # costs too, which older files do not have
# CIDEr-D weighs an n-gram by log N − log df, with N documents and df of them that have it. Of one document every
# weight, and so every score, is 0 whatever the answer. From two on, n-grams that not all documents share have weight.
FEWEST_FOR_CIDER = 2


def fewest_documents(metric: str) -> int:
    """With fewer documents than these a metric has no value."""
    return FEWEST_FOR_CIDER if metric.lower().endswith("cider") else 1


class Metric(Part):
    """One metric of one cell: `value`, on the scale of its task, and `samples` (n,), a score per document of `doc_ids`.

    kind: "mean" (value is the mean of samples; nan are those of documents that it is not about), "group_mean"
    (unweighted mean of the means of `groups`), "corpus" (value is computed from all samples together, and differs from
    their mean by a constant) or "whole" (computed from all together; samples may be nan and say nothing of its spread).
    replicates: of "whole", its values in the resamples of the bootstrap; None: it has no interval.
    """

    value: Annotated[float, BeforeValidator(lambda value: math.nan if value is None else value)]
    kind: Literal["mean", "group_mean", "corpus", "whole"]
    samples: Numbers
    groups: Names | None = None
    subsets: dict[str, Any] = {}
    replicates: Numbers | None = None

    def plain(self, keep: np.ndarray | None = None) -> float:
        """The estimate that the per-sample scores alone give, over the samples where `keep` (bool, (n,)) is true."""
        keep = np.ones(len(self.samples), dtype=bool) if keep is None else keep
        if not keep.any():
            return math.nan
        if self.kind != "group_mean":
            keep = keep & ~np.isnan(self.samples)
            return float(self.samples[keep].mean()) if keep.any() else math.nan
        assert self.groups is not None, "check() refuses a group_mean without groups"
        groups = self.groups[keep]
        return float(np.mean([self.samples[keep][groups == name].mean() for name in np.unique(groups)]))

    def check(self, name: str, n: int) -> None:
        """Raises ValueError if its parts contradict each other or are not of `n` samples."""
        if len(self.samples) != n or (self.groups is not None and len(self.groups) != n):
            raise ValueError(f"metric {name}: per-sample lists must have n = {n} entries")
        if self.kind in ("group_mean", "corpus") and not np.isfinite(self.samples).all():
            raise ValueError(f"metric {name}: a per-sample score is not a number")
        if self.kind == "group_mean" and self.groups is None:
            raise ValueError(f"metric {name}: kind group_mean needs groups")
        if not math.isfinite(self.value):
            raise ValueError(f"metric {name}: value is not a number")
        if self.kind in ("mean", "group_mean") and abs(self.value - self.plain()) > 1e-5 * max(1, abs(self.value)):
            raise ValueError(f"metric {name}: value {self.value} is not the {self.kind} of its samples, {self.plain()}")


class CellResult(Record):
    """One finished cell.

    Attributes:
        revision, data_revision: identities of weights and data; versions: of the libraries, by name.
        prompts: style of the prompts; engine: what decoded, "generate" or "fast"; kernels: in detail.
        limit_seed: None where nothing was drawn.
        population: documents of the benchmark; n: those with an answer; errors: those without, tried and failed.
        image_notes: how many images were not upright RGB, by what was done to them.
        doc_ids: `(n,)`, the answered rows of the data set.
        together: `(n,)`, of each the first row of the group that it is drawn with; None: each stands alone.
        costs: COSTS and LATER of each document, `(n,)` each, nan where unmeasured; a batch's times are shared equally
            among its samples. batch_size: the largest there was.
        code: kind of code → file → hash. scores: version of scoring. extra_metrics: name → dotted path.
        answers_key: key of the cell in its journal, under which its answers lie.
        content_hash: of all the rest, to notice changes by hand.
    """

    SCHEMA: ClassVar[int] = 2
    WHAT: ClassVar[str] = "a cell file"

    cell: str
    profile: str
    protocol: str
    model: str
    checkpoint: str
    revision: str
    dtype: str
    attn_implementation: str
    prompts: str
    engine: str
    versions: dict[str, str]
    code: dict[str, dict[str, str]]
    scores: int
    extra_metrics: dict[str, str]
    method: str
    params: dict[str, Any]
    setting: str
    task: str
    benchmark: str
    task_version: Annotated[str, BeforeValidator(str)]
    data_revision: str
    limit: int | None
    limit_seed: int | None
    population: int
    n: int
    errors: int
    error_examples: list[str]
    image_notes: dict[str, int]
    doc_ids: Identifiers
    together: Numbers | None = None
    metrics: dict[str, Metric]
    costs: dict[str, Numbers] = Field(alias="efficiency")
    batch_size: int
    hardware: str
    kernels: list[str]
    answers_key: str
    journal: str
    manifest: str
    finished: str
    content_hash: str = ""

    @model_validator(mode="before")
    @classmethod
    def _without_scores_of_too_few(cls, raw: dict[str, Any]) -> dict[str, Any]:
        """Where too few documents were scored there is no score, whatever is said; and no seed without a subset."""
        raw = raw if raw.get("limit") is not None else {**raw, "limit_seed": None}
        n, metrics = raw.get("n"), raw.get("metrics")
        if not isinstance(n, int) or not isinstance(metrics, dict) or not 0 <= n < FEWEST_FOR_CIDER:
            return raw
        few = {name for name in metrics if n < fewest_documents(name) and isinstance(metrics[name], dict)}
        nothing = {"value": math.nan, "samples": [math.nan] * n}
        return {**raw, "metrics": {name: metrics[name] | (nothing if name in few else {}) for name in metrics}}

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        if len(self.doc_ids) != self.n:
            raise ValueError(f"n is {self.n} but doc_ids has {len(self.doc_ids)} entries")
        for name in LATER:
            self.costs.setdefault(name, np.full(self.n, math.nan))
        if self.together is not None and len(self.together) != self.n:
            raise ValueError(f"n is {self.n} but together has {len(self.together)} entries")
        if missing := [name for name in COSTS if name not in self.costs]:
            raise ValueError(f"field efficiency {missing[0]} is missing")
        for name, values in self.costs.items():
            if len(values) != self.n:
                raise ValueError(f"efficiency {name}: must have n = {self.n} entries, has {len(values)}")
        for name, metric in self.metrics.items():
            if self.n >= fewest_documents(name):
                metric.check(name, self.n)
        return self

    @property
    def scoring(self) -> dict[str, Any]:
        """What chose and scored the samples, beside their answers."""
        return {
            "scores": self.scores,
            "protocol": self.protocol,
            "limit": self.limit,
            "limit_seed": self.limit_seed,
            "extra_metrics": self.extra_metrics,
            "benchmark": self.benchmark,
            "scoring_code": self.code.get("scoring_code"),
            "lmms-eval": self.versions.get("lmms-eval"),
        }

    @property
    def key(self) -> str:
        """Of the answers and of everything that chose or scored samples."""
        return digest({"answers": self.answers_key, **self.scoring})

    def sealed(self) -> Self:
        """With the hash of its content."""
        return self.model_copy(update={"content_hash": self._hash()})

    def intact(self) -> bool:
        """Whether all is as it was written."""
        return self.content_hash == self._hash()

    @classmethod
    def remedy(cls, path: Path) -> str:
        """What writes the file again; its answers are in the journal, so nothing is answered anew."""
        for manifest in sorted((path.parents[1] / "manifests").glob("*.json"), reverse=True):
            try:
                said = Manifest.load(manifest)
                if path.stem in said.scored:
                    command = shlex.join([".venv/bin/python", "scripts/run.py", *said.command[1:]])
                    return f"delete it and run its cell again: {command}"
            except ReportError:
                continue  # a manifest that cannot be read is no reason to stop looking
        return "delete it and run its cell again"

    def _hash(self) -> str:
        return digest({name: value for name, value in self.content().items() if name != "content_hash"})


def costs_of(answers: Sequence[Answer]) -> dict[str, list[float | None]]:
    """COSTS and LATER of answered samples, in their order.

    A batch's wall time is shared equally: prefill per sample, decode per sample and step (None where nothing was
    decoded after the first token).
    """

    def per_token(one: Answer) -> float | None:
        return one.decode_ms / (one.decode_steps * one.batch_size) if one.decode_steps else None

    return {
        "retention": [sum(one.retention) / len(one.retention) for one in answers],
        "kv_bytes": [one.kv_bytes for one in answers],
        "kv_bytes_full": [one.kv_bytes_full for one in answers],
        "prefill_ms": [one.prefill_ms / one.batch_size for one in answers],
        "decode_ms_per_token": [per_token(one) for one in answers],
        "decode_ms": [one.decode_ms / one.batch_size for one in answers],
        "new_tokens": [one.new_tokens for one in answers],
        "prompt_tokens": [one.prompt_tokens for one in answers],
        FLOPS: [one.prefill_flops for one in answers],
        ENTERED: [one.vision_entered for one in answers],
    }


def evaluated_alone(cells: Iterable[CellResult]) -> list[str]:
    """The benchmarks on which a metric of some cell has no value, since too few documents were scored for it."""
    few = (cell for cell in cells if any(0 < cell.n < fewest_documents(name) for name in cell.metrics))
    return list(dict.fromkeys(cell.benchmark for cell in few))


def load_cells(folder: Path, profile: str) -> list[CellResult]:
    """Every `*.json` in `folder`, by file name. Raises ReportError for a missing folder or the first damaged file."""
    cells, damaged = read_cells(folder, profile)
    if damaged:
        raise ReportError(next(iter(damaged.values())))
    return cells


def read_cells(folder: Path, profile: str) -> tuple[list[CellResult], dict[Path, str]]:
    """The cells of all `*.json` in `folder`, by file name, and what is wrong with each file that holds none.

    Raises ReportError for a missing folder, or one without a readable file.
    """
    if not folder.is_dir():
        found = "is not a folder" if folder.exists() else "does not exist"
        raise ReportError(f"no finished cells: {folder} {found}; evaluate profile {profile!r} first")
    cells, damaged = [], {}
    for path in sorted(path for path in folder.glob("*.json") if not path.name.startswith(".")):
        try:
            cell = CellResult.load(path)
            if cell.profile != profile:
                raise ReportError(f"{path}: belongs to profile {cell.profile!r}, found among the cells of {profile!r}")
            cells.append(cell)
        except ReportError as error:
            damaged[path] = str(error)
    if not cells:
        raise ReportError("\n".join(damaged.values()) or f"no finished cells in {folder}; evaluate {profile!r} first")
    return cells, damaged
