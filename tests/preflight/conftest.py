"""Runs of the toy to check, and one check at a time."""

import shutil
from pathlib import Path

import pytest
import torch

from plphp_core.preflight.checks import CheckResult, PlannedRun, PreflightCheck, run_checks
from tests.configured import ROOT, configured

CHECKPOINTS = ROOT / "tasks" / "toy" / "checkpoints"


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """The models are tiny; threads would only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def planned():
    """Makes a planned run of the toy with one benchmark and these overrides."""
    return lambda *overrides: PlannedRun(configured("profile=toy", "tasks=[sd]", *overrides))


@pytest.fixture
def copied(tmp_path, planned):
    """Copies a family's toy checkpoint, and plans a run on the copy: `(folder, run)`."""

    def copy(family: str = "llava_onevision", *overrides: str) -> tuple[Path, PlannedRun]:
        folder = Path(shutil.copytree(CHECKPOINTS / family, tmp_path / family))
        return folder, planned(f"model={family}", f"model.checkpoint={folder}", *overrides)

    return copy


@pytest.fixture
def examine():
    """Runs what a check needs, and the check; returns the results of the check itself."""

    def ordered(one: PreflightCheck) -> list[PreflightCheck]:
        return list(dict.fromkeys([*(deep for need in one.needs for deep in ordered(need)), one]))

    def results(one: PreflightCheck, run: PlannedRun) -> list[CheckResult]:
        return [result for result in run_checks(ordered(one), run) if result.name == one.title]

    return results
