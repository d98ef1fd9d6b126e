"""The state of an interrupted training: weights and optimizer in one safetensors file, replaced atomically."""

from __future__ import annotations

import os
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn, optim

_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


def save_state(path: Path, modules: dict[str, nn.Module], optimizer: optim.Optimizer, progress: dict[str, str]) -> None:
    """Write weights, AdamW moments and `progress` (text to text); a reader sees the old file or the new one."""
    tensors: dict[str, Tensor] = {}
    for name, module in modules.items():
        tensors |= {f"{name}/{key}": value for key, value in module.named_parameters()}
    for group in optimizer.param_groups:
        for i, parameter in enumerate(group["params"]):
            moments = optimizer.state.get(parameter, {})  # none for a weight that got no gradient
            tensors |= {f"adam/{i}/{key}": moments[key] for key in _MOMENTS if key in moments}
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


def load_optimizer(path: Path, optimizer: optim.Optimizer) -> None:
    """Restore the AdamW moments of a state written in the same stage."""
    with safe_open(path, framework="pt") as file:
        known = set(file.keys())
        for group in optimizer.param_groups:
            for i, parameter in enumerate(group["params"]):
                if f"adam/{i}/step" in known:
                    optimizer.state[parameter] = {key: file.get_tensor(f"adam/{i}/{key}") for key in _MOMENTS}
