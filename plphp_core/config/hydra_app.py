"""Hydra composes the configuration; what does not compose is said in a sentence instead of Hydra's page."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from unittest.mock import patch

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from plphp_core.config.method_defaults import own_defaults
from plphp_core.pruning.method import method_names, not_loaded
from plphp_core.records.errors import UserError

FULL_ERROR = "HYDRA_FULL_ERROR"  # Hydra's own switch: raise instead of printing and exiting
LISTS = ("tasks", "table.models", "table.skip", "attention.models")  # keys of which several values are one list
SEVERAL = re.compile(r"Ambiguous value for argument '(.*)'")


def register_resolvers(root: Path) -> None:
    """What the files in configs/ refer to: `${repository:path}`, from the repository root unless it is absolute.

    Methods without a file there become options of the group `method` too.
    """
    OmegaConf.register_new_resolver("repository", lambda path: str(root / path), replace=True)
    for name in set(method_names()) - set(_files(root, "method")):
        node = OmegaConf.create(own_defaults(name), flags={"allow_objects": True})
        ConfigStore.instance().store(name, node, group="method")


def compose_and_call(root: Path, job: Callable[[DictConfig], object]) -> None:
    """Call `job` with the configuration of the command line, or with each combination of a sweep (`-m`).

    Raises:
        UserError: the configuration does not compose.
        SystemExit: of Hydra's own options such as --help.
        Whatever `job` raises.
    """
    register_resolvers(root)
    sweeps = any(one in ("-m", "--multirun", "hydra.mode=MULTIRUN") or _elsewhere(one) for one in sys.argv[1:])
    arguments = sys.argv[1:] if sweeps else listed(sys.argv[1:], LISTS)
    with patch.object(sys, "argv", [sys.argv[0], *arguments]):
        if os.environ.get(FULL_ERROR) == "1":  # somebody wants to see Hydra's own
            _main(root, job)
            return
        with patch.dict(os.environ, {FULL_ERROR: "1"}), sentences(root, arguments):
            _main(root, job)


def composed(root: Path, overrides: Sequence[str], name: str = "config", lists: Sequence[str] = LISTS) -> DictConfig:
    """The configuration `name` with these overrides, none of them a sweep. Raises UserError if it does not compose."""
    register_resolvers(root)
    overrides = listed(overrides, lists)
    with sentences(root, overrides, name), _configs(root):
        return hydra.compose(config_name=name, overrides=overrides)


def listed(overrides: Sequence[str], lists: Sequence[str]) -> list[str]:
    """`tasks=sd,mv` as `tasks=[sd,mv]`, for the keys in `lists`."""

    def one(override: str) -> str:
        key, _, value = override.partition("=")
        several = "," in value and not re.search(r"[][(){}'\"]", value)
        return f"{key}=[{value}]" if several and key.lstrip("+~") in lists else override

    return [one(override) for override in overrides]


def options(root: Path, group: str) -> list[str]:
    """The options of a group of configs/; of `method` all methods, those without a file too."""
    return sorted({*_files(root, group), *(method_names() if group == "method" else ())})


def _files(root: Path, group: str) -> list[str]:
    return [path.stem for path in (root / "configs" / group).glob("*.yaml")]


@contextmanager
def sentences(root: Path, overrides: Sequence[str], name: str = "config") -> Iterator[None]:
    """Within the block, what Hydra says over many lines is raised as a UserError of one."""
    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(_sentence(root, error, overrides, name)) from error


def _configs(root: Path):
    GlobalHydra.instance().clear()
    return hydra.initialize_config_dir(version_base="1.3", config_dir=str(root / "configs"))


def _main(root: Path, job: Callable[[DictConfig], object]) -> None:
    hydra.main(version_base="1.3", config_path=str(root / "configs"), config_name="config")(job)()


def _sentence(root: Path, error: Exception, overrides: Sequence[str], name: str) -> str:
    said = str(error).strip().splitlines()[0].removeprefix(f"In '{name}': ").rstrip(".")
    if isinstance(error, OverrideParseException):
        return f"cannot read {error.override}: {said}{_quoted(error.override)}"
    if several := SEVERAL.match(said):
        key, _, value = several[1].partition("=")
        return (
            f"{several[1]} names several values: -m in front of all options runs one after the other, {key}=[{value}] "
            f"is a list where one is wanted, and \"{key}='{value}'\" is one value with a comma in it"
        )
    if any(map(_elsewhere, overrides)) and not _submitit_is_there():
        return f"{said}; it needs the package hydra-submitit-launcher: `pip install 'plphp[slurm]'`, or `make setup`"
    return "; ".join([said, *allowed(root, overrides, name)])


def _quoted(override: str) -> str:
    key, equals, value = override.partition("=")
    if not equals or value.startswith(("[", "{")):
        return ""
    quoted = f'{key}="{value}"'
    return f"; a value with = ( {{ or the like needs quotes, for Hydra and for the shell: {shlex.quote(quoted)}"


def _elsewhere(override: str) -> bool:
    """Whether it hands runs to another launcher than this process."""
    return "launcher" in _group(override) and not override.endswith("=local")


def _submitit_is_there() -> bool:
    try:
        return find_spec("hydra_plugins.hydra_submitit_launcher") is not None
    except ModuleNotFoundError:  # no plugins at all
        return False


def allowed(root: Path, overrides: Sequence[str], name: str = "config") -> list[str]:
    """For each key and option of the command line that the configuration does not know: those it knows there."""
    groups = {path.name: options(root, path.name) for path in (root / "configs").iterdir() if path.is_dir()}
    pairs = [one for one in overrides if "=" in one and "/" not in _group(one) and not one.startswith("--")]
    known = [pair for pair in pairs if _group(pair) in groups]
    wrong = {_group(pair) for pair in known if not set(_values(pair)) <= {*groups[_group(pair)], "null"}}
    lines = [f"options of {group}: {', '.join(groups[group])}" for group in sorted(wrong)]
    lines = [line + not_loaded() if line.startswith("options of method:") else line for line in lines]
    try:
        with _configs(root):
            chosen = [pair for pair in known if _group(pair) not in wrong and not _sweeps(pair)]
            config = hydra.compose(config_name=name, overrides=chosen)
    except (HydraException, OmegaConfBaseException):
        return lines
    for pair in pairs:
        parent, _, key = pair.split("=", 1)[0].lstrip("+~").rpartition(".")
        with open_dict(config):
            node = OmegaConf.select(config, parent) if parent else config
        if isinstance(node, DictConfig) and key not in node and _group(pair) not in groups:
            lines.append(f"known keys of {parent or 'the configuration'}: {', '.join(map(str, node))}")
    return lines


def _group(override: str) -> str:
    return override.split("=", 1)[0].lstrip("+") if "=" in override else ""


def _values(override: str) -> list[str]:
    return [value.strip(" []") for value in override.split("=", 1)[1].split(",")]


def _sweeps(override: str) -> bool:
    value = override.split("=", 1)[1]
    return "," in value and not value.startswith("[")
