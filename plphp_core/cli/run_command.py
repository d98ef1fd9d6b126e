"""`plphp run`: an evaluation, and of a sweep (-m) a table of everything that is finished beside its cells."""

from __future__ import annotations

from collections.abc import Sequence

from plphp_core.cli.report_command import write_reports
from plphp_core.config.report_settings import ReportSettings
from plphp_core.evaluation import run_app
from plphp_core.evaluation.distributed import first_process
from plphp_core.evaluation.scheduler import Run


def main(arguments: Sequence[str]) -> int:
    """Returns the exit code of `run_app.main`. Raises UserError."""
    return run_app.main(arguments, summarise)


def summarise(groups: Sequence[Sequence[Run]]) -> None:
    """Print a table for each group of runs; what cannot be compared is said."""
    for (settings, _), *_ in groups if first_process() else ():
        model = settings.model
        write_reports(
            ReportSettings(
                table="sweep",
                profile=settings.profile,
                results=settings.results.parent,
                model=model.name,
                protocol=settings.protocol,
                prompts=model.prompts,
                engine=model.engine,
                dtype=model.dtype,
                attn_implementation=model.attn_implementation,
                limit=str(settings.limit or "full"),
                limit_seed=settings.limit_seed,
            )
        )
