"""The command: the same configuration as a run's, checked instead of run."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from omegaconf import DictConfig
from rich.console import Console

from plphp_core.config import checked_values
from plphp_core.config.hydra_app import compose_here
from plphp_core.config.run_settings import settings_from_config
from plphp_core.config.table_configs import configurations


def main(arguments: Sequence[str]) -> int:
    """Check what a command line would run. Returns 0: it would work, 1: something would break. Raises UserError."""
    codes: list[int] = []
    compose_here(arguments, lambda config: codes.append(check_models(config)))
    return max(codes, default=0)


def check_models(config: DictConfig) -> int:
    """The checklist of each model that a composed configuration names; the highest exit code.

    Raises:
        UserError, OmegaConfBaseException: a value of the configuration is not allowed.
    """
    weights = checked_values.flag("weights", config.weights)
    settings = [settings_from_config(one) for one in configurations(config)]
    from plphp_core.preflight.checklist import preflight
    from plphp_core.preflight.checks import PlannedRun

    console = Console(file=sys.stdout, highlight=False)
    return max(preflight(PlannedRun(one, weights), console) for one in settings)
