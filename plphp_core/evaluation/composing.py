"""Hydra composes the configuration; what does not compose is said in a sentence instead of Hydra's page."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from unittest.mock import patch

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from plphp_core.evaluation.errors import UserError

FULL_ERROR = "HYDRA_FULL_ERROR"  # Hydra's own switch: raise instead of printing and exiting


def register_resolvers(root: Path) -> None:
    """What the files in configs/ refer to: `${repository:path}`, from the repository root unless it is absolute."""
    OmegaConf.register_new_resolver("repository", lambda path: str(root / path), replace=True)


def compose_and_call(root: Path, job: Callable[[DictConfig], object]) -> None:
    """Call `job` with the configuration of the command line, or with each combination of a sweep (`-m`).

    Raises:
        UserError: the configuration does not compose.
        SystemExit: of Hydra's own options such as --help.
        Whatever `job` raises.
    """
    register_resolvers(root)
    if os.environ.get(FULL_ERROR) == "1":  # somebody wants to see Hydra's own
        _main(root, job)
        return
    with patch.dict(os.environ, {FULL_ERROR: "1"}):
        try:
            _main(root, job)
        except (HydraException, OmegaConfBaseException) as error:
            raise UserError(_sentence(root, error)) from error


def options(root: Path, group: str) -> list[str]:
    """The options of a group of configs/."""
    return sorted(path.stem for path in (root / "configs" / group).glob("*.yaml"))


def _main(root: Path, job: Callable[[DictConfig], object]) -> None:
    hydra.main(version_base="1.3", config_path=str(root / "configs"), config_name="config")(job)()


def _sentence(root: Path, error: Exception) -> str:
    said = str(error).strip().splitlines()[0].removeprefix("In 'config': ").rstrip(".")
    if isinstance(error, OverrideParseException):
        return f"cannot read {error.override}: {said}"
    elsewhere = any("launcher" in _group(one) and not one.endswith("=local") for one in sys.argv[1:])
    if elsewhere and not _submitit_is_there():
        return f"{said}; it needs the package hydra-submitit-launcher: `pip install 'plphp[slurm]'`, or `make setup`"
    return "; ".join([said, *allowed(root, sys.argv[1:])])


def _submitit_is_there() -> bool:
    try:
        return find_spec("hydra_plugins.hydra_submitit_launcher") is not None
    except ModuleNotFoundError:  # no plugins at all
        return False


def allowed(root: Path, overrides: list[str]) -> list[str]:
    """For each key and option of the command line that the configuration does not know: those it knows there."""
    groups = {path.name: options(root, path.name) for path in (root / "configs").iterdir() if path.is_dir()}
    pairs = [one for one in overrides if "=" in one and "/" not in _group(one) and not one.startswith("--")]
    known = [pair for pair in pairs if _group(pair) in groups]
    wrong = {_group(pair) for pair in known if not set(_values(pair)) <= {*groups[_group(pair)], "null"}}
    lines = [f"options of {group}: {', '.join(groups[group])}" for group in sorted(wrong)]
    GlobalHydra.instance().clear()
    try:
        with hydra.initialize_config_dir(version_base="1.3", config_dir=str(root / "configs")):
            chosen = [pair for pair in known if _group(pair) not in wrong and not _sweeps(pair)]
            config = hydra.compose(config_name="config", overrides=chosen)
    except (HydraException, OmegaConfBaseException):
        return lines
    for pair in pairs:
        parent, _, name = pair.split("=", 1)[0].lstrip("+~").rpartition(".")
        with open_dict(config):
            node = OmegaConf.select(config, parent) if parent else config
        if isinstance(node, DictConfig) and name not in node:
            lines.append(f"known keys of {parent or 'the configuration'}: {', '.join(map(str, node))}")
    return lines


def _group(override: str) -> str:
    return override.split("=", 1)[0].lstrip("+") if "=" in override else ""


def _values(override: str) -> list[str]:
    return [value.strip(" []") for value in override.split("=", 1)[1].split(",")]


def _sweeps(override: str) -> bool:
    value = override.split("=", 1)[1]
    return "," in value and not value.startswith("[")
