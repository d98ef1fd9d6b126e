"""The state of an interrupted training: weights and optimizers in one safetensors file, replaced atomically."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn, optim


def save_state(
    path: Path, modules: dict[str, nn.Module], optimizers: list[optim.Optimizer], progress: dict[str, str]
) -> None:
    """Write weights, the optimizers' tensors and `progress` (text to text); a reader sees the old file or the new."""
    tensors: dict[str, Tensor] = {}
    for name, module in modules.items():
        tensors |= {f"{name}/{key}": value for key, value in module.named_parameters()}
    for name, optimizer, parameter in _parameters(optimizers):
        kept = optimizer.state.get(parameter, {})  # none for a weight that got no gradient
        tensors |= {f"{name}/{key}": value for key, value in kept.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".partial")
    save_file({key: value.detach().contiguous() for key, value in tensors.items()}, fresh, metadata=progress)
    os.replace(fresh, path)


def read_progress(path: Path) -> dict[str, str] | None:
    """What `save_state` was told, or None if there is no state."""
    if not path.exists():
        return None
    with safe_open(path, framework="pt") as file:
        return file.metadata()


def load_weights(path: Path, modules: dict[str, nn.Module]) -> None:
    """Fill the modules from a state; modules that the state does not know are left alone."""
    with safe_open(path, framework="pt") as file:
        known = set(file.keys())
        for name, module in modules.items():
            for key, parameter in module.named_parameters():
                if f"{name}/{key}" in known:
                    parameter.data.copy_(file.get_tensor(f"{name}/{key}"))


def load_optimizers(path: Path, optimizers: list[optim.Optimizer]) -> None:
    """Restore the optimizers of a state written in the same stage."""
    with safe_open(path, framework="pt") as file:
        saved = [key.rpartition("/") for key in file.keys()]  # noqa: SIM118  not a dictionary
        for name, optimizer, parameter in _parameters(optimizers):
            kept = {key: file.get_tensor(f"{name}/{key}") for owner, _, key in saved if owner == name}
            if kept:
                optimizer.state[parameter] = kept


def _parameters(optimizers: list[optim.Optimizer]) -> Iterator[tuple[str, optim.Optimizer, nn.Parameter]]:
    for number, optimizer in enumerate(optimizers):
        every = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        yield from ((f"optimizer/{number}/{i}", optimizer, parameter) for i, parameter in enumerate(every))
