"""The command: the same configuration as a run's, checked instead of run."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

from plphp_core.config import checked_values
from plphp_core.config.hydra_app import compose_and_call
from plphp_core.config.run_settings import settings_from_config
from plphp_core.config.table_configs import configurations
from plphp_core.records.errors import UserError

USAGE, INTERRUPTED = 2, 128 + signal.SIGINT


def main(root: Path) -> int:
    """Check what the command line would run. Returns 0: it would work, 1: something would break, 2: bad usage."""
    codes: list[int] = []
    try:
        compose_and_call(root, lambda config: codes.append(check_models(config, root)))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except (UserError, OmegaConfBaseException) as error:
        print(f"error: {error}", file=sys.stderr)
        return USAGE
    except SystemExit as stop:  # of Hydra's own options, such as --help
        return USAGE if stop.code else 0
    return max(codes, default=0)


def check_models(config: DictConfig, root: Path) -> int:
    """The checklist of each model that a composed configuration names; the highest exit code.

    Raises:
        UserError, OmegaConfBaseException: a value of the configuration is not allowed.
    """
    state = HydraConfig.get()
    weights = checked_values.flag("weights", config.weights)
    models = configurations(config, list(state.overrides.task), state.runtime.choices, root)
    settings = [settings_from_config(one, root) for one in models]
    from plphp_core.preflight.checklist import preflight
    from plphp_core.preflight.checks import PlannedRun

    console = Console(file=sys.stdout, highlight=False)
    return max(preflight(PlannedRun(one, weights), console) for one in settings)
