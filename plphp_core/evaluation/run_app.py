"""An evaluation by its configuration: Hydra enumerates what is asked for, what fits together is run together."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from plphp_core.config.checked_values import flag
from plphp_core.config.hydra_app import compose_and_call, key
from plphp_core.config.locations import make_importable
from plphp_core.config.run_settings import Settings, settings_from_config
from plphp_core.config.table_configs import ALL, RUN, configurations
from plphp_core.config.table_rows import MethodSettings, check_method
from plphp_core.evaluation.distributed import first_process, say
from plphp_core.evaluation.loading import misfits
from plphp_core.evaluation.run_status import FAILED, INTERRUPTED, OK, USAGE
from plphp_core.evaluation.scheduler import Run, distinct, group_runs, run_groups
from plphp_core.evaluation.submitit_jobs import JobFailed, conclude, failed_jobs
from plphp_core.records.errors import UserError


def main(arguments: Sequence[str], summarise: Callable[[Sequence[Sequence[Run]]], None] | None = None) -> int:
    """Run what a command line asks for.

    Args:
        summarise: called with the groups of a sweep that has come to its end in this process.
    Returns:
        exit code: 0 all finished; 1 samples, cells, groups or jobs failed; 2 it cannot be served as it stands; 130 and
        143 interrupted.
    Raises:
        UserError: it cannot be served as it stands.
    """
    asked = _RunCommand(summarise)
    try:
        compose_and_call(arguments, asked.add)
        return asked.submitted() if asked.folder else asked.run()
    except KeyboardInterrupt:
        say(f"a cluster goes on with the jobs below {asked.folder}" if asked.folder else "interrupted")
        return INTERRUPTED
    except RuntimeError as error:  # a job's, or submitit's own
        if not asked.folder and not isinstance(error, JobFailed):
            raise
        if code := asked.submitted():
            return code
        say(f"failed: {error}")
        return FAILED


class _RunCommand:
    """What one command line asks for: one configuration, or those of a sweep's combinations.

    Attributes:
        folder: of the jobs' pickles and logs, where the combinations go to a launcher of submitit.
    """

    def __init__(self, summarise: Callable[[Sequence[Sequence[Run]]], None] | None = None):
        self.summarise = summarise
        self.runs: list[Run] = []
        self.refused: list[tuple[list[str], str]] = []  # combinations that their method does not allow, and why
        self.errors: list[str] = []
        self.combinations: list[list[str]] = []
        self.folder: Path | None = None
        self._sweep = self._plan = self._dry = False
        make_importable()  # tasks/, for a job elsewhere
        OmegaConf.register_new_resolver("jobs_folder", self._jobs_folder, replace=True)

    def __reduce__(self):
        """A job elsewhere starts with nothing."""
        return _RunCommand, ()

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
            if self._sweep and _refused(config):
                self.refused.append((combination, str(error.__cause__ or error)))
            else:
                self.errors.append(str(error))
        if self._sweep and not state.launcher._target_.endswith(".BasicLauncher"):
            conclude(self._job(), " ".join(combination))

    def _runs(self, config: DictConfig, overrides: list[str]) -> list[Run]:
        self._dry |= flag("dry", config.dry)
        if config.get("table") and any(key(one) == "method" or key(one).startswith("method.") for one in overrides):
            raise UserError("table=… brings its own methods; leave out either table=… or method=…")
        if (kind := (config.get("table") or {}).get("kind", RUN)) != RUN:
            raise UserError(f"table={config.table.name} has no cells of its own to run ({kind}); see `plphp reproduce`")
        configs = configurations(config)
        settings = [settings_from_config(one) for one in configs]
        if self._sweep and not config.get("table") and flag("with_none", config.with_none):
            settings = [_with_none(one) for one in settings]
        return [(some, resolved(one, some)) for one, some in zip(configs, settings, strict=True)]

    def run(self) -> int:
        """Carry out all that has been added. Returns the exit code."""
        if self.errors:
            others = f" ({len(self.errors) - 1} more combinations cannot be served either)" * (len(self.errors) > 1)
            raise UserError(f"{self.errors[0]}{others}")
        if unfit := distinct(sentence for settings, _ in self.runs for sentence in misfits(settings)):
            if len(self.runs) == 1:
                raise UserError("; ".join(unfit))
            for sentence in unfit:  # before hours of what does fit; at its end they are named again
                say(f"warning: {sentence}")
        groups = group_runs(self.runs)
        code = OK
        if groups and (self._plan or self._dry):
            from plphp_core.evaluation.estimate import show_plan

            if first_process():
                show_plan(groups)
        if groups and not self._dry:
            from torch import distributed

            from plphp_core.evaluation.loading import LoadOnce
            from plphp_core.evaluation.runner import run_together

            code = run_groups(groups, partial(run_together, loader=LoadOnce()))
            if distributed.is_initialized():  # torchrun's processes stay connected from one group to the next
                distributed.destroy_process_group()
            if self._sweep and self.summarise is not None and code < 128:
                self.summarise(groups)
        self._say_refused()
        if self.refused and not groups:
            return USAGE
        return code

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


def _with_none(settings: Settings) -> Settings:
    """What changes are measured against; it shares the prefill of those that only compress."""
    return replace(settings, methods=distinct([MethodSettings("none"), *settings.methods]))


def _refused(config: DictConfig) -> bool:
    """Whether it is the method itself that does not allow its values, although it has all these parameters."""
    params = OmegaConf.to_container(config.method, resolve=True)
    name, _ = params.pop("name"), params.pop("setting", None)
    try:
        method = check_method(name, {})
        if method is None or set(params) - set(method.params()):
            return False
        check_method(name, params)
    except UserError as error:
        return isinstance(error.__cause__, ValueError)
    return False


def resolved(config: DictConfig, settings: Settings) -> dict:
    """The configuration as plain data. A table's methods replace the unused single one."""
    plain = OmegaConf.to_container(config, resolve=True)
    if settings.table:
        plain.pop("method")
    return plain
