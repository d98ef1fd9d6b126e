"""Synthetic cell files, with scores drawn around a known mean. What is made of them: `reports_made.py`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from omegaconf import OmegaConf

from plphp_core.records.manifest import Manifest
from plphp_core.reporting.configured import rows_configured

SCORES = {
    "SD": ("rouge_l",),
    "IE": ("rouge_l",),
    "VST": ("rouge_l",),
    "MV": ("overall",),
    "Flickr30k": ("cider", "meteor"),
    "COCO2017": ("cider", "meteor"),
    "DetailCaps": ("cider", "meteor"),
}
BENCHMARKS = tuple(SCORES)
COLUMNS = [(name, metric) for name, metrics in SCORES.items() for metric in metrics]
KINDS = {"overall": "group_mean", "cider": "corpus", "meteor": "corpus"}
CONFIGS = Path(__file__).parents[2] / "configs"
TOY = OmegaConf.load(CONFIGS / "profile" / "toy.yaml")
ABLATIONS = ("DetailCaps", "SD", "IE", "VST")  # benchmarks of Table 2 and Figure 6
# of Table 3: quality uncompressed, and PLPHP's relative to that
MODELS = {"qwen2_vl": (1.0, 1.02), "idefics2": (0.9, 0.97), "mantis": (0.8, 1.0)}
# α and β are the toy profile's own
PLPHP = {"r": 0.4, "delta_r": 0.3, **TOY.methods.llava_onevision.plphp, "gqa": "mean", "head_budget": "equal"}
# (method, parameters, printed setting, quality relative to uncompressed, retention)
ROWS = (
    ("none", {}, "", 1.0, 1.0),
    ("fastv", {"K": 2, "R": 0.75, "rows": "last"}, "K=2, R=0.75", 0.85, 0.44),
    ("fastv", {"K": 2, "R": 0.5, "rows": "last"}, "K=2, R=0.5", 0.9, 0.62),
    ("fastv", {"K": 2, "R": 0.25, "rows": "last"}, "K=2, R=0.25", 0.97, 0.81),
    ("vtw", {"K": 4}, "K=4", 0.2, 0.375),
    ("vtw", {"K": 6}, "K=6", 0.4, 0.5),
    ("vtw", {"K": 9}, "K=9", 0.8, 0.75),
    ("plphp", {**PLPHP, "r": 0.3}, "r=0.3, Δr=0.3", 0.96, 0.51),
    ("plphp", PLPHP, "r=0.4, Δr=0.3", 0.99, 0.58),
    ("plphp", {**PLPHP, "r": 0.5}, "r=0.5, Δr=0.3", 1.0, 0.66),
    (
        "random",
        {**PLPHP, "whole_layers": "plphp", "kv_share": None, "kv_tokens": None, "seed": 0, "shared": False},
        "r=0.4, Δr=0.3",
        0.9,
        0.58,
    ),
    ("uniform", {**PLPHP, "whole_layers": "plphp", "kv_share": None, "kv_tokens": None}, "r=0.4, Δr=0.3", 0.98, 0.58),
    (
        "shared_heads",
        {**PLPHP, "whole_layers": "plphp", "kv_share": None, "kv_tokens": None},
        "r=0.4, Δr=0.3",
        0.97,
        0.58,
    ),
)


def metric(samples, kind="mean", groups=None, value=None) -> dict:
    """One metric of a cell file; the value follows from the samples unless a corpus value is given."""
    samples = [float(score) for score in samples]
    if value is None and kind == "group_mean":
        names = sorted(set(groups))
        value = float(
            np.mean([np.mean([s for s, g in zip(samples, groups, strict=True) if g == name]) for name in names])
        )
    elif value is None and samples:
        value = float(np.mean(samples))
    return {"value": value, "kind": kind, "samples": samples, "groups": groups, "subsets": {}}


def cell(
    benchmark="SD", method="none", params=None, setting="", quality=1.0, retention=1.0, samples=48, failed=(), **changes
) -> dict:
    """A finished cell with `samples` documents; `failed` are the documents without an answer; `changes` replace fields.

    The document sets how hard a sample is, so scores of different methods on one document are correlated.
    """
    base = 0.9 * np.random.default_rng([7, len(benchmark), ord(benchmark[0])]).beta(4, 2, size=samples)
    noise = np.random.default_rng([8, *map(ord, method + setting + benchmark)]).normal(0, 0.03, size=samples)
    doc_ids = [int(doc) for doc in range(samples) if doc not in failed]
    score = np.clip(quality * base + noise, 0, None)[doc_ids]
    n = len(doc_ids)
    metrics = {}
    for name in SCORES[benchmark]:
        scale = {"cider": 2.0, "meteor": 0.5}.get(name, 1.0)
        groups = [("ScanQA", "ALFRED", "nuscenes")[doc % 3] for doc in doc_ids] if name == "overall" else None
        value = scale * float(score.mean()) + (0.01 if name == "meteor" else 0.0) if n else 0.0
        kind = KINDS.get(name, "mean")
        metrics[name] = metric(scale * score, kind, groups, value if kind == "corpus" else None)
    metrics["slot_accuracy"] = metric(np.clip(score * 1.1, 0, 1))
    full = 4096.0 * 400
    task = f"toy_{benchmark.lower()}"
    record = {
        "schema": 2, "cell": f"{task}-{method}-{setting}", "profile": "toy", "protocol": "lmms_eval",
        "model": "llava_onevision", "checkpoint": "tasks/toy/checkpoints/llava_onevision", "revision": "unrecorded",
        "dtype": "float32", "attn_implementation": "sdpa", "prompts": "lmms_eval",
        "versions": {"torch": "2.13.0", "transformers": "5.23.0", "lmms-eval": "0.7.3"},
        "code": {"scoring_code": {}}, "scores": 3, "extra_metrics": {},
        "method": method, "params": dict(params or {}), "setting": setting,
        "task": task, "benchmark": benchmark, "task_version": 1, "data_revision": "d0", "engine": "generate",
        "limit": None, "limit_seed": 0, "population": samples,
        "n": n, "errors": len(failed), "image_notes": {},
        "error_examples": ["OutOfMemoryError: 2 & 3_4 100%"] if failed else [],
        "doc_ids": doc_ids, "metrics": metrics,
        "efficiency": {
            "retention": [retention] * n, "kv_bytes": [full * (0.2 + 0.8 * retention)] * n, "kv_bytes_full": [full] * n,
            "prefill_ms": [20.0] * n, "decode_ms_per_token": [None] + [5.0] * (n - 1) if n else [],
            "decode_ms": [None] * n, "new_tokens": [12] * n, "prompt_tokens": [400] * n,
        },
        "batch_size": 8, "hardware": "2 CPU cores", "kernels": ["sdpa"], "answers_key": "0" * 64,
        "journal": "journal/x.jsonl",
        "manifest": "manifests/x.json", "finished": "2025-01-01T00:00:00Z",
    }  # fmt: skip
    return record | changes


def manifest(**changes) -> Manifest:
    """The manifest of a run that was finished after a minute."""
    usual = {
        "status": "finished", "started": "2026-01-01T10:00:00+00:00", "ended": "2026-01-01T10:01:05+00:00",
        "exit_code": 0, "error": None, "command": ["run.py", "table=table1"], "processes": 1, "profile": "toy",
        "protocol": "lmms_eval", "versions": {}, "commit": {"commit": "c" * 40, "dirty": True}, "configuration": {},
        "settings": {}, "seeds": {}, "hardware": {"cpu": "a CPU", "cores": 2, "gpus": []}, "revisions": {},
        "scored": [], "failed_cells": {}, "failed_samples": {},
    }  # fmt: skip
    return Manifest.model_validate(usual | changes)


def write(folder: Path, *records: dict) -> list[Path]:
    """Write cell files below `folder`/<profile>/cells, named after the cell unless the name is taken."""
    paths = []
    for record in records:
        cells = folder / record["profile"] / "cells"
        cells.mkdir(parents=True, exist_ok=True)
        path = cells / f"{record['cell']}.json"
        while path.exists():
            path = path.with_name(path.stem + "-again.json")
        path.write_text(json.dumps(record), encoding="utf-8")
        paths.append(path)
    return paths


def suite(rows=ROWS, benchmarks=tuple(SCORES), **changes) -> list[dict]:
    """Every cell of Table 1 on the toy profile."""
    return [
        cell(name, method, params, setting, quality, retention, **changes)
        for method, params, setting, quality, retention in rows
        for name in benchmarks
    ]


def of_table3(model, benchmarks=tuple(SCORES), profile="toy", **changes) -> list[dict]:
    """Both rows of one of Table 3's models on `benchmarks`."""
    records = []
    for row in rows_configured("table3", profile, model):
        plphp = row.method == "plphp"
        quality, relative = MODELS[model]
        quality, retention = (quality * relative, 0.55) if plphp else (quality, 1.0)
        changes = {"model": model, "checkpoint": f"tasks/toy/checkpoints/{model}", "profile": profile} | changes
        for name in benchmarks:
            setting = row.setting if plphp else ""
            record = cell(name, row.method, row.params if plphp else {}, setting, quality, retention, **changes)
            records.append(record | {"cell": f"{model}.{record['cell']}"})
    return records


def of_table(table, profile="toy", benchmarks=ABLATIONS, **changes) -> list[dict]:
    """Every cell of a table's configured rows on `benchmarks`.

    PLPHP keeps the fewer vision tokens the higher its thresholds are, and scores the better the more it keeps.
    """
    records = []
    for row in rows_configured(table, profile, "llava_onevision"):
        params = row.params if row.method != "none" else {}
        kept = 1.0 if row.method == "none" else 0.6
        if row.method == "plphp":
            kept = 0.2 + params["r"] - 0.2 * (params["alpha"] + params["beta"]) + 0.1 * params["delta_r"]
        quality, setting = 0.975 + 0.04 * kept, row.setting if params else ""
        for name in benchmarks:
            record = cell(name, row.method, params, setting, quality, kept, profile=profile, **changes)
            spread = np.random.default_rng(len(setting)).normal(0, 0.02 if params else 0, record["n"])
            record["efficiency"]["retention"] = (kept + spread).tolist()
            records.append(record)
    return records


def timed(
    method="none",
    params=None,
    setting="",
    speed=1.0,
    retention=1.0,
    samples=48,
    batch=8,
    benchmark="DetailCaps",
    **changes,
) -> dict:
    """A cell whose samples were answered in batches of `batch`: each batch has its own times, shared by its samples.

    `speed` divides the decode times. In batches of one, the last sample has no decode step.
    """
    record = cell(benchmark, method, params, setting, retention=retention, samples=samples, batch_size=batch, **changes)
    docs = np.array(record["doc_ids"], dtype=int)
    batches, count = docs // batch, -(-samples // batch)
    draw = np.random.default_rng([9, *map(ord, method + setting)])
    steps = draw.integers(5, 60, size=count)
    per_token = (3 + draw.gamma(2, 1.0, size=count)) / speed
    prefill = 20 + draw.gamma(2, 2.0, size=count)
    decode_ms = (steps * per_token)[batches]
    tokens = per_token[batches]
    if batch == 1 and len(docs):
        decode_ms[-1], tokens = 0.0, [*tokens[:-1].tolist(), None]
    kv = 4096.0 * draw.integers(300, 500, size=len(docs))
    kept = np.clip(retention + draw.normal(0, 0.02, len(docs)), 0, 1) if retention < 1 else np.ones(len(docs))
    record["efficiency"] |= {
        "prefill_ms": prefill[batches].tolist(), "decode_ms": decode_ms.tolist(), "decode_ms_per_token": list(tokens),
        "kv_bytes": (kv * (0.2 + 0.8 * retention)).tolist(), "kv_bytes_full": kv.tolist(),
        "retention": kept.tolist(),
    }  # fmt: skip
    return record


def of_costs(table="table4", profile="toy", speeds=None, **changes) -> list[dict]:
    """Every cell of a table of costs; `speeds`: by method, how much faster it decodes."""
    speeds = {"none": 1.0, "fastv": 1.05, "vtw": 1.1, "plphp": 1.2} | (speeds or {})
    kept = {"none": 1.0, "fastv": 0.62, "vtw": 0.5, "plphp": 0.58}
    records = []
    for row in rows_configured(table, profile, "llava_onevision"):
        params = row.params if row.method != "none" else {}
        setting = row.setting if row.method != "none" else ""
        ours = "delta_r" in row.params  # PLPHP and its controls, which keep as much
        retention = kept["plphp" if ours else row.method] * (1 + row.params["r"] - 0.4 if ours else 1)
        changed = {"profile": profile} | changes
        faster = speeds.get(row.method, speeds["plphp"])
        records.append(timed(row.method, params, setting, faster, retention, **changed))
    return records
