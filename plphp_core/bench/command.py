"""The command line of `scripts/bench.py`."""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from plphp_core.bench import capacity as memory
from plphp_core.bench import measure as speed
from plphp_core.bench.device import load, look_at
from plphp_core.bench.plots import plot_speed
from plphp_core.bench.report import capacity_markdown, speed_markdown, to_csv
from plphp_core.bench.settings import Bench, bench_from_config
from plphp_core.evaluation.errors import UserError

USAGE = """usage: python scripts/bench.py [bench=cpu|gpu|memory] [option=value …]

Measures decoding beside its floor; writes results/bench/. Options are those of configs/bench.yaml and
configs/bench/<preset>.yaml, for example:
  bench=gpu bench.batch=[1,64] bench.vision_tokens=[7000]
  bench.methods=[none,plphp] bench.retention=[0.3,0.4] bench.regimes=[fast]
  model.checkpoint=tasks/toy/checkpoints/llava_onevision model.image_size=96 bench.vision_tokens=[144]
"""


def main(root: Path, arguments: list[str]) -> int:
    """Measure what the arguments ask for. Returns 0; 2 for a request that cannot be served, said in one sentence."""
    if "--help" in arguments or "-h" in arguments:
        print(USAGE, end="")
        return 0
    try:
        bench = bench_from_config(_composed(root, arguments), root)
        command = shlex.join(["python", "scripts/bench.py", *arguments])
        files = (_capacity if bench.kind == "memory" else _speed)(bench, command)
    except (UserError, OmegaConfBaseException, HydraException) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    for path in files:
        print(path.relative_to(root) if path.is_relative_to(root) else path)
    return 0


def _composed(root: Path, arguments: list[str]) -> dict:
    with initialize_config_dir(version_base="1.3", config_dir=str(root / "configs")):
        return OmegaConf.to_container(compose(config_name="bench", overrides=arguments), resolve=True)


def _speed(bench: Bench, command: str) -> list[Path]:
    began = time.perf_counter()
    machine = look_at(bench.device, bench.dtype, bench.bandwidth_mb)
    rows = speed.measure(bench, machine)
    seconds = time.perf_counter() - began
    if "load before" in machine.notes:
        machine.notes["load after"] = load()
    stem = _stem(bench, machine.slug)
    texts = {
        ".csv": to_csv(rows, speed.COLUMNS),
        ".md": speed_markdown(rows, machine, command, seconds),
    }
    return [*_write(stem, texts), *plot_speed(rows, machine, stem)]


def _capacity(bench: Bench, command: str) -> list[Path]:
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


def _stem(bench: Bench, device: str) -> Path:
    bench.out.mkdir(parents=True, exist_ok=True)
    return bench.out / f"{bench.name}-{device}"


def _write(stem: Path, texts: dict[str, str]) -> list[Path]:
    files = []
    for suffix, text in texts.items():
        path = stem.with_name(stem.name + suffix)
        path.write_text(text, encoding="utf-8")
        files.append(path)
    return files
