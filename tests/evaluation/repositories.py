"""A working directory: its configuration before the packaged one, on the little world's tasks; two models, a table."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

from omegaconf import OmegaConf

from plphp_core.cli import entry_point
from tests.evaluation.factories import save_checkpoint

ROOT = Path(__file__).resolve().parents[2]
MODEL = """
name: {name}
family: llava_onevision
checkpoint: {name}
revision: null
dtype: {dtype}
"""
PAIR = """
name: pair
models: [one, two]
skip: [two/SD]
rows: {toy: [{method: none}, {method: plphp, r: 0.4}], paper: [{method: none}]}
"""


def make_repository(root: Path, world: Path) -> Path:
    """The models `one` and `two`, the table `pair` of both, benchmarks `mini` (SD and IE) and `alone` (SD)."""
    for group in ("model", "table", "tasks", "profile"):
        (root / "configs" / group).mkdir(parents=True)
    for name in ("tasks", "data"):
        (root / name).symlink_to(world / name)
    for number, name in enumerate(("one", "two")):
        dtype = ("float32", "float16")[number]
        (root / "configs" / "model" / f"{name}.yaml").write_text(MODEL.format(name=name, dtype=dtype))
        save_checkpoint(root / name, seed=number)
    (root / "configs" / "table" / "pair.yaml").write_text(PAIR)
    (root / "configs" / "tasks" / "mini.yaml").write_text("a: SD\nb: IE\n")
    (root / "configs" / "tasks" / "alone.yaml").write_text("a: SD\n")
    (root / "configs" / "tasks" / "other.yaml").write_text("b: IE\n")
    profile = OmegaConf.load(ROOT / "configs" / "profile" / "toy.yaml")
    profile.update({"task_prefix": "mini_", "data_root": "data", "extra_metrics": {}, "checkpoints": {}})
    profile.methods = {"two": {"plphp": {"alpha": 0.5, "beta": 0.3}}}
    profile.samples, profile.seconds_per_sample = {"a": 10, "b": 10}, {"any": {"prefill": 2.0, "decode": 1.0}}
    OmegaConf.save(profile, root / "configs" / "profile" / "toy.yaml")
    return root


def command(repository: Path, results: Path, monkeypatch, capfd) -> Callable[..., SimpleNamespace]:
    """Runs the command line in `repository`; gives exit code, what was said, cells by (model, method, label)."""

    def go(*arguments: str) -> SimpleNamespace:
        switches = [one for one in arguments if one.startswith("-")]  # Hydra wants them first
        others = [one for one in arguments if not one.startswith("-")]
        monkeypatch.chdir(repository)
        code = entry_point.command("run", [*switches, *others, f"results={results}"])
        out, said = capfd.readouterr()
        files = [json.loads(path.read_text()) for path in (results / "toy" / "cells").glob("*.json")]
        cells = {(cell["model"], cell["method"], cell["benchmark"]): cell for cell in files}
        return SimpleNamespace(code=code, said=said, out=out, files=files, cells=cells)

    return go
