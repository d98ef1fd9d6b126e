"""All checks in their order, and how they are shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from plphp_core.preflight.answers import answers
from plphp_core.preflight.case import Case
from plphp_core.preflight.check import Check, Result, Status, exit_code, run_checks
from plphp_core.preflight.checkpoint import checkpoint_files
from plphp_core.preflight.data import data
from plphp_core.preflight.device import attention, device
from plphp_core.preflight.disk import disk, results_folder
from plphp_core.preflight.generation import generation
from plphp_core.preflight.longest import longest_prompt
from plphp_core.preflight.memory import memory
from plphp_core.preflight.metrics import metrics
from plphp_core.preflight.model import configuration, decoder, weights
from plphp_core.preflight.network import network, online_again
from plphp_core.preflight.processor import chat_template, image_tokens, processor
from plphp_core.preflight.tokens import end_tokens, image_token, tokenizer
from plphp_core.preflight.units import plural
from plphp_core.preflight.versions import packages

SECTIONS: dict[str, tuple[Check, ...]] = {
    "This machine": (packages, device, attention, network, results_folder),
    "Checkpoint": (
        *(checkpoint_files, configuration, decoder, weights, tokenizer, end_tokens, generation, image_token),
        *(processor, chat_template, image_tokens),
    ),
    "Benchmarks": (data, metrics),
    "Room": (longest_prompt, memory, disk),
    "Real weights": (answers,),
}
COLORS = {Status.OK: "green", Status.WARNING: "yellow", Status.FAILED: "bold red", Status.SKIPPED: "dim"}
STATUS_WIDTH, TITLE_WIDTH = 7, 16


def preflight(case: Case, console: Console, sections: Mapping[str, Sequence[Check]] = SECTIONS) -> int:
    """Run every check and print the list as it grows. Returns the exit code: 1 if something would break, else 0."""
    settings = case.settings
    model = settings.model
    console.print(
        f"Preflight: [bold]{escape(model.name)}[/], profile {settings.profile}, "
        f"{plural(len(settings.benchmarks), 'benchmark')}, {plural(len(settings.methods), 'method')}, "
        f"batches of {settings.batch_size}\n{escape(model.checkpoint)}"
    )
    results: list[Result] = []
    with console.status("") as status, online_again():
        for title, checks in sections.items():
            console.print(f"\n[bold]{title}[/]")
            results += run_checks(
                checks,
                case,
                begin=lambda check: status.update(f"{check.title} …"),
                end=lambda result: console.print(_rows(result)),
                before=results,
            )
    _summary(results, console)
    return exit_code(results)


def _rows(result: Result) -> Table:
    """A check's findings, its title in the first line only; remedies below what they are for."""
    table = Table.grid(padding=(0, 1))
    table.add_column(width=STATUS_WIDTH, no_wrap=True)
    table.add_column(width=TITLE_WIDTH, no_wrap=True)
    table.add_column(ratio=1, overflow="fold")
    title = result.check.title
    for status, findings in groupby(result.findings, key=lambda finding: finding.status):
        for finding in findings:
            color = COLORS[status]
            table.add_row(f"[{color}]{status}[/]", title, escape(finding.found))
            if finding.remedy:
                table.add_row("", "", f"[{color}]→[/] {escape(finding.remedy)}")
            title = ""
    return table


def _summary(results: list[Result], console: Console) -> None:
    for finding in (finding for result in results for finding in result.findings if finding.trace):
        console.print(f"\n{escape(finding.trace)}", soft_wrap=True)  # first, so that the verdict is the last line
    counts = Counter(finding.status for result in results for finding in result.findings)
    console.print(f"\n{', '.join(f'{counts[status]} {status}' for status in Status if counts[status])}", end="; ")
    console.print(f"{sum(result.seconds for result in results):.0f} s")
    broken = [result.check.title for result in results if result.status is Status.FAILED]
    if broken:
        console.print(f"[bold red]A run would break[/], or not measure what it says: {', '.join(broken)}")
    elif counts[Status.WARNING]:
        console.print("[yellow]A run would work[/]; read the warnings first")
    else:
        console.print("[green]A run would work[/]")
