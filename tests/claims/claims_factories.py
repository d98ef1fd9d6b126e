"""Synthetic results of the paper's profile in which every claim's truth is chosen, and ledgers made of them."""

import numpy as np

from plphp_core import claims
from plphp_core.config.report_choices import Filters, Options
from plphp_core.config.report_settings import ReportSettings
from plphp_core.records.cell_result import load_cells
from plphp_core.reporting.configured import rows_configured
from plphp_core.reporting.request import ReportRequest
from tests.reporting import factories
from tests.reporting.attention_factories import reading
from tests.reporting.reports_made import PUBLISHED, ROOT

CHECKPOINTS = {
    "llava_onevision": "llava-hf/llava-onevision-qwen2-7b-ov-hf",
    "qwen2_vl": "Qwen/Qwen2-VL-7B-Instruct",
    "idefics2": "HuggingFaceM4/idefics2-8b",
    "mantis": "TIGER-Lab/Mantis-8B-siglip-llama3",
}
A100 = "NVIDIA A100-SXM4-80GB"
KEPT = {"none": 1.0, "fastv": {0.75: 0.3, 0.5: 0.55, 0.25: 0.78}, "vtw": {10: 0.36, 14: 0.5, 20: 0.71}}


def paper_cells(
    table, benchmarks=tuple(factories.SCORES), model="llava_onevision", right=True, **changes
) -> list[dict]:
    """Every cell of a table's rows on the paper's profile; `right`: as if the paper were right, or wrong in all."""
    changes = {
        "profile": "paper",
        "model": model,
        "checkpoint": CHECKPOINTS[model],
        "hardware": A100,
        "batch_size": 1,
        "samples": 60,
    } | changes
    records = []
    for row in rows_configured(table, "paper", model):
        plain = row.method == "none"
        setting, params = ("", {}) if plain else (row.setting, row.params)
        for name in benchmarks:
            numbers = quality(row, right), kept(row, model, right)
            record = factories.cell(name, row.method, params, setting, *numbers, **changes)
            records.append(record | {"cell": f"{model}.{record['cell']}"})
    return records


def kept(row, model="llava_onevision", right=True) -> float:
    if row.method not in KEPT:  # PLPHP and its controls, which keep as much
        p, sign = row.params, 1 if right else -1
        start = 0.33 if model == "llava_onevision" else 0.27
        return start + (0 if right else 0.2) + (p["r"] - 0.4) - sign * 0.2 * (p["alpha"] + p["beta"] - 0.35)
    found = KEPT[row.method]
    return found if isinstance(found, float) else found[row.params.get("R", row.params.get("K"))]


def quality(row, right=True) -> float:
    """FastV and VTW lose, PLPHP gains, more with Δr, less with α and β; where the paper is wrong, the reverse."""
    if row.method == "plphp":
        p = row.params
        gain = 0.2 * p["delta_r"] + 0.1 * (p["r"] - 0.4) - 0.3 * (p["alpha"] + p["beta"] - 0.35)
        return 0.95 + gain if right else 0.75 - gain
    controls = dict.fromkeys(("random", "uniform", "shared_heads"), 0.7)
    return {"none": 0.95, "fastv": 0.88, "vtw": 0.6 if right else 0.85, **controls}[row.method]


def timed(records, added_ms=2.0, faster=1.3) -> list[dict]:
    """The records with times of their own per sample: PLPHP adds `added_ms` to a prefill and decodes `faster`."""
    for record in records:
        draw = np.random.default_rng(3)  # the same in every row: a sample is what it is
        n, ours = record["n"], record["method"] == "plphp"
        record["efficiency"] |= {
            "prefill_ms": (200 + 50 * draw.random(n) + (added_ms if ours else 0) + 0.1 * draw.random(n)).tolist(),
            "decode_ms_per_token": ((20 + 2 * draw.random(n)) / (faster if ours else 1)).tolist(),
        }
    return records


def everything(right=True, **changes) -> list[dict]:
    """The cells of every claim but C14, no two for one place."""
    changes = {"right": right} | changes
    records = paper_cells("table1", **changes)
    for table in ("table2", "figure6"):  # Table 5's rows are among those of Table 1
        records += paper_cells(table, factories.ABLATIONS, **changes)
    for model in ("qwen2_vl", "idefics2", "mantis"):
        six = tuple(factories.SCORES)[: 7 if model == "qwen2_vl" else 6]
        records += paper_cells("table3", six, model, **changes)
    places = {(one["model"], one["method"], str(one["params"]), one["benchmark"]): one for one in records}
    slow = {} if right else {"added_ms": 30.0, "faster": 1.05}
    timed([one for (*_, name), one in places.items() if name == "DetailCaps"], **slow)
    return list(places.values())


def asked(folder, profile="paper", resamples=200, filters=None, **options) -> ReportRequest:
    """What `scripts/report.py claims` hands on."""
    known = {"profile": profile, "results": folder, "published": PUBLISHED, "model": "llava_onevision"} | options
    known |= {"filters": filters or Filters(), "choices": Options(resamples=resamples)}
    cells = load_cells(folder / profile / "cells", profile)
    return ReportRequest(cells, ReportSettings("claims", **known), ROOT)


def ledger(folder, records=(), **options) -> dict[str, claims.ClaimFinding]:
    """Claim → finding, from these cells."""
    factories.write(folder, *records)
    return {one.claim.id: one for one in claims.findings(asked(folder, **options))}


def readings(folder, profile="paper", models=tuple(CHECKPOINTS), samples=40, rise=0.2, noise=0.03,
             benchmarks=factories.BENCHMARKS, **changes) -> None:  # fmt: skip
    """Attention readings: γ falls from 0.6 to 0.2 over the first half, then wins back `rise`."""
    there = folder / profile / "attention"
    gamma = np.array([0.5, 0.6, 0.5, 0.4, 0.3, 0.2, 0.2 + rise, 0.2 + rise / 2, 0.2 + rise / 3])
    for model in models:
        for name in benchmarks:
            drawn = gamma + noise * np.random.default_rng([5, len(model), *map(ord, name)]).normal(
                size=(samples, len(gamma))
            )
            known = {"profile": profile, "checkpoint": CHECKPOINTS[model], "revision": "r", "dtype": "bfloat16",
                     "task": name.lower(), "limit": None, "population": 40, "hardware": A100, "located": True,
                     "vision_attention": drawn.tolist()}  # fmt: skip
            reading(there, model, name, gamma, samples, **known | changes)
