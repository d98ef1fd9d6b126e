"""The command `bench`: compose, check, measure, write."""

from __future__ import annotations

import shlex
import time
from pathlib import Path

from omegaconf import OmegaConf

from plphp_core.bench.bench_settings import GRID, bench_from_config
from plphp_core.bench.bench_tables import file_slug
from plphp_core.bench.capacity_benchmark import capacity_benchmark
from plphp_core.bench.sharing_benchmark import sharing_benchmark
from plphp_core.bench.speed_benchmark import speed_benchmark
from plphp_core.bench.speed_plot import plot_speed
from plphp_core.config.hydra_app import composed
from plphp_core.records.atomic import write_atomically

BENCHMARKS = {"speed": speed_benchmark, "memory": capacity_benchmark, "sharing": sharing_benchmark}
LISTS = tuple(f"bench.{name}" for name in (*GRID, "delta_r", "prefill_vision_tokens"))


def main(arguments: list[str]) -> int:
    """Measure what the arguments ask for. Returns 0. Raises UserError; OSError for a file that cannot be written."""
    bench = bench_from_config(composed_bench(arguments))
    began = time.perf_counter()
    result = BENCHMARKS[bench.kind](bench)
    page = result.page(shlex.join(["plphp", "bench", *arguments]), time.perf_counter() - began)
    stem = bench.out / f"{bench.name}-{file_slug(result.device)}"
    files = [stem.with_name(stem.name + suffix) for suffix in (".csv", ".md")]
    for path, text in zip(files, (result.csv(), page), strict=True):
        write_atomically(path, text)
    if bench.kind == "speed":
        files += plot_speed(result.rows, result.device, stem)
    for path in files:
        print(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
    return 0


def composed_bench(arguments: list[str]) -> dict:
    """The configuration as plain data; whoever names the rows gets these and no others."""
    config = OmegaConf.to_container(composed(arguments, "bench", LISTS), resolve=True)
    named = {argument.split("=")[0] for argument in arguments}
    if named & {f"bench.{name}" for name in GRID} and "bench.also" not in named:
        config["bench"]["also"] = []
    return config
