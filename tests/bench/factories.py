"""Settings of benchmarks that take seconds."""

from pathlib import Path

from plphp_core.bench.bench_settings import BenchSettings
from plphp_core.bench.roofline import MeasuredMachine

ROOT = Path(__file__).resolve().parents[2]
MACHINE = MeasuredMachine("made up", 2e9, 1e9, {})


def settings(**given):
    """Of the tiny shape."""
    tiny = {
        "name": "test",
        "device": "cpu",
        "dtype": "float32",
        "models": ["tiny"],
        "backends": ["legacy", "generate", "fast"],
        "methods": ["none", "plphp", "fastv", "vtw"],
        "batch": [1, 2],
        "vision_tokens": [130],
        "retention": [0.4],
        "params": {"plphp": {"delta_r": 0.3}, "fastv": {"K": 2, "R": 0.5}, "vtw": {"K": 3}},
        "text_tokens": 20,
        "warm_up": 1,
        "rounds": 3,
        "group_seconds": 1,
        "prefill_rounds": 1,
    }
    return BenchSettings(**{**tiny, **given})
