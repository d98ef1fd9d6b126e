"""Ways in which a checkpoint can be damaged: functions that break one thing in the folder of a good copy."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

WEIGHTS = "model.safetensors"
FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
Damage = Callable[[Path], None]


def edited(name: str, **changes) -> Damage:
    """Set keys of a JSON file, `a__b` for nested ones; None removes the key."""

    def damage(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        for path, value in changes.items():
            *parents, key = path.split("__")
            node = content
            for parent in parents:
                node = node[parent]
            node.pop(key) if value is None else node.update({key: value})
        (folder / name).write_text(json.dumps(content))

    return damage


def without(name: str) -> Damage:
    return lambda folder: (folder / name).unlink()


def torn(name: str) -> Damage:
    """Half of a file, as a copy that was cut short leaves it."""

    def damage(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])

    return damage


def replaced(old: str, new: str, *names: str) -> Damage:
    """Other words in text files."""

    def damage(folder: Path) -> None:
        for name in names:
            text = (folder / name).read_text()
            assert old in text or len(names) > 1
            (folder / name).write_text(text.replace(old, new))

    return damage


def renamed_token(token: str) -> Damage:
    """A special token becomes an ordinary word of another name."""
    return replaced(token, f"{token[:-2]}x{token[-2:]}", "tokenizer.json", "tokenizer_config.json")


def tensors(change: Callable[[dict], dict]) -> Damage:
    """Rewrite the weights with `change(name → tensor)`."""

    def damage(folder: Path) -> None:
        save_file(change(load_file(folder / WEIGHTS)), folder / WEIGHTS, metadata={"format": "pt"})

    return damage


def shard(folder: Path) -> None:
    """No damage: weights in two files and an index, as larger checkpoints are."""
    state = load_file(folder / WEIGHTS)
    halves = {FIRST: sorted(state)[::2], SECOND: sorted(state)[1::2]}
    for file, names in halves.items():
        save_file({name: state[name] for name in names}, folder / file, metadata={"format": "pt"})
    places = {name: file for file, names in halves.items() for name in names}
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    (folder / WEIGHTS).unlink()


def missing_shard(folder: Path) -> None:
    shard(folder)
    (folder / SECOND).unlink()


def swapped_shards(folder: Path) -> None:
    shard(folder)
    shutil.copy(folder / FIRST, folder / SECOND)


def only_pickled(folder: Path) -> None:
    torch.save(load_file(folder / WEIGHTS), folder / "pytorch_model.bin")
    (folder / WEIGHTS).unlink()


def with_nan(state: dict) -> dict:
    name = next(name for name in state if "layers.4.mlp.gate_proj" in name)
    changed = state[name].clone()
    changed[0, 0] = float("nan")
    return state | {name: changed}


def zeros(state: dict) -> dict:
    """What a sparse copy leaves: a file of the right size without content."""
    return {name: torch.zeros_like(tensor) for name, tensor in state.items()}
