"""The command line of `scripts/bench.py`."""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from plphp_core.bench import capacity_benchmark as memory
from plphp_core.bench import sharing_benchmark as sharing
from plphp_core.bench import speed_benchmark as speed
from plphp_core.bench.bench_machine import load, look_at
from plphp_core.bench.bench_models import source
from plphp_core.bench.bench_settings import GRID, BenchSettings, bench_from_config
from plphp_core.bench.bench_tables import capacity_markdown, disturbance, speed_markdown, to_csv
from plphp_core.bench.speed_plot import plot_speed
from plphp_core.config.hydra_app import composed
from plphp_core.records.atomic import write_atomically
from plphp_core.records.errors import UserError

LISTS = tuple(f"bench.{name}" for name in (*GRID, "delta_r", "prefill_vision_tokens"))
USAGE = """usage: python scripts/bench.py [bench=cpu|gpu|memory|sharing] [option=value …]

Measures decoding beside its floor; writes results/bench/. Options are those of configs/bench.yaml and
configs/bench/<preset>.yaml. Whoever names methods, batch, lengths or the like gets those rows, without the preset's
bench.also. For example:
  bench=gpu bench.batch=[1,64] bench.vision_tokens=[7000]
  bench.methods=[none,plphp] bench.retention=[0.3,0.4] bench.regimes=[fast]
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
        bench = bench_from_config(_composed(root, arguments), root)
        command = shlex.join(["python", "scripts/bench.py", *arguments])
        files = {"speed": _speed, "memory": _capacity, "sharing": _sharing}[bench.kind](bench, command)
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


def _composed(root: Path, arguments: list[str]) -> dict:
    config = OmegaConf.to_container(composed(root, arguments, "bench", LISTS), resolve=True)
    named = {argument.split("=")[0] for argument in arguments}
    if named & {f"bench.{name}" for name in GRID} and "bench.also" not in named:
        config["bench"]["also"] = []  # whoever names the rows wants these and no others
    return config


def _speed(bench: BenchSettings, command: str) -> list[Path]:
    began = time.perf_counter()
    machine = look_at(bench.device, bench.dtype, bench.bandwidth_mb)
    rows = speed.measure(bench, machine)
    seconds = time.perf_counter() - began
    if "load before" in machine.notes:
        machine.notes["load after"] = load()
    warning = disturbance(rows)
    if warning:
        print(f"warning: {warning}", file=sys.stderr)
    stem = _stem(bench, machine.slug)
    texts = {
        ".csv": to_csv(rows, speed.COLUMNS),
        ".md": speed_markdown(rows, machine, command, seconds),
    }
    return [*_write(stem, texts), *plot_speed(rows, machine, stem)]


def _capacity(bench: BenchSettings, command: str) -> list[Path]:
    import torch

    budget = bench.memory_gb or 80
    rows = memory.capacity(bench)
    device = torch.cuda.get_device_name() if bench.device.startswith("cuda") else "computed"
    note = (
        f"{budget:g} GB hold the weights, 1 GB of room, and per sample its keys and values, {bench.new_tokens} slots "
        "for new tokens, its logits, and the largest layer once more while it is copied into slots. Prompts are "
        f"prefilled one after the other. Device: {device}; {bench.dtype}."
    )
    texts = {".csv": to_csv(rows, memory.COLUMNS), ".md": capacity_markdown(rows, note, command)}
    return _write(_stem(bench, "-".join(device.lower().split())), texts)


def _sharing(bench: BenchSettings, command: str) -> list[Path]:
    machine = look_at(bench.device, bench.dtype, bench.bandwidth_mb)
    rows = [row for name in bench.models for row in sharing.measure_sharing(source(name, bench), bench, print)]
    notes = "; ".join([machine.name, bench.dtype, *(f"{name} {value}" for name, value in machine.notes.items())])
    texts = {".csv": to_csv(rows, sharing.COLUMNS), ".md": sharing.sharing_markdown(rows, notes, command)}
    return _write(_stem(bench, machine.slug), texts)


def _stem(bench: BenchSettings, device: str) -> Path:
    return bench.out / f"{bench.name}-{device}"


def _write(stem: Path, texts: dict[str, str]) -> list[Path]:
    files = []
    for suffix, text in texts.items():
        path = stem.with_name(stem.name + suffix)
        write_atomically(path, text)
        files.append(path)
    return files
