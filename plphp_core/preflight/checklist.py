"""All checks in their order, and how their results are printed."""

from __future__ import annotations

import time

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from plphp_core.preflight.architecture import configuration, weights
from plphp_core.preflight.benchmark_data import data, metrics
from plphp_core.preflight.checkpoint import checkpoint_files
from plphp_core.preflight.checks import CheckResult, CheckStatus, PlannedRun, run_checks
from plphp_core.preflight.machine import attention, device, hub, packages
from plphp_core.preflight.prompts import generation, image_tokens, processor, prompt_template, tokenizer
from plphp_core.preflight.room import disk, longest_prompt, memory
from plphp_core.preflight.smoke import answers

CHECKS = (
    *(packages, device, attention, hub),
    *(checkpoint_files, configuration, weights, tokenizer, generation, processor, prompt_template, image_tokens),
    *(data, metrics, longest_prompt, memory, disk, answers),
)
COLORS = {CheckStatus.PASSED: "green", CheckStatus.FAILED: "bold red", CheckStatus.SKIPPED: "dim"}


def preflight(run: PlannedRun, console: Console) -> int:
    """Run every check and print its results as they come. Returns 1 if a run would break, else 0."""
    settings, began = run.settings, time.perf_counter()
    console.print(
        f"Preflight: [bold]{escape(settings.model.name)}[/], profile {settings.profile}, benchmarks: "
        f"{len(settings.benchmarks)}, methods: {len(settings.methods)}, batches of {settings.batch_size}\n"
        f"{escape(settings.model.checkpoint)}\n"
    )
    with console.status("") as status:
        results = run_checks(
            CHECKS,
            run,
            begin=lambda check: status.update(f"{check.title} …"),
            show=lambda result: console.print(_row(result)),
        )
    broken = dict.fromkeys(result.name for result in results if result.status is CheckStatus.FAILED)
    verdict = f"[bold red]A run would break[/]: {', '.join(broken)}" if broken else "[green]A run would work[/]"
    console.print(f"\n{verdict} ({time.perf_counter() - began:.0f} s)")
    return int(bool(broken))


def _row(result: CheckResult) -> Table:
    """Status, name and sentence in columns; what to do below the sentence."""
    table = Table.grid(padding=(0, 1))
    table.add_column(width=7, no_wrap=True)
    table.add_column(width=16, no_wrap=True)
    table.add_column(ratio=1, overflow="fold")
    color = COLORS[result.status]
    table.add_row(f"[{color}]{result.status}[/]", result.name, escape(result.sentence))
    if result.remedy:
        table.add_row("", "", f"[{color}]→[/] {escape(result.remedy)}")
    return table
