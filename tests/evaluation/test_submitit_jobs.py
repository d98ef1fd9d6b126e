"""Jobs of a launcher: each answers its own combination, a requeued one goes on, and one that fails is named."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hydra.core.utils import JobReturn, JobStatus
from submitit.core.utils import DelayedSubmission, cloudpickle_dump

from plphp_core.evaluation.submitit_jobs import JobFailed, conclude, failed_jobs
from tests.evaluation.factories import make_world
from tests.evaluation.repositories import ROOT, command, make_repository

TRAPS = """

import os
import signal
from pathlib import Path

seen = []


def trapped(doc):
    seen.append(doc)
    preempted, killed = (Path(__file__).with_name(name) for name in ("preempted", "killed"))
    if len(seen) == 5 and not preempted.exists():
        preempted.touch()
        os.kill(os.getpid(), signal.SIGUSR2)
    elif len(seen) == 3 and preempted.exists() and not killed.exists():
        killed.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return images(doc)
"""


@pytest.fixture
def repository(tmp_path):
    """Its job is preempted at its fifth sample, as Slurm does it; once requeued it is killed at its third."""
    world = make_world(tmp_path / "world")
    with (world / "tasks" / "functions.py").open("a") as functions:
        functions.write(TRAPS)
    task = world / "tasks" / "mini_a.yaml"
    task.write_text(task.read_text().replace("functions.images", "functions.trapped"))
    root = tmp_path / "repository"
    root.mkdir()
    return make_repository(root, world)


def submit(repository: Path, *arguments: str) -> subprocess.CompletedProcess:
    """The command line in a process of its own."""
    code = "import sys; from plphp_core.cli.entry_point import command; sys.exit(command('run', sys.argv[1:]))"
    command = [sys.executable, "-c", code, *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.timeout(900)  # five processes that import everything
def test_a_preempted_job_is_requeued_and_a_killed_one_goes_on_with_the_same_command(repository):
    arguments = ["launcher=submitit_local", "profile=toy", "model=one", "table=pair", "tasks=alone", "batch_size=2"]
    first = submit(repository, *arguments)
    assert first.returncode == 1 and "Traceback" not in first.stderr, first.stderr
    (line,) = [line for line in first.stderr.splitlines() if line.startswith("failed: ")]
    assert "tasks=alone" in line and "no result" in line
    said = Path(line.rpartition("log ")[2]).read_text()
    assert "0/10" in said and "4/10" in said.partition("0/10")[2] and "overlap" not in said
    results = repository / "results" / "toy"
    assert not list(results.glob("cells/*"))
    second = submit(repository, *arguments)
    assert second.returncode == 0 and len(list(results.glob("cells/*"))) == 2, second.stderr
    (log,) = [path for path in results.glob("logs/jobs/*/*/*.err") if str(path) not in line]
    assert "6/10" in log.read_text()
    for path in (results / "journal").iterdir():
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        answers = Counter(line["doc_id"] for line in lines if "answer" in line)
        assert answers == Counter(range(10)), path


def test_slurm_is_asked_for_what_the_command_line_and_the_configuration_say(tmp_path, monkeypatch, capfd):
    """A stand-in for sbatch keeps the script and refuses the job."""
    programs = {
        "srun": "exit 0",
        "sbatch": f'cp "$1" {tmp_path}/script; echo "sbatch: error: no partition" >&2; exit 1',
    }
    for name, text in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    run = command(ROOT, tmp_path / "results", monkeypatch, capfd)
    chosen = ["launcher.partition=gpu", "launcher.account=lab", "hydra.launcher.timeout_min=30"]
    done = run("launcher=slurm", "table=table1", "tasks=sd,ie", *chosen)
    assert done.code == 1 and "no partition" in done.said and "Traceback" not in done.said, done.said
    script = (tmp_path / "script").read_text()
    asked = [line.removeprefix("#SBATCH --") for line in script.splitlines() if line.startswith("#SBATCH --")]
    expected = "partition=gpu account=lab time=30 gpus-per-node=1 cpus-per-task=8 mem=64GB signal=USR2@120 requeue"
    assert set(expected.split()) | {"array=0-1%2"} <= set(asked), asked


# --- What the waiting process reads -----------------------------------------------------------------------------------


def test_a_job_ends_as_its_engine_understands_it():
    assert conclude(0, "tasks=sd") is None
    with pytest.raises(SystemExit) as stop:  # no result: the scheduler knows whether the job comes back
        conclude(143, "tasks=sd")
    assert stop.value.code == 143
    with pytest.raises(JobFailed, match="tasks=sd: exit code 1, log n/a"):
        conclude(1, "tasks=sd")


def test_every_job_that_did_not_end_well_is_named(tmp_path):
    results = {
        "11": ("success", JobReturn(status=JobStatus.COMPLETED)),
        "12": ("success", JobReturn(status=JobStatus.FAILED, _return_value=JobFailed("tasks=ie: exit code 1, log x"))),
        "13": ("success", JobReturn(status=JobStatus.FAILED, _return_value=KeyError("oops"))),
        "14": ("error", "Traceback (most recent call last):\n  …\nMemoryError: no room\n"),
        "15": None,
    }
    for job, result in results.items():
        folder = tmp_path / job
        folder.mkdir()
        DelayedSubmission(print, [f"tasks={job}"]).dump(folder / f"{job}_submitted.pkl")
        if result:
            cloudpickle_dump(result, folder / f"{job}_0_result.pkl")
    log = {job: tmp_path / job / f"{job}_0_log.err" for job in results}
    assert failed_jobs(tmp_path) == [
        "tasks=ie: exit code 1, log x",
        f"KeyError: 'oops', log {log['13']}",
        f"MemoryError: no room, log {log['14']}",
        f"tasks=15: no result (killed, or still running), log {log['15']}",
    ]
    assert failed_jobs(tmp_path / "nothing") == []
