"""The command line: the same configuration as a run's, checked instead of run."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

from plphp_core.config.hydra_app import compose_and_call
from plphp_core.config.run_settings import settings_from_config
from plphp_core.config.table_configs import configurations
from plphp_core.records.errors import UserError

USAGE, INTERRUPTED = 2, 128 + signal.SIGINT


def main(root: Path) -> int:
    """Check what the command line would run. Returns 0: it would work, 1: something would break, 2: bad usage."""
    codes: list[int] = []

    def job(config: DictConfig) -> None:
        codes.append(_checked(config, root))

    try:
        compose_and_call(root, job)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return USAGE
    except SystemExit as stop:  # of Hydra's own options, such as --help
        return USAGE if stop.code else 0
    return max(codes, default=0)


def _checked(config: DictConfig, root: Path) -> int:
    """One job of Hydra: the checklist of each model that the configuration names."""
    state = HydraConfig.get()
    try:
        if not isinstance(config.weights, bool):
            raise UserError(f"weights must be true or false, got {config.weights!r}")
        overrides = list(state.overrides.task)
        models = configurations(config, overrides, state.runtime.choices, root)
        settings = [settings_from_config(one, root) for one in models]
    except (UserError, OmegaConfBaseException) as error:
        print(f"error: {error}", file=sys.stderr)
        return USAGE
    from plphp_core.preflight.case import Case
    from plphp_core.preflight.checklist import preflight

    console = Console(file=sys.stdout, highlight=False)
    return max(preflight(Case(one, config.weights), console) for one in settings)
