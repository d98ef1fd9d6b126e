"""The command `bench`: compose, check, measure, write."""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from plphp_core.bench.bench_settings import GRID, bench_from_config
from plphp_core.bench.bench_tables import file_slug
from plphp_core.bench.capacity_benchmark import capacity_benchmark
from plphp_core.bench.sharing_benchmark import sharing_benchmark
from plphp_core.bench.speed_benchmark import speed_benchmark
from plphp_core.bench.speed_plot import plot_speed
from plphp_core.config.hydra_app import composed
from plphp_core.records.atomic import write_atomically
from plphp_core.records.errors import UserError

BENCHMARKS = {"speed": speed_benchmark, "memory": capacity_benchmark, "sharing": sharing_benchmark}
LISTS = tuple(f"bench.{name}" for name in (*GRID, "delta_r", "prefill_vision_tokens"))
USAGE = """usage: python scripts/bench.py [bench=cpu|gpu|memory|sharing] [option=value …]

Measures decoding beside its roofline; writes results/bench/. Options are those of configs/bench.yaml and
configs/bench/<preset>.yaml. Whoever names methods, batch, lengths or the like gets those rows, without the preset's
bench.also. For example:
  bench=gpu bench.batch=[1,64] bench.vision_tokens=[7000]
  bench.methods=[none,plphp] bench.retention=[0.3,0.4] bench.backends=[fast]
  bench.rounds=20
  model.checkpoint=tasks/toy/checkpoints/llava_onevision model.image_size=96 bench.vision_tokens=[144]
"""


def main(root: Path, arguments: list[str]) -> int:
    """Measure what the arguments ask for. Returns 0; 2 for a request that cannot be served, 1 for a file that cannot be
    written, said in one sentence.
    """
    if "--help" in arguments or "-h" in arguments:
        print(USAGE, end="")
        return 0
    try:
        bench = bench_from_config(composed_bench(root, arguments), root)
        began = time.perf_counter()
        result = BENCHMARKS[bench.kind](bench)
        page = result.page(shlex.join(["python", "scripts/bench.py", *arguments]), time.perf_counter() - began)
        stem = bench.out / f"{bench.name}-{file_slug(result.device)}"
        files = [stem.with_name(stem.name + suffix) for suffix in (".csv", ".md")]
        for path, text in zip(files, (result.csv(), page), strict=True):
            write_atomically(path, text)
        if bench.kind == "speed":
            files += plot_speed(result.rows, result.device, stem)
    except (UserError, OmegaConfBaseException) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    for path in files:
        print(path.relative_to(root) if path.is_relative_to(root) else path)
    return 0


def composed_bench(root: Path, arguments: list[str]) -> dict:
    """The configuration as plain data; whoever names the rows gets these and no others."""
    config = OmegaConf.to_container(composed(root, arguments, "bench", LISTS), resolve=True)
    named = {argument.split("=")[0] for argument in arguments}
    if named & {f"bench.{name}" for name in GRID} and "bench.also" not in named:
        config["bench"]["also"] = []
    return config
