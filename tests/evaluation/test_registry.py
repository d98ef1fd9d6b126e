"""Methods from elsewhere and modules that are broken: a package of its own on the path, found by its entry points."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from plphp_core.pruning.method import method_names

ROOT = Path(__file__).resolve().parents[2]
METHOD = """
from dataclasses import dataclass
from typing import ClassVar

from plphp_core.pruning.method import Method


@dataclass(frozen=True)
class {cls}(Method):
    name: ClassVar[str] = "{name}"

    rate: float = 0.25
    seed: int = 0
"""


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    path = os.pathsep.join([str(folder), str(ROOT)])
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=250)


@pytest.fixture
def elsewhere(tmp_path):
    """A package and a single module with methods, installed as pip would, and no file in configs/method/."""
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "__init__.py").write_text("")
    (tmp_path / "theirs" / "one.py").write_text(METHOD.format(cls="One", name="theirs_one"))
    (tmp_path / "single_file.py").write_text(METHOD.format(cls="Two", name="theirs_two"))
    info = tmp_path / "theirs-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[plphp.methods]\ntheirs = theirs\ntwo = single_file\n")
    return tmp_path


@pytest.mark.slow
def test_a_method_from_elsewhere_has_its_own_defaults_everywhere(elsewhere):
    code = """
from plphp_core.demo.demo_settings import DemoSettings
from plphp_core.demo.parameters import parameters_of
from plphp_core.config.hydra_app import composed, options
from plphp_core.evaluation.lmms_plugin import model_ids
from plphp_core.config.run_settings import settings_from_config
from plphp_core.reporting.configured import method_configured

for name in ("theirs_one", "theirs_two"):
    assert name in options("method") and f"{name}_qwen2_vl" in model_ids()
    (row,) = settings_from_config(composed(["profile=toy", f"method={name}", "method.rate=0.5"])).methods
    assert (row.name, row.params, row.setting) == (name, {"rate": 0.5, "seed": 0}, "rate=0.5"), row
    table = "table={name: mine, rows: {toy: [{method: %s, seed: [1, 2]}]}}" % name
    rows = settings_from_config(composed(["profile=toy", "+" + table])).methods
    assert [(row.params["rate"], row.params["seed"]) for row in rows] == [(0.25, 1), (0.25, 2)], rows
    assert method_configured(name, "toy", "mantis")["rate"] == 0.25
    assert DemoSettings(["model=mantis"]).start[name] == {"rate": 0.25, "seed": 0}
    assert [one.name for one in parameters_of(name)] == ["rate", "seed"]
print("whole")
"""
    done = python(elsewhere, "-c", code)
    assert done.stdout.splitlines()[-1:] == ["whole"], done.stderr


@pytest.mark.slow
def test_the_command_line_sweeps_a_method_from_elsewhere(elsewhere, tmp_path):
    chosen = ["profile=toy", "tasks=sd", "limit=1", "method=theirs_one", "method.rate=0.1,0.2", f"results={tmp_path}/r"]
    done = python(elsewhere, "scripts/run.py", "-m", *chosen)
    assert done.returncode == 0, done.stderr
    names = sorted(path.name.split(".toy_sd")[0] for path in (tmp_path / "r" / "toy" / "cells").glob("*.json"))
    assert names == [
        "llava_onevision.none",
        "llava_onevision.theirs_one-rate=0.1-seed=0",
        "llava_onevision.theirs_one-rate=0.2-seed=0",
    ]


BROKEN = {
    "syntax": ("def (", "SyntaxError: invalid syntax (syntax.py, line 1)"),
    "missing": ("import there_is_no_such_module", "ModuleNotFoundError: No module named 'there_is_no_such_module'"),
    "raises": ("raise KeyError('left')", "KeyError: 'left'"),
    "exits": ("raise SystemExit(3)", "SystemExit: 3"),
    "nameless": (
        METHOD.format(cls="Forgot", name="x").replace('    name: ClassVar[str] = "x"', ""),
        "Forgot has no name",
    ),
    "taken": (METHOD.format(cls="Again", name="plphp"), "Again.name = 'plphp', but that is plphp_core.pruning.plphp's"),
    "open": (METHOD.format(cls="Open", name="open").replace("rate: float = 0.25", "rate: float"), "argument: 'rate'"),
}


@pytest.mark.slow
def test_a_broken_module_breaks_itself_by_name_and_nothing_else(elsewhere, tmp_path):
    for name, (text, _) in BROKEN.items():
        (elsewhere / "theirs" / f"{name}.py").write_text(text)
    code = """
from plphp_core.pruning.method import broken_modules, make_method, method_names
print(method_names())
print(make_method("plphp").r, make_method("theirs_one").rate)
for module, cause in sorted(broken_modules().items()):
    print(f"{module}: {cause}")
"""
    names, made, *causes = python(elsewhere, "-c", code).stdout.splitlines()
    assert names == str(["none", *sorted([*method_names()[1:], "theirs_one", "theirs_two"])]) and made == "0.4 0.25"
    assert [one.split(": ")[0] for one in causes] == [f"theirs.{name}" for name in sorted(BROKEN)]
    for line, (_, cause) in zip(causes, [BROKEN[name] for name in sorted(BROKEN)], strict=True):
        assert line.endswith(cause), line
    chosen = ["profile=toy", "tasks=sd", "dry=true", f"results={tmp_path}/r"]
    assert python(elsewhere, "scripts/run.py", *chosen, "method=plphp").returncode == 0
    refused = python(elsewhere, "scripts/run.py", *chosen, "method=syntax")
    assert refused.returncode == 2 and refused.stderr.count("\n") == 1
    assert "not loaded: " in refused.stderr and f"theirs.syntax ({BROKEN['syntax'][1]})" in refused.stderr


def test_a_broken_rival_does_not_break_the_others(tmp_path):
    """`baselines` itself must not import what is broken."""
    (tmp_path / "baselines").mkdir()
    for file in (ROOT / "baselines").glob("*.py"):
        (tmp_path / "baselines" / file.name).write_text(file.read_text())
    (tmp_path / "baselines" / "fastv.py").write_text("class FastV(:\n")
    code = """
from baselines import VTW
from plphp_core.pruning.method import broken_modules, make_method
print(VTW(K=3).K, make_method("vtw", K=4).K, list(broken_modules()))
try:
    from baselines import FastV
except SyntaxError as error:
    print(error.filename.endswith("fastv.py"))
"""
    (tmp_path / "ask.py").write_text(code)  # a script: its own folder comes before the repository
    done = python(tmp_path, str(tmp_path / "ask.py"))
    assert done.stdout.splitlines() == ["3 4 ['baselines.fastv']", "True"], done.stderr
