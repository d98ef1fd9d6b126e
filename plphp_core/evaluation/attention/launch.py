"""The command line of `scripts/attend.py`: one configuration, for each model in turn."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from plphp_core.evaluation.announce import say
from plphp_core.evaluation.composing import compose_and_call, options
from plphp_core.evaluation.errors import UserError, unknown
from plphp_core.evaluation.launch import INTERRUPTED, OK, USAGE, resolved
from plphp_core.evaluation.settings import settings_from_config


def main(root: Path) -> int:
    """Read what the command line asks for.

    Returns:
        exit code: 0 all read; 1 samples or a model failed; 2 it cannot be served as it stands; 130 and 143 interrupted.
    """
    if str(root) not in sys.path:
        sys.path.append(str(root))  # tasks/
    codes: list[int] = []
    try:
        compose_and_call(root, lambda config: codes.append(_attend(config, root)))
    except UserError as error:
        say(f"error: {error}")
        return USAGE
    except KeyboardInterrupt:
        return INTERRUPTED
    except SystemExit as stop:  # of Hydra's own options, such as --help
        return stop.code if isinstance(stop.code, int) else USAGE if stop.code else OK
    return max(codes, default=OK)


def _attend(config: DictConfig, root: Path) -> int:
    configs = _of_models(config, root)
    try:
        settings = [settings_from_config(one, root) for one in configs]
    except OmegaConfBaseException as error:
        raise UserError(str(error)) from error
    if any(one.table for one in settings):
        raise UserError("table=… is for scripts/run.py; attention is read without a method, on tasks=…")
    if config.dry:
        for one in settings:
            names = ", ".join(benchmark.label for benchmark in one.benchmarks)
            say(f"attention of {one.model.name}: {config.attention.samples} samples of each of {names}")
        return OK
    from plphp_core.evaluation.attention.look import look
    from plphp_core.evaluation.attention.run import attend
    from plphp_core.evaluation.loading import LoadOnce

    loader, codes = LoadOnce(), []
    for one, composed in zip(settings, configs, strict=True):
        if config.attention.look:
            look(one, config.attention.doc, loader)
            continue
        limited = one if one.limit else replace(one, limit=_samples(config))
        codes.append(attend(limited, resolved(composed, one), loader))
        if codes[-1] >= INTERRUPTED:
            break
    return max(codes, default=OK)


def _of_models(config: DictConfig, root: Path) -> list[DictConfig]:
    overrides = list(HydraConfig.get().overrides.task)
    if any(override.split("=")[0].lstrip("+") == "model" for override in overrides):
        return [config]
    known = options(root, "model")
    for name in config.attention.models:
        if name not in known:
            raise unknown("model in attention.models", name, known)
    return [
        hydra.compose(config_name="config", overrides=[*overrides, f"model={name}"]) for name in config.attention.models
    ]


def _samples(config: DictConfig) -> int | None:
    samples = config.attention.samples
    if samples is not None and (not isinstance(samples, int) or isinstance(samples, bool) or samples < 1):
        raise UserError(f"attention.samples must be a whole number, at least 1, or null for all, got {samples!r}")
    return samples
