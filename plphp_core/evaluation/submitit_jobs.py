"""Runs as jobs of a Hydra launcher such as submitit: how a job ends, and what the process that waits makes of it."""

from __future__ import annotations

import sys
from pathlib import Path


class JobFailed(RuntimeError):
    """A job did not end with exit code 0; the message names it, its exit code and its log."""


def conclude(code: int, job: str) -> None:
    """End a job as its engine understands it.

    Raises:
        SystemExit: the run was told to stop (`code` ≥ 128). Without a result the engine asks the scheduler, which may
            have put the job back into its queue.
        JobFailed: any other exit code but 0.
    """
    if code >= 128:
        sys.exit(code)
    if code:
        raise JobFailed(f"{job}: exit code {code}, log {_log()}")


def _log() -> str:
    import submitit

    try:
        return str(submitit.JobEnvironment().paths.stderr)
    except RuntimeError:  # another engine
        return "n/a"


def failed_jobs(folder: Path) -> list[str]:
    """A line for every submitit job of one sweep that did not end well, or not at all.

    Args:
        folder: holds a folder per job.
    """
    from submitit.core.utils import DelayedSubmission, JobPaths, pickle_load

    found = []
    for pickled in sorted(folder.glob("*/*_submitted.pkl")):
        paths = JobPaths(pickled.parent, pickled.name.removesuffix("_submitted.pkl"))
        if not paths.result_pickle.exists():
            overrides = " ".join(DelayedSubmission.load(pickled).args[0])
            found.append(f"{overrides}: no result (killed, or still running), log {paths.stderr}")
            continue
        outcome, result = pickle_load(paths.result_pickle)
        if outcome == "error":  # of the engine: the traceback as text
            found.append(f"{result.strip().splitlines()[-1]}, log {paths.stderr}")
        elif result.status.name != "COMPLETED":
            found.append(_said(result._return_value, paths.stderr))
    return found


def _said(error: Exception, log: Path) -> str:
    return str(error) if isinstance(error, JobFailed) else f"{type(error).__name__}: {error}, log {log}"
