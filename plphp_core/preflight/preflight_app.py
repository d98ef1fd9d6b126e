"""The command: the same configuration as a run's, checked instead of run."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from omegaconf import DictConfig
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from plphp_core.config import checked_values
from plphp_core.config.hydra_app import compose_here
from plphp_core.config.run_settings import settings_from_config
from plphp_core.config.table_configs import configurations
from plphp_core.preflight.benchmark_data import data, metrics
from plphp_core.preflight.checkpoint import checkpoint_files, configuration, weights
from plphp_core.preflight.checks import CheckResult, CheckStatus, PlannedRun, run_checks
from plphp_core.preflight.machine import device, packages
from plphp_core.preflight.prompts import image_tokens, tokenizer
from plphp_core.preflight.room import disk, memory
from plphp_core.preflight.smoke import answers

CHECKS = (
    *(packages, device, checkpoint_files, configuration, weights, tokenizer, image_tokens),
    *(data, metrics, memory, disk, answers),
)
COLORS = {CheckStatus.PASSED: "green", CheckStatus.FAILED: "bold red", CheckStatus.SKIPPED: "dim"}


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
    console = Console(file=sys.stdout, highlight=False)
    return max(preflight(PlannedRun(one, weights), console) for one in settings)


def preflight(run: PlannedRun, console: Console) -> int:
    """Run every check and print its results as they come. Returns 1 if a run would break, else 0."""
    settings, began = run.settings, time.perf_counter()
    console.print(
        f"Preflight: [bold]{escape(settings.model.name)}[/], profile {settings.profile}, benchmarks: "
        f"{len(settings.benchmarks)}, methods: {len(settings.methods)}, batches of {settings.batch_size}\n"
        f"{escape(settings.model.checkpoint)}\n"
    )
    broken: dict[str, None] = {}
    for result in run_checks(CHECKS, run):
        console.print(line(result))
        if result.status is CheckStatus.FAILED:
            broken[result.name] = None
    verdict = f"[bold red]A run would break[/]: {', '.join(broken)}" if broken else "[green]A run would work[/]"
    console.print(f"\n{verdict} ({time.perf_counter() - began:.0f} s)")
    return int(bool(broken))


def line(result: CheckResult) -> Table:
    """Status, name and sentence in columns."""
    table = Table.grid(padding=(0, 1))
    table.add_column(width=7, no_wrap=True)
    table.add_column(width=13, no_wrap=True)
    table.add_column(ratio=1, overflow="fold")
    table.add_row(f"[{COLORS[result.status]}]{result.status}[/]", result.name, escape(result.sentence))
    return table
