"""The command line: Hydra composes the configuration, `run` does the rest."""

from __future__ import annotations

import signal
import sys
from functools import partial
from pathlib import Path

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from plphp_core.evaluation.errors import UserError
from plphp_core.evaluation.in_turn import configurations, in_turn
from plphp_core.evaluation.settings import Settings, settings_from_config


def main(root: Path) -> int:
    """Run what the command line asks for. Returns the worst exit code of its jobs (a sweep has several)."""
    OmegaConf.register_new_resolver("repository", lambda path: str(root / path), replace=True)
    jobs = _Jobs(root)
    try:
        hydra.main(version_base="1.3", config_path=str(root / "configs"), config_name="config")(jobs.run)()
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except SystemExit as stop:  # Hydra has printed why the configuration does not compose
        if stop.code:
            print(_allowed(root, sys.argv[1:]), file=sys.stderr)
            return 2
        return 0
    return max(jobs.codes, default=0)


class _Jobs:
    """The jobs of one command line, which share a loaded model."""

    def __init__(self, root: Path):
        self.root = root
        self.codes: list[int] = []
        self._loader = None

    def run(self, config: DictConfig) -> int:
        """One job of Hydra: a run, or a message to the user."""
        if any(code >= 128 for code in self.codes):  # an interrupted sweep does not start its next job
            return self.codes[-1]
        try:
            code = self._run(config)
        except (UserError, OmegaConfBaseException) as error:
            print(f"error: {error}", file=sys.stderr)
            code = 2
        except KeyboardInterrupt:  # before or after the run itself, which handles its own
            code = 128 + signal.SIGINT
        self.codes.append(code)
        return code

    def _run(self, config: DictConfig) -> int:
        state = HydraConfig.get()
        overrides = list(state.overrides.task)
        choices = [override.split("=")[0].lstrip("+~") for override in overrides]
        if config.get("table") and any(choice == "method" or choice.startswith("method.") for choice in choices):
            raise UserError("table=… brings its own methods; leave out either table=… or method=…")
        configs = configurations(config, overrides, state.runtime.choices.model, _options(self.root, "model"))
        settings = [settings_from_config(one, self.root) for one in configs]  # all, before the first one starts
        runs = [(some, resolved(one, some)) for one, some in zip(configs, settings, strict=True)]
        from plphp_core.evaluation.loading import LoadOnce
        from plphp_core.evaluation.runner import run

        self._loader = self._loader or LoadOnce()
        return in_turn(runs, partial(run, loader=self._loader))


def resolved(config: DictConfig, settings: Settings) -> dict:
    """The configuration as plain data. A table's methods replace the unused single one."""
    plain = OmegaConf.to_container(config, resolve=True)
    if settings.table:
        plain.pop("method")
    return plain


def _allowed(root: Path, overrides: list[str]) -> str:
    """For each key of the command line that the configuration does not know: the keys it knows there."""
    groups = [path.name for path in (root / "configs").iterdir() if path.is_dir()]
    pairs = [override.split("=", 1)[0].lstrip("+~") for override in overrides if "=" in override]
    chosen = [override for override in overrides if _group(override) in groups and not _sweeps(override)]
    GlobalHydra.instance().clear()
    lines = []
    try:
        with hydra.initialize_config_dir(version_base="1.3", config_dir=str(root / "configs")):
            config = hydra.compose(config_name="config", overrides=chosen)
    except (hydra.errors.HydraException, OmegaConfBaseException):
        named = [group for group in sorted(groups) if group in map(_group, overrides)]
        return "\n".join(f"options of {group}: {', '.join(_options(root, group))}" for group in named)
    with open_dict(config):
        for key in pairs:
            parent, _, name = key.rpartition(".")
            node = OmegaConf.select(config, parent) if parent else config
            if isinstance(node, DictConfig) and name not in node:
                lines.append(f"known keys of {parent or 'the configuration'}: {', '.join(map(str, node))}")
    return "\n".join(lines)


def _group(override: str) -> str:
    return override.split("=", 1)[0].lstrip("+") if "=" in override else ""


def _sweeps(override: str) -> bool:
    value = override.split("=", 1)[1]
    return "," in value and not value.startswith("[")


def _options(root: Path, group: str) -> list[str]:
    return sorted(path.stem for path in (root / "configs" / group).glob("*.yaml"))
