"""Settings of benchmarks that take seconds."""

from pathlib import Path

from plphp_core.bench.bench_machine import Machine
from plphp_core.bench.bench_settings import bench_from_config

ROOT = Path(__file__).resolve().parents[2]
PARAMS = {"plphp": {"delta_r": 0.3}, "fastv": {"K": 2, "R": 0.5}, "vtw": {"K": 3}}
MACHINE = Machine("made up", 2e9, 1e9, {})


def config(out, model=None, **bench):
    """A composed configuration of the tiny shape as plain data."""
    given = {
        "name": "test",
        "device": "cpu",
        "dtype": "float32",
        "models": ["tiny"],
        "regimes": ["legacy", "generate", "fast"],
        "methods": ["none", "plphp", "fastv", "vtw"],
        "batch": [1, 2],
        "vision_tokens": [130],
        "retention": [0.4],
        "params": PARAMS,
        "text_tokens": 20,
        "warm_up": 1,
        "rounds": 3,
        "steps": 2,
        "at_least": 3,
        "group_seconds": 1,
        "prefill_rounds": 1,
        "bandwidth_mb": 8,
    }
    no_checkpoint = {"checkpoint": None, "family": "llava_onevision", "revision": None, "image_size": 96}
    return {
        "bench": given | bench,
        "model": no_checkpoint | (model or {}),
        "device": None,
        "dtype": None,
        "results": str(out),
    }


def settings(out, model=None, **bench):
    return bench_from_config(config(out, model, **bench), ROOT)
