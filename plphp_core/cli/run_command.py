"""`plphp run`: Hydra enumerates what is asked for, what can share a model is run together, one group after the other.

A sweep (-m) ends with a table of everything that is finished beside its cells.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from plphp_core.cli.report_command import write_reports
from plphp_core.config.checked_values import flag
from plphp_core.config.equal_cost import EqualCost, equal_cost
from plphp_core.config.hydra_app import compose_and_call, key
from plphp_core.config.locations import make_importable
from plphp_core.config.report_choices import Filters
from plphp_core.config.report_settings import ReportSettings
from plphp_core.config.run_settings import (
    MethodRefused,
    MethodSettings,
    Run,
    Settings,
    distinct,
    resolved,
    settings_from_config,
)
from plphp_core.config.table_configs import ALL, COMPARE, RUN, configurations
from plphp_core.evaluation.distributed import first_process, say
from plphp_core.evaluation.loading import misfits
from plphp_core.evaluation.run_status import FAILED, INTERRUPTED, OK, USAGE
from plphp_core.evaluation.submitit_jobs import JobFailed, conclude, failed_jobs
from plphp_core.records.errors import UserError


def main(arguments: Sequence[str]) -> int:
    """Run what a command line asks for.

    Returns:
        exit code: 0 all finished; 1 samples, cells, groups or jobs failed; 2 it cannot be served as it stands; 130 and
        143 interrupted.
    Raises:
        UserError: it cannot be served as it stands.
    """
    scheduler = Scheduler()
    try:
        compose_and_call(arguments, scheduler.add)
        return scheduler.submitted() if scheduler.folder else scheduler.run()
    except KeyboardInterrupt:
        folder = scheduler.folder
        say(f"a cluster goes on with the jobs below {folder}" if folder else "interrupted")
        return INTERRUPTED
    except RuntimeError as error:  # a job's, or submitit's own
        if not scheduler.folder and not isinstance(error, JobFailed):
            raise
        if code := scheduler.submitted():
            return code
        say(f"failed: {error}")
        return FAILED


class Scheduler:
    """Collects the runs of one command line, one configuration or those of a sweep's combinations, and runs them.

    Attributes:
        folder: of the jobs' pickles and logs, where the combinations go to a launcher of submitit.
    """

    def __init__(self):
        self.runs: list[Run] = []
        self.compared: list[tuple[Run, EqualCost]] = []  # become runs once their methods are at the same bytes
        self.refused: list[tuple[list[str], str]] = []  # combinations that their method does not allow, and why
        self.errors: list[str] = []
        self.combinations: list[list[str]] = []
        self.folder: Path | None = None
        self._sweep = self._plan = self._dry = False
        make_importable()  # tasks/, for a job elsewhere
        OmegaConf.register_new_resolver("jobs_folder", self._jobs_folder, replace=True)

    def __reduce__(self):
        """A job elsewhere starts with nothing."""
        return Scheduler, ()

    def add(self, config: DictConfig) -> None:
        """A configuration of Hydra's: to be run later, or now if this process is its job.

        Raises:
            JobFailed, SystemExit: see `conclude`.
        """
        state = HydraConfig.get()
        self._sweep = state.mode == RunMode.MULTIRUN
        self._plan |= (config.get("table") or {}).get("name") == ALL
        combination = list(state.overrides.task)
        self.combinations.append(combination)
        try:
            self.runs += self._runs(config, combination)
        except (UserError, OmegaConfBaseException) as error:
            if self._sweep and isinstance(error, MethodRefused):
                self.refused.append((combination, str(error.__cause__)))
            else:
                self.errors.append(str(error))
        if self._sweep and not state.launcher._target_.endswith(".BasicLauncher"):
            conclude(self._job(), " ".join(combination))

    def _runs(self, config: DictConfig, overrides: list[str]) -> list[Run]:
        self._dry |= flag("dry", config.dry)
        if config.get("table") and any(key(one) == "method" or key(one).startswith("method.") for one in overrides):
            raise UserError("table=… brings its own methods; leave out either table=… or method=…")
        if (kind := (config.get("table") or {}).get("kind", RUN)) not in (RUN, COMPARE):
            raise UserError(f"table={config.table.name} has no cells of its own to run ({kind}); see `plphp reproduce`")
        configs = configurations(config)
        settings = [settings_from_config(one) for one in configs]
        if self._sweep and not config.get("table") and flag("with_none", config.with_none):
            # what changes are measured against; it shares the prefill of those that only compress
            settings = [replace(one, methods=distinct([MethodSettings("none"), *one.methods])) for one in settings]
        runs = [(some, resolved(one, some)) for one, some in zip(configs, settings, strict=True)]
        if kind == COMPARE:
            equal = [equal_cost(one.table, one.profile, one.model) for one in configs]
            self.compared += zip(runs, equal, strict=True)
            return []
        return runs

    def run(self) -> int:
        """Carry out all that has been added. Returns the exit code. Raises UserError."""
        if self.errors:
            others = f" ({len(self.errors) - 1} more combinations cannot be served either)" * (len(self.errors) > 1)
            raise UserError(f"{self.errors[0]}{others}")
        from plphp_core.evaluation.loading import LoadOnce

        loader = LoadOnce()
        if self.compared:
            from plphp_core.evaluation.cost_matching import matched_runs

            self.runs += [one for pair in self.compared for one in matched_runs(*pair, loader, self._dry)]
        if unfit := distinct(sentence for settings, _ in self.runs for sentence in misfits(settings)):
            if len(self.runs) == 1:
                raise UserError("; ".join(unfit))
            for sentence in unfit:  # before hours of what does fit; at its end they are named again
                say(f"warning: {sentence}")
        groups = group_runs(self.runs)
        code = OK
        if groups and (self._plan or self._dry) and first_process():
            from plphp_core.evaluation.plan import show_plan

            show_plan(labels(groups), groups)
        if groups and not self._dry:
            from torch import distributed

            from plphp_core.evaluation.runner import run_group

            code = run_groups(groups, partial(run_group, loader=loader))
            if distributed.is_initialized():  # torchrun's processes stay connected from one group to the next
                distributed.destroy_process_group()
            if self._sweep and code < 128 and first_process():
                summarise(groups)
        self._say_refused()
        return USAGE if self.refused and not groups else code

    def _say_refused(self) -> None:
        shared = set.intersection(*map(set, self.combinations)) if len(self.combinations) > 1 else set()
        by_reason: dict[str, list[str]] = {}
        for combination, reason in self.refused:
            by_reason.setdefault(reason, []).append(" ".join(one for one in combination if one not in shared))
        for reason, names in by_reason.items():
            say(f"left out: {names[0]}" + (f" and {len(names) - 1} more" if names[1:] else "") + f": {reason}")
        if self.refused:
            count = f"{len(self.refused)} of {len(self.combinations)}"
            say(f"{count} combinations left out: their method does not allow them")

    def _job(self) -> int:
        """Carry out this process's one combination. A refused one is no failure among others. Returns the exit code."""
        try:
            code = self.run()
        except UserError as error:
            say(f"error: {error}")
            return USAGE
        return OK if self.refused and not self.errors else code

    def submitted(self) -> int:
        """What became of the jobs that ran elsewhere. Returns the exit code."""
        failed = failed_jobs(self.folder) if self.folder else []
        for line in failed:
            say(f"failed: {line}")
        return FAILED if failed else OK

    def _jobs_folder(self, parent: str) -> str:
        if self.folder is None:
            self.folder = Path(parent) / "jobs" / f"{datetime.now():%Y%m%dT%H%M%S}-{os.getpid()}"
            say(f"jobs and their logs: {self.folder}")
        return str(self.folder)


def group_runs(runs: Iterable[Run]) -> list[list[Run]]:
    """Group runs that agree in their `Settings.shared()`, in order of first appearance."""
    groups: list[list[Run]] = []
    for settings, config in runs:
        group = next((group for group in groups if group[0][0].shared() == settings.shared()), None)
        if group is None:
            groups.append(group := [])
        group.append((settings, config))
    return groups


def run_groups(groups: Sequence[Sequence[Run]], run: Callable[[Sequence[Run]], int]) -> int:
    """Carry out groups of runs (`group_runs`); one that fails costs the others nothing.

    Returns:
        exit code: 0 all finished; 1 some samples, cells or groups failed; 2 every group was refused; 128 and more:
        interrupted, and the groups after that one were not begun.
    Raises:
        UserError: the only group was refused.
    """
    codes, failed = [], {}
    for number, (name, group) in enumerate(zip(labels(groups), groups, strict=True), start=1):
        if len(groups) > 1:
            say(f"group {number} of {len(groups)}: {name}")
        for settings, _ in group:
            if settings.skipped:
                left_out = f"{settings.table} leaves out {', '.join(settings.skipped)}"
                say(f"{settings.model.name}: {left_out}; table.skip=[] runs it too")
        group = [one for one in group if one[0].benchmarks]
        if not group:
            continue
        if len(groups) == 1:
            return run(group)
        try:
            codes.append(run(group))
        except UserError as error:
            failed[name] = str(error)
        except Exception as error:  # a night's run must not lose the groups that would work
            traceback.print_exc()
            failed[name] = f"{type(error).__name__}: {error}"
            codes.append(FAILED)
        if name in failed:
            say(f"error: {name}: {failed[name]}")
        elif codes[-1] >= 128:
            return codes[-1]
    for name, reason in failed.items():  # again: what was said above may have scrolled away hours ago
        say(f"failed: {name} was not run to its end: {reason}")
    if failed and not codes:
        return USAGE
    return max([*codes, FAILED if failed else 0])


def labels(groups: Sequence[Sequence[Run]]) -> list[str]:
    """A name for each group: its model, and where several have the same, what they do not share with one another."""
    firsts = [_plain(group[0][0]) for group in groups]
    named = []
    for one in firsts:
        same = [other for other in firsts if other["name"] == one["name"]]
        extra = sorted(key for key in one if any(other[key] != one[key] for other in same))
        named.append(", ".join([one["name"], *(f"{key}={one[key]}" for key in extra)]))
    return named


def _plain(settings: Settings) -> dict:
    """What the runs of a group share, the model's settings among the others."""
    whole = settings.shared().as_dict()
    return whole | whole.pop("model")


def summarise(groups: Iterable[Sequence[Run]]) -> None:
    """Print a table for each group of runs; what cannot be compared is said."""
    for (settings, _), *_ in groups:
        model = settings.model
        write_reports(
            ReportSettings(
                table="sweep",
                profile=settings.profile,
                results=settings.results.parent,
                model=model.name,
                filters=Filters(
                    protocol=settings.protocol,
                    prompts=model.prompts,
                    engine=model.engine,
                    dtype=model.dtype,
                    attn_implementation=model.attn_implementation,
                    limit=settings.limit,
                    limit_seed=settings.limit_seed,
                ),
            )
        )
