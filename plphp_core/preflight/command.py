"""The command line: the same configuration as a run's, checked instead of run."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from omegaconf import DictConfig
from rich.console import Console

from plphp_core.config.checked_values import flag
from plphp_core.config.hydra_app import compose_and_call
from plphp_core.config.run_settings import settings_from_config
from plphp_core.config.table_configs import configurations


def main(arguments: Sequence[str]) -> int:
    """Check what the command line would run. Returns 0: it would work, 1: something would break. Raises UserError."""
    codes: list[int] = []
    compose_and_call(arguments, lambda config: codes.append(_checked(config)))
    return max(codes, default=0)


def _checked(config: DictConfig) -> int:
    """One job of Hydra: the checklist of each model that the configuration names."""
    weights = flag("weights", config.weights)
    settings = [settings_from_config(one) for one in configurations(config)]
    from plphp_core.preflight.case import Case
    from plphp_core.preflight.checklist import preflight

    console = Console(file=sys.stdout, highlight=False)
    return max(preflight(Case(one, weights), console) for one in settings)
