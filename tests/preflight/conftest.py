"""Runs of the toy to check, and one check at a time."""

import shutil
from pathlib import Path

import pytest

from plphp_core.evaluation.requests import Request
from plphp_core.preflight.checks import BenchmarkSample, CheckResult, PlannedRun, PreflightCheck, run_checks
from plphp_core.preflight.prompts import QUESTION, drawn
from tests.configured import ROOT, configured

CHECKPOINTS = ROOT / "tasks" / "toy" / "checkpoints"


@pytest.fixture
def planned():
    """Makes a planned run of the toy with one benchmark and these overrides, as if its data had been looked at."""

    def plan(*overrides: str) -> PlannedRun:
        run = PlannedRun(configured("profile=toy", "tasks=[sd]", *overrides))
        requests = [Request(QUESTION, {}, lambda count=count: [drawn(96, 96)] * count) for count in (1, 3)]
        run.data = [BenchmarkSample(run.settings.benchmarks[0], 48, requests)]
        return run

    return plan


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
