"""How the world lies on disk today: the product's own writers, fed with the world's numbers instead of a model's.

When a record's format or its writer changes, this file changes with it, and `expected/` does not.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
from PIL import Image
from safetensors.numpy import save_file

from plphp_core.config.run_settings import Benchmark, MethodSettings, ModelSettings, Settings
from plphp_core.evaluation import cell_spec
from plphp_core.evaluation.attention.attention_runner import write_readings
from plphp_core.evaluation.lmms_tasks import OpenTask, TaskFacts
from plphp_core.evaluation.requests import Failure, Request
from plphp_core.records.atomic import write_atomically
from plphp_core.records.cache_keys import CODE
from plphp_core.records.cell_result import CellResult
from plphp_core.records.cost_matches import CostMatch, CostMatches, matches_path
from plphp_core.records.depth_rule import DepthRule, rule_path
from plphp_core.records.journal import Journal
from plphp_core.records.journal_lines import Answer, AttentionReading, SampleLine

ROOT = Path(__file__).parents[2]
REVISION = "sha256:0123456789abcdef0123456789abcdef"
TIME = "2025-01-01T00:00:00+00:00"
MANIFEST = "manifests/20250101-000000.json"
VERSIONS = {
    "torch": "2.11.0",
    "torchvision": "0.26.0",
    "transformers": "5.19.0",
    "tokenizers": "0.22.1",
    "pillow": "12.0",
}
LMMS_EVAL = "0.7.3"
SLOTS = {"slot_accuracy": "tasks.toy.slots.slot_accuracy"}


@dataclass(frozen=True)
class Conditions:
    """What a run was made under; `population`: documents of each benchmark that is not named in `sizes`."""

    profile: str
    checkpoint: str
    model: str = "llava_onevision"
    revision: str = REVISION
    dtype: str = "float32"
    device: str = "cpu"
    hardware: str = "2 CPU cores"
    batch_size: int = 8
    engine: str = "generate"
    protocol: str = "lmms_eval"
    prompts: str = "lmms_eval"
    limit: int | None = None
    population: int = 12
    sizes: dict[str, int] = field(default_factory=dict, hash=False)
    data: str = "sha256:data"


@dataclass(frozen=True)
class Row:
    """A method and its parameters, and how they are printed."""

    method: str
    params: dict = field(default_factory=dict, hash=False)
    setting: str = ""


@dataclass(frozen=True)
class Scores:
    """One metric: doc_id → score; of a group mean doc_id → group; of a corpus metric, value − mean of the scores."""

    samples: dict[int, float]
    kind: str = "mean"
    groups: dict[int, str] | None = None
    offset: float = 0.0

    def of(self, docs: list[int]) -> dict:
        """The metric over some documents, as a benchmark's scoring gives it."""
        samples = [self.samples[doc] for doc in docs]
        parts = {}
        for doc in docs:
            parts.setdefault(self.groups[doc] if self.groups else "", []).append(self.samples[doc])
        value = sum(sum(part) / len(part) for part in parts.values()) / len(parts) + self.offset
        groups = [self.groups[doc] for doc in docs] if self.groups else None
        return {"value": value, "kind": self.kind, "samples": samples, "groups": groups, "subsets": {}}


def task_name(profile: str, benchmark: str, protocol: str = "lmms_eval") -> str:
    name = f"{'toy' if profile == 'toy' else 'plphp'}_{benchmark.lower()}"
    return name if protocol == "lmms_eval" else f"{name}_{protocol}"


def request(benchmark: str, doc: int) -> Request:
    """What was asked: the same whoever answers."""

    def visuals() -> list[Image.Image]:
        return [Image.new("RGB", (24, 16), (20 * doc % 256, 90, 200))]

    return Request(
        f"<image> {benchmark}, question {doc}: what is 50 % of a_b & c?", {"max_new_tokens": 16}, visuals, doc
    )


@dataclass(eq=False)
class Scored(OpenTask):
    """A task whose scores are given."""

    metrics: dict[str, Scores] = field(default_factory=dict)

    def score(self, texts, extra_metrics) -> dict[str, dict]:
        return {name: metric.of(list(texts)) for name, metric in self.metrics.items()}


def _settings(folder: Path, on: Conditions, limit: int | None) -> Settings:
    model = ModelSettings(
        on.model, on.model, on.checkpoint, None, on.dtype, "sdpa", on.device, on.prompts, (), on.engine
    )
    extra = SLOTS if on.profile == "toy" else {}
    return Settings(ROOT, folder / on.profile, on.profile, on.protocol, None, model, (), (), on.batch_size, extra,
                    limit=limit)  # fmt: skip


def _facts(on: Conditions, benchmark: str) -> TaskFacts:
    task = task_name(on.profile, benchmark, on.protocol)
    return TaskFacts(Benchmark(benchmark, task), task, 1, {"max_new_tokens": 16}, on.data, {}, {"scores.py": "s0"})


def write_cell(
    folder: Path, on: Conditions, row: Row, benchmark: str, results: dict[int, Answer | Failure], metrics: dict
) -> Path:
    """A finished cell with its journal below `folder`/<profile>. Returns the result file.

    Args:
        results: of every document of the benchmark; those that `on.limit` does not choose are not asked.
        metrics: name → Scores of the answered documents.
    """
    method = MethodSettings(row.method, row.params, row.setting)
    settings = _settings(folder, on, on.limit)
    key = "; ".join(map(str, (on.model, on.revision, on.dtype, on.engine, on.prompts, row, benchmark, on.protocol)))
    identity = {part: {} for part in CODE}
    cell = cell_spec.CellSpec(settings, method, _facts(on, benchmark), on.revision, key, identity)
    requests = {doc: request(benchmark, doc) for doc in results}
    task = Scored(cell.facts, None, len(results), requests, metrics=metrics)
    fixed = {"library_versions": lambda: VERSIONS, "installed": lambda name: LMMS_EVAL, "_now": lambda: TIME}
    with mock.patch.multiple(cell_spec, **fixed), Journal(cell.journal_path) as journal:
        keys = cell.keys(task)
        answered = [(requests[doc], results[doc]) for doc in keys]
        journal.append(cell_spec.journal_lines(cell, keys, answered, on.hardware))
        cell_spec.write_result(cell, task, journal, {}, MANIFEST)
    return cell.result_path


def answer(
    text: str,
    tokens: int,
    prompt: int,
    notes: list[str],
    retention: float,
    times: tuple,
    batch: int,
    entered: float | None = None,
) -> Answer:
    """One answered sample.

    Args:
        retention: mean over layers, of which there are two.
        times: prefill and decode of the whole batch in milliseconds, and its decode steps.
    """
    full = 4096 * prompt
    kv = round(full * (0.2 + 0.8 * retention))
    layers = [retention + 0.05, retention - 0.05] if retention < 0.95 else [1.0, 1.0]
    prefill, decode, steps = times
    return Answer(text=text, prompt_tokens=prompt, new_tokens=tokens, images_sha256=["0" * 64], image_notes=notes,
                  retention=layers, kv_bytes=kv, kv_bytes_full=full, prefill_ms=prefill, vision_entered=entered,
                  decode_ms=decode, decode_steps=steps, batch_size=batch)  # fmt: skip


def write_reading(folder: Path, on: Conditions, benchmark: str, lines: dict[int, dict], errors: int = 0) -> None:
    """Attention of one model on one benchmark. `lines`: doc_id → gamma, groups and group_tokens."""
    cell = cell_spec.CellSpec(
        _settings(folder, on, on.limit), MethodSettings("none"), _facts(on, benchmark), on.revision, "k"
    )
    read = {
        doc: SampleLine(key=f"k{doc}", cell="k", doc_id=doc, hardware=on.hardware,
                        reading=AttentionReading(prompt_tokens=100, image_sizes=[16], **line))
        for doc, line in lines.items()
    }  # fmt: skip
    write_readings(cell, on.population, read, errors, MANIFEST)


def write_sight(folder: Path, on: Conditions, row: Row, doc: int, rows, kept, boxes, image_of) -> None:
    """One sample in full, as `attention.look=true` writes it: its writer needs a model, so the format is here again.

    Args:
        rows: (layers, query_heads, tokens) fp32; kept: (layers, kv_heads, tokens) uint8; boxes: (tokens, 4) fp32;
        image_of: (tokens,) int32.
    """
    there = folder / on.profile / "attention"
    stem = f"{on.model}.{task_name(on.profile, 'SD')}.doc={doc}"
    there.mkdir(parents=True, exist_ok=True)
    save_file({"rows": rows, "kept": kept, "boxes": boxes, "image_of": image_of}, there / f"{stem}.safetensors")
    names = []
    for number in range(int(image_of.max()) + 1):
        names.append(f"{stem}.image{number}.png")
        Image.new("RGB", (64, 48), (200, 120 * number, 40)).save(there / names[-1])
    content = {
        "schema": 2, "profile": on.profile, "model": on.model, "family": on.model, "located": True,
        "checkpoint": on.checkpoint, "revision": on.revision, "dtype": on.dtype, "hardware": on.hardware,
        "method": {"name": row.method, "params": row.params, "setting": row.setting}, "asked_for": False,
        "task": task_name(on.profile, "SD"), "benchmark": "SD", "data_revision": on.data, "doc_id": doc,
        "question": request("SD", doc).context, "images": names, "tensors": f"{stem}.safetensors",
        "prompt_tokens": rows.shape[2] + 10,
        "vision_attention": [round(float(one), 6) for one in rows.astype(float).sum(-1).mean(-1)],
        "retention": [round(float(one), 6) for one in kept.reshape(len(kept), -1).mean(-1)],
    }  # fmt: skip
    write_atomically(there / f"{stem}.json", json.dumps(content))


def write_depth_rule(folder: Path, on: Conditions, divergence: dict[int, float], chosen: int) -> None:
    """What VTW's own rule says of its K."""
    rule = DepthRule(model=on.model, checkpoint=on.checkpoint, revision=on.revision, dtype=on.dtype, prompts=on.prompts,
                     benchmarks=["SD", "IE"], samples=40, seed=0, eta=0.003, divergence=divergence,
                     chosen=chosen)  # fmt: skip
    rule.write(rule_path(folder, on.profile, on.model))


def write_matches(folder: Path, on: Conditions, reference: Path, matches: list[tuple], unequal: tuple = ()) -> None:
    """How methods were brought to budgets on a benchmark: what their cells take, or 5 % more of the one `unequal`.

    Args:
        reference: result file of Uncompressed.
        matches: budget, contender, method at it or None, why not.
    """
    cell, found = CellResult.load(reference), []
    prompts = [int(length) for length in cell.costs["prompt_tokens"]]
    for budget, one, method, why in matches:
        tokens = one.cost.name == "tokens"
        held = budget if tokens else 4096 * budget * sum(prompts) / len(prompts)
        for path in (folder / on.profile / "cells").glob(f"*{cell.task}*.json"):
            other = CellResult.load(path)
            if method is not None and (other.method, other.params) == (method.name, method.params):
                held = float(other.costs[one.cost.cell].mean())
        wanted = 1.05 * held if (one.name, budget, cell.benchmark) == unequal else held
        params = None if method is None else method.params
        found.append(CostMatch(cost=one.cost.name, budget=budget, method=one.name, asked=one.params, params=params,
                               wanted=wanted, held=None if method is None else held, missing=why))  # fmt: skip
    record = CostMatches(key=cell.key, model=on.model, benchmark=cell.benchmark, lengths=prompts,
                         vision=[[576]] * len(prompts), token_bytes=4096, layers=2, found=found)  # fmt: skip
    record.write(matches_path(reference))


def damage(path: Path, **changes) -> None:
    """Other values in a result file, as if somebody had edited it."""
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


class DocumentsAtHand:
    """In place of the data sets: what was asked, without lmms-eval and without drawing the toy data."""

    def __init__(self, *where):
        pass

    def open(self, cell):
        requests = {int(doc): request(cell.benchmark, int(doc)) for doc in np.append(cell.doc_ids, 0)}
        task = SimpleNamespace(
            doc_to_target=lambda doc: [f"reference {doc}"], eval_docs_no_media=range(int(max(requests)) + 1)
        )
        return SimpleNamespace(requests=requests, task=task, facts=SimpleNamespace(task=cell.task))
