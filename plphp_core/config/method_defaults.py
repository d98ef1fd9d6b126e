"""What a method's parameters are where nobody says otherwise: its file in configs/method/, else its own defaults."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from omegaconf import OmegaConf

from plphp_core.pruning.method import make_method, method_names, not_loaded
from plphp_core.records.errors import UserError, unknown


def method_defaults(configs: Path, name: str, profile: Mapping, model: Mapping) -> dict:
    """`name`, `setting` (how a row is printed) and every parameter.

    Args:
        profile, model: of the configuration, which a method's file refers to: a profile may have values for a model.
    Raises:
        UserError: no such method.
    """
    path = configs / "method" / f"{name}.yaml"
    if not path.is_file():
        return own_defaults(name)
    scope = OmegaConf.create({"profile": profile, "model": model, "method": OmegaConf.load(path)})
    return OmegaConf.to_container(scope.method, resolve=True)


def own_defaults(name: str) -> dict:
    """The same from the method's dataclass, for one without a file. Raises UserError."""
    if name not in method_names():
        raise unknown_method(name)
    made = make_method(name)
    return {"name": name, "setting": "", **(made.params() if made is not None else {})}


def unknown_method(name: object) -> UserError:
    """Names the methods there are, and the modules that could not be loaded, one of which may be meant."""
    return UserError(f"{unknown('method', name, method_names())}{not_loaded()}")
