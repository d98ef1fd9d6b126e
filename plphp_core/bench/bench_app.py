"""The command `bench`: compose, check, measure, write."""

from __future__ import annotations

import shlex
import time
from pathlib import Path

from omegaconf import OmegaConf

from plphp_core.bench.bench_settings import GRID, bench_from_config
from plphp_core.bench.bench_tables import file_slug
from plphp_core.bench.capacity_benchmark import capacity_benchmark
from plphp_core.bench.scoring_benchmark import scoring_benchmark
from plphp_core.bench.sharing_benchmark import sharing_benchmark
from plphp_core.bench.speed_benchmark import speed_benchmark
from plphp_core.config.hydra_app import composed
from plphp_core.records.atomic import write_atomically

BENCHMARKS = {
    "speed": speed_benchmark,
    "memory": capacity_benchmark,
    "sharing": sharing_benchmark,
    "scores": scoring_benchmark,
}
LISTS = tuple(f"bench.{name}" for name in (*GRID, "delta_r", "windows"))


def main(arguments: list[str]) -> int:
    """Measure what the arguments ask for. Returns 0. Raises UserError; OSError for a file that cannot be written."""
    bench = bench_from_config(OmegaConf.to_container(composed(arguments, "bench", LISTS), resolve=True))
    began = time.perf_counter()
    result = BENCHMARKS[bench.kind](bench)
    page = result.page(shlex.join(["plphp", "bench", *arguments]), time.perf_counter() - began)
    stem = bench.out / f"{bench.name}-{file_slug(result.device)}"
    for suffix, text in ((".csv", result.csv()), (".md", page)):
        path = stem.with_name(stem.name + suffix)
        write_atomically(path, text)
        print(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
    return 0
