"""The first seconds of a script: no environment, Ctrl-C, make's variables."""

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ("run", "attend", "preflight", "report", "demo", "bench", "gpu_check", "choose_vtw_k", "train_toy")


@pytest.mark.parametrize("script", SCRIPTS)
def test_outside_the_environment_one_line_says_make_setup(script, tmp_path):
    """-S: an interpreter without any installed package."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-S", str(ROOT / "scripts" / f"{script}.py"), "profile=toy"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("error: No module named ")
    assert "`make setup`" in done.stderr and f".venv/bin/python scripts/{script}.py" in done.stderr


@pytest.mark.parametrize(
    ("script", "seconds"), [("run", 0.5), ("run", 1.0), ("report", 0.5), ("gpu_check", 1.0), ("train_toy", 0.5)]
)
def test_ctrl_c_while_importing_is_one_line(script, seconds, tmp_path):
    command = [sys.executable, str(ROOT / "scripts" / f"{script}.py"), "profile=toy", f"results={tmp_path}"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, "interrupted\n")


@pytest.mark.parametrize(
    "target", ["reproduce-table2", "reproduce-figure1", "reproduce-figure3", "report", "preflight", "bench"]
)
def test_make_hands_on_folders_with_spaces_and_lists_of_tasks(target):
    """As the shell would split what make is about to run."""
    folder = "it's a {folder}"
    command = ["make", "-n", "-o", "setup", target, f"RESULTS={folder}", "TASKS=[sd, mv]", "PROFILE=paper"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    lines = [line for line in done.stdout.replace("\\\n", " ").splitlines() if " -m scripts." in line]
    words = [word for line in lines for word in shlex.split(line)]
    assert words.count(f"results={folder}") == sum(line.count(" -m scripts.") for line in lines) >= 1
    if target not in ("report", "bench"):
        assert "tasks=[sd, mv]" in words
