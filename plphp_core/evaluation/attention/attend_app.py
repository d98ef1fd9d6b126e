"""The command line of `scripts/attend.py`: one configuration, for each model in turn."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from plphp_core.config.hydra_app import compose_and_call, options
from plphp_core.config.run_settings import Settings, settings_from_config
from plphp_core.config.table_configs import key, of_each
from plphp_core.evaluation.console import say
from plphp_core.evaluation.depth import misfits
from plphp_core.evaluation.run_app import resolved
from plphp_core.evaluation.run_status import INTERRUPTED, OK, USAGE
from plphp_core.records.errors import UserError


def main(root: Path) -> int:
    """Read what the command line asks for.

    Returns:
        exit code: 0 all read; 1 samples or a model failed; 2 it cannot be served as it stands; 130 and 143 interrupted.
    """
    if str(root) not in sys.path:
        sys.path.append(str(root))  # tasks/
    asked = _Asked(root)
    try:
        if int(os.environ.get("WORLD_SIZE", 1)) > 1:
            raise UserError("attention is read by one process; start scripts/attend.py without torchrun")
        compose_and_call(root, asked.add)
        return asked.carry_out()
    except UserError as error:
        say(f"error: {error}")
        return USAGE
    except KeyboardInterrupt:
        say("interrupted")
        return INTERRUPTED
    except SystemExit as stop:  # of Hydra's own options, such as --help
        return stop.code if isinstance(stop.code, int) else USAGE if stop.code else OK


class _Asked:
    """What one command line asks for: one configuration for each model."""

    def __init__(self, root: Path):
        self.root = root
        self.runs: list[tuple[Settings, DictConfig]] = []
        self.error: UserError | None = None

    def add(self, config: DictConfig) -> None:
        """A configuration of Hydra's, to be carried out later; errors are kept, as Hydra would print them itself."""
        try:
            for one in _of_models(config, self.root):
                if not isinstance(OmegaConf.select(one, "attention.look"), bool):
                    raise UserError("attention.look must be true or false")
                settings = settings_from_config(one, self.root)
                if settings.table:
                    raise UserError("table=… is for scripts/run.py; attention is read without a method, on tasks=…")
                settings = settings if settings.limit else replace(settings, limit=_samples(one))
                self.runs.append((settings, one))
        except (UserError, OmegaConfBaseException) as error:
            self.error = self.error or UserError(str(error))

    def carry_out(self) -> int:
        """Returns the exit code. Raises UserError."""
        if self.error is not None:
            raise self.error
        from plphp_core.evaluation.attention.attention_maps import look
        from plphp_core.evaluation.attention.attention_runner import attend
        from plphp_core.evaluation.loading import LoadOnce

        loader, codes = LoadOnce(), [OK]
        for settings, config in self.runs:
            if config.dry:
                names = ", ".join(benchmark.label for benchmark in settings.benchmarks)
                say(f"attention of {settings.model.name}: {settings.limit or 'all'} samples of each of {names}")
            elif config.attention.look:
                if unfit := misfits(settings):
                    raise UserError("; ".join(unfit))
                look(settings, config.attention.doc, loader)
            else:
                codes.append(attend(settings, resolved(config, settings), loader))
            if codes[-1] >= INTERRUPTED:
                break
        return max(codes)


def _of_models(config: DictConfig, root: Path) -> list[DictConfig]:
    overrides = list(HydraConfig.get().overrides.task)
    if "model" in map(key, overrides):
        return [config]
    names = OmegaConf.select(config, "attention.models")
    if not isinstance(names, ListConfig) or not names:
        raise UserError(f"attention.models must be a list of models such as [mantis], got {names!r}")
    return of_each(names, overrides, options(root, "model"), "attention.models")


def _samples(config: DictConfig) -> int | None:
    samples = config.attention.samples
    if samples is not None and (not isinstance(samples, int) or isinstance(samples, bool) or samples < 1):
        raise UserError(f"attention.samples must be a whole number, at least 1, or null for all, got {samples!r}")
    return samples
