"""`plphp attend`: attention readings of one configuration, for each model in turn."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, ListConfig

from plphp_core.config.checked_values import flag, one_of, whole
from plphp_core.config.hydra_app import compose_here, key
from plphp_core.config.run_settings import Settings, resolved, settings_from_config
from plphp_core.config.table_configs import MAPS, of_each
from plphp_core.evaluation.distributed import say
from plphp_core.evaluation.loading import misfits
from plphp_core.evaluation.run_status import INTERRUPTED, OK
from plphp_core.records.errors import UserError


def main(arguments: Sequence[str]) -> int:
    """Read what a command line asks for.

    Returns:
        exit code: 0 all read; 1 samples or a model failed; 130 and 143 interrupted.
    Raises:
        UserError: it cannot be served as it stands.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise UserError("attention is read by one process; start `plphp attend` without torchrun")
    asked = _AttendCommand()
    compose_here(arguments, asked.add)
    return asked.run()


class _AttendCommand:
    """What one command line asks for: one configuration for each model."""

    def __init__(self):
        self.runs: list[tuple[Settings, DictConfig]] = []

    def add(self, config: DictConfig) -> None:
        """A configuration of Hydra's, to be carried out later."""
        for one in _of_models(config):
            flag("attention.look", one.attention.look)
            settings = settings_from_config(one)
            if settings.table and one.table.get("kind") != MAPS:
                raise UserError("table=… is for `plphp run` and `reproduce`; attention is read on tasks=…")
            if settings.table:
                one_of("table.samples", one.table.samples, range(1, 11))
            settings = settings if settings.limit else replace(settings, limit=_samples(one))
            self.runs.append((settings, one))

    def run(self) -> int:
        """Returns the exit code. Raises UserError."""
        from plphp_core.evaluation.attention.attention_maps import look
        from plphp_core.evaluation.attention.attention_runner import attend
        from plphp_core.evaluation.attention.token_choices import map_tokens
        from plphp_core.evaluation.loading import LoadOnce

        loader, codes = LoadOnce(), [OK]
        for settings, config in self.runs:
            if config.dry:
                names = ", ".join(benchmark.label for benchmark in settings.benchmarks)
                what, count = "attention", settings.limit or "all"
                if settings.table:
                    what, count = f"token maps under {len(settings.methods)} methods", config.table.samples
                say(f"{what} of {settings.model.name}: {count} samples of each of {names}")
            elif settings.table:
                map_tokens(settings, config.attention.doc, config.table.samples, loader)
            elif config.attention.look:
                if unfit := misfits(settings):
                    raise UserError("; ".join(unfit))
                look(settings, config.attention.doc, loader)
            else:
                codes.append(attend(settings, resolved(config, settings), loader))
            if codes[-1] >= INTERRUPTED:
                break
        return max(codes)


def _of_models(config: DictConfig) -> list[DictConfig]:
    overrides = list(HydraConfig.get().overrides.task)
    if "model" in map(key, overrides) or config.get("table"):
        return [config]
    names = config.attention.models
    if not isinstance(names, ListConfig) or not names:
        raise UserError(f"attention.models must be a list of models such as [mantis], got {names!r}")
    return of_each(names, overrides, "attention.models")


def _samples(config: DictConfig) -> int | None:
    samples = config.attention.samples
    return None if samples is None else whole("attention.samples", samples, 1)
