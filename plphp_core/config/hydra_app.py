"""Hydra composes the configuration: for one command line, for each combination of a sweep, or for a few overrides.

What does not compose is said in a sentence that names the key or option and what is allowed.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from unittest.mock import patch

import hydra
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.errors import HydraException, OverrideParseException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from plphp_core.config.benchmark_catalogue import entries
from plphp_core.config.locations import CONFIGS, PACKAGED, config_folders, make_importable, option_files
from plphp_core.config.table_rows import own_defaults
from plphp_core.pruning.method import method_names, not_loaded
from plphp_core.records.errors import UserError

FULL_ERROR = "HYDRA_FULL_ERROR"  # Hydra's own switch: raise instead of printing and exiting
LISTS = (
    "tasks",
    "table.models",
    "table.skip",
    "table.budgets",
    "table.methods",
    "attention.models",
    "report.exclude",
    "report.docs",
)  # several values are one list


class WorkingDirectory(SearchPathPlugin):
    """`configs/` of the working directory is searched before the packaged one."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for folder in config_folders()[:-1]:
            search_path.prepend("working directory", f"file://{folder}", anchor="main")


def register(overrides: Sequence[str] = ()) -> None:
    """What the files in configs/ refer to, and options without a file of their own there: of the group `method` for
    every method, of `tasks` for every benchmark that some file describes and for every name in `overrides`, which may
    be lmms-eval's.
    """
    make_importable()
    Plugins.instance().register(WorkingDirectory)
    OmegaConf.register_new_resolver("packaged", lambda path: str(PACKAGED / path), replace=True)
    for name in set(method_names()) - set(option_files("method")):
        node = OmegaConf.create(own_defaults(name), flags={"allow_objects": True})
        ConfigStore.instance().store(name, node, group="method")
    asked = {name for one in overrides if key(one) == "tasks" for name in re.findall(r"[\w.+-]+", value(one))}
    described = entries(*config_folders())
    for name in (asked - {"null"} | described.keys()) - set(option_files("tasks")):
        ConfigStore.instance().store(name, OmegaConf.create({name: described.get(name, name)}), group="tasks")


def compose_and_call(arguments: Sequence[str], job: Callable[[DictConfig], object]) -> None:
    """Call `job` with the configuration of a command line, or with each combination of a sweep (`-m`).

    Raises:
        UserError: the configuration does not compose.
        SystemExit: of Hydra's own options such as --cfg.
        Whatever `job` raises.
    """
    register(arguments)
    sweeps = any(one in ("-m", "--multirun", "hydra.mode=MULTIRUN") or _elsewhere(one) for one in arguments)
    arguments = sorted(arguments if sweeps else listed(arguments), key=lambda one: one not in ("-m", "--multirun"))
    run = hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="config")(job)
    with patch.object(sys, "argv", [sys.argv[0], *arguments]):
        if os.environ.get(FULL_ERROR) == "1":  # somebody wants to see Hydra's own
            return run()
        with patch.dict(os.environ, {FULL_ERROR: "1"}), _sentences(arguments):
            return run()


def compose_here(arguments: Sequence[str], job: Callable[[DictConfig], object]) -> None:
    """As `compose_and_call`, for jobs of this process alone: Hydra adds no line of its own to what they raise."""
    failed: list[Exception] = []

    def kept(config: DictConfig) -> None:
        try:
            if not failed:
                job(config)
        except (UserError, OmegaConfBaseException) as error:
            failed.append(error)

    compose_and_call(arguments, kept)
    if failed:
        raise failed[0]


def composed(overrides: Sequence[str], name: str = "config", lists: Sequence[str] = LISTS) -> DictConfig:
    """The configuration `name` with these overrides, none of them a sweep. Raises UserError if it does not compose."""
    register(overrides)
    overrides = listed(overrides, lists)
    with _sentences(overrides, name):
        return _compose(overrides, name)


def listed(overrides: Sequence[str], lists: Sequence[str] = LISTS) -> list[str]:
    """`tasks=sd,mv` as `tasks=[sd,mv]`, for the keys in `lists`."""

    def one(override: str) -> str:
        several = "," in override and not re.search(r"[][(){}'\"]", override.partition("=")[2])
        return f"{key(override)}=[{value(override)}]" if several and key(override) in lists else override

    return [one(override) for override in overrides]


def options(group: str) -> list[str]:
    """The options of a group of configs/; of `method` all methods, those without a file too."""
    return sorted({*option_files(group), *(method_names() if group == "method" else ())})


def key(override: str) -> str:
    """What an override of the command line sets."""
    return override.partition("=")[0].lstrip("+~")


def value(override: str) -> str:
    return override.partition("=")[2]


def _compose(overrides: Sequence[str], name: str) -> DictConfig:
    running = GlobalHydra.instance().hydra  # of the job that asks, if one does: it goes on composing afterwards
    GlobalHydra.instance().clear()
    try:
        with hydra.initialize_config_dir(version_base="1.3", config_dir=str(CONFIGS)):
            return hydra.compose(config_name=name, overrides=list(overrides))
    finally:
        GlobalHydra.instance().hydra = running


@contextmanager
def _sentences(overrides: Sequence[str], name: str = "config") -> Iterator[None]:
    """Within the block, what Hydra says over many lines is raised as a UserError of one."""
    try:
        yield
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        if type(error) is ValueError and not str(error).startswith("Config group override"):  # of `table=null`
            raise
        if isinstance(error, UserError):
            raise
        said = str(error).strip().splitlines()[0].removeprefix(f"In '{name}': ").rstrip(".")
        raise UserError("; ".join(filter(None, [said, _advice(error, said, overrides, name)]))) from error


def _advice(error: Exception, said: str, overrides: Sequence[str], name: str) -> str:
    """What to write instead of what Hydra does not take; empty if that is not known."""
    if isinstance(error, OverrideParseException):
        text = "a value with = ( { or the like needs quotes, for Hydra and for the shell: "
        return f"in {error.override} {text}'{key(error.override)}=\"…\"'"
    if several := re.match(r"Ambiguous value for argument '([^=]*)=(.*)'", said):
        return f"-m in front of all options runs one after the other, {several[1]}=[{several[2]}] is a list"
    if "hydra/launcher/submitit" in said:
        return "it needs the package hydra-submitit-launcher: `pip install 'plphp[slurm]'`, or `make setup`"
    if option := re.search(r"'(?:\w+@)?(\w+)/([^']*)'", said):
        return f"options of {option[1]}: {', '.join(options(option[1]))}" + not_loaded() * (option[1] == "method")
    if unknown := re.match(r"Could not override '(?:.*@)?([\w.]+)'", said):
        return _nearest(unknown[1], overrides, name)
    return ""


def _nearest(wrong: str, overrides: Sequence[str], name: str) -> str:
    """The keys beside a wrong one, and the nearest anywhere."""
    groups = [one for one in overrides if "." not in key(one) and "," not in one and options(key(one))]
    config = _compose(groups, name)
    parent = wrong.rpartition(".")[0]
    node = OmegaConf.select(config, parent) if parent else config
    near = get_close_matches(wrong, _keys(config), n=1)
    known = []
    if isinstance(node, DictConfig):
        known = [f"known keys of {parent or 'the configuration'}: {', '.join(map(str, node))}"]
    return "; ".join([*known, *(f"nearest: {one}" for one in near)])


def _keys(config: DictConfig, front: str = "") -> list[str]:
    found = []
    for name in config:
        node = None if OmegaConf.is_interpolation(config, name) else config[name]
        found += [f"{front}{name}", *(_keys(node, f"{front}{name}.") if isinstance(node, DictConfig) else ())]
    return found


def _elsewhere(override: str) -> bool:
    """Whether it hands runs to another launcher than this process."""
    return "launcher" in key(override) and not override.endswith("=local")
