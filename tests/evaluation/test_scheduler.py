"""What shares a run: everything but methods, benchmarks and tables must agree; sweeps and all tables at once use it."""

import dataclasses
import json
import shutil
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plphp_core.cli import run_command
from plphp_core.cli.run_command import group_runs, labels
from plphp_core.config import table_configs
from plphp_core.config.run_settings import Settings
from plphp_core.config.table_configs import runnable_tables
from plphp_core.evaluation import loading
from tests.evaluation.factories import settings
from tests.evaluation.repositories import ROOT, command

MAY_DIFFER = {"methods", "benchmarks", "table", "skipped", "refused"}
FIELDS = [field.name for field in dataclasses.fields(Settings)]


def changed(value):
    """Another value of the same kind."""
    if dataclasses.is_dataclass(value):
        return dataclasses.replace(value, dtype="float16")
    if isinstance(value, bool):
        return not value
    if isinstance(value, Path):
        return value / "other"
    if isinstance(value, tuple):
        return (*value, "more")
    if isinstance(value, dict):
        return {**value, "more": "of it"}
    return f"{value}-other" if isinstance(value, str) else (value or 0) + 1


@pytest.mark.parametrize("name", FIELDS)
def test_only_methods_benchmarks_and_tables_may_differ(name):
    one = settings(Path("/world"))
    other = dataclasses.replace(one, **{name: changed(getattr(one, name))})
    assert len(group_runs([(one, {}), (other, {})])) == (1 if name in MAY_DIFFER else 2)


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["none", "plphp"])), max_size=8))
def test_every_run_is_in_one_group_in_order_of_first_appearance(runs):
    asked = [
        (settings(Path("/world"), methods=[method], limit=1 + limit), {"number": number})
        for number, (limit, method) in enumerate(runs)
    ]
    groups = group_runs(asked)
    assert [group[0][0].limit for group in groups] == list(dict.fromkeys(some.limit for some, _ in asked))
    for group in groups:
        assert group == [run for run in asked if run[0].limit == group[0][0].limit]
    assert len(set(labels(groups))) == len(groups)


def test_groups_of_one_model_are_named_by_what_tells_them_apart():
    one = settings(Path("/world"))
    half = dataclasses.replace(one, model=dataclasses.replace(one.model, dtype="float16"))
    assert labels([[(one, {})], [(half, {})]]) == ["tiny, dtype=float32", "tiny, dtype=float16"]


# --- On the command line ----------------------------------------------------------------------------------------------


@pytest.fixture
def run(repository, tmp_path, monkeypatch, capfd):
    return partial(command(repository, tmp_path, monkeypatch, capfd), "profile=toy", "limit=2")


@pytest.fixture
def summaries(monkeypatch):
    """What the report of a sweep was asked for."""
    asked = []
    monkeypatch.setattr(run_command, "write_reports", asked.append)
    return asked


@pytest.fixture
def loads(monkeypatch):
    """The names of the models that were loaded."""
    found = []

    class Loader(loading.LoadOnce):
        def __init__(self):
            super().__init__(lambda model: found.append(model.name) or loading.load(model))

    monkeypatch.setattr(loading, "LoadOnce", Loader)
    return found


def sweep(run, *arguments):
    return partial(run, "-m", "model=one", "method=plphp")(*arguments)


def test_a_sweep_is_one_run_without_what_its_method_refuses(run, summaries, loads, tmp_path):
    done = sweep(run, "tasks=alone,other", "method.r=0.3,0.5", "method.delta_r=0,0.4")
    assert done.code == 0, done.said
    rates = Counter((cell["params"].get("r"), cell["params"].get("delta_r"), cell["benchmark"]) for cell in done.files)
    each = [(None, None), (0.3, 0.0), (0.5, 0.0), (0.5, 0.4)]  # none, which changes are measured against, and its rows
    assert rates == Counter((*rate, label) for label in ("SD", "IE") for rate in each)
    refused = "left out: tasks=alone method.r=0.3 method.delta_r=0.4 and 1 more: PLPHP: delta_r = 0.4 > r = 0.3"
    assert refused in done.said and "2 of 8 combinations left out" in done.said
    assert loads == ["one"] and len(list((tmp_path / "toy" / "manifests").iterdir())) == 1
    assert [(one.table, one.model, one.filters.limit) for one in summaries] == [("sweep", "one", 2)]


def test_a_sweep_can_do_without_none(run, summaries):
    done = sweep(run, "tasks=alone", "method.r=0.5", "with_none=false")
    assert done.code == 0 and list(done.cells) == [("one", "plphp", "SD")], done.said


def test_what_does_not_fit_the_depth_is_said_before_the_plan(run, summaries, loads):
    done = run("-m", "model=one", "method=vtw", "method.K=2,9", "tasks=alone")
    warning = "warning: vtw K=9 does not fit one: VTW: K = 9, but the model has 6 layers"
    assert done.code == 1 and done.said.splitlines()[0] == warning, done.said
    assert {name for _, name, _ in done.cells} == {"none", "vtw"} and loads == ["one"]


def test_a_sweep_of_nothing_but_refused_combinations_is_a_wrong_request(run, summaries):
    done = sweep(run, "tasks=alone", "method.r=0.1", "method.delta_r=0.2,0.3")
    assert done.code == 2 and not done.cells and not summaries
    assert "2 of 2 combinations left out" in done.said and "Traceback" not in done.said


def test_runs_that_do_not_fit_together_follow_each_other(run, summaries, loads):
    done = run("-m", "model=one,two", "method=none,plphp", "tasks=alone")
    assert done.code == 0 and len(done.files) == 4 and loads == ["one", "two"], done.said
    assert "group 2 of 2: two" in done.said and len(summaries) == 2


ANOTHER = """
name: another
defaults:
  - override /tasks@_global_.tasks: mini
rows: {toy: [{method: none}, {method: plphp, r: [0.3, 0.4], delta_r: [0.3, 0.4]}]}
"""


def test_all_tables_are_found_and_answer_every_cell_once(repository, world, tmp_path, monkeypatch, capfd, loads):
    root = tmp_path / "repository"
    shutil.copytree(repository, root, symlinks=True)
    monkeypatch.setattr(table_configs, "runnable_tables", lambda: ["another", "pair"])
    (root / "configs" / "table" / "another.yaml").write_text(ANOTHER)
    main_model = root / "configs" / "model" / "llava_onevision.yaml"
    main_model.write_text((root / "configs" / "model" / "one.yaml").read_text())
    run = command(root, tmp_path, monkeypatch, capfd)
    done = run("table=all", "profile=toy", "tasks=mini", "limit=2")
    assert done.code == 0, done.said
    assert loads == ["one", "two"] and "group 2 of 2: two (pair)" in done.said and "estimated time" in done.said
    assert Counter(cell["model"] for cell in done.files) == {"one": 2 * 4, "two": 2}
    lines = [
        json.loads(line) for path in (tmp_path / "toy" / "journal").iterdir() for line in path.read_text().splitlines()
    ]
    answers = Counter(line["key"] for line in lines if "answer" in line)
    assert len(answers) == 2 * len(done.files) and set(answers.values()) == {1}
    again = run("table=all", "profile=toy", "tasks=mini", "limit=2")
    assert again.code == 0 and len(loads) == 2 and "all 8 cells are finished" in again.said
    one = run("table=all", "profile=toy", "tasks=mini", "limit=3", "model=two", "dry=true")
    assert one.code == 0 and "group 1 of 1: two (another, pair)" in one.said, one.said


@pytest.mark.parametrize("profile", [pytest.param("toy", marks=pytest.mark.slow), "paper"])
def test_all_tables_of_the_paper_start_with_the_main_model(profile, tmp_path, monkeypatch, capfd):
    done = command(ROOT, tmp_path, monkeypatch, capfd)("table=all", f"profile={profile}", "dry=true")
    assert done.code == 0, done.said
    files = {f"table{number}" for number in range(1, 6)} | {f"figure{number}" for number in range(5, 9)}
    assert set(runnable_tables()) == files
    first, *others = [line for line in done.said.splitlines() if line.startswith("group ")]
    apart = {"figure7"} if profile == "toy" else set()  # one sample at a time, the toy's other cells in batches
    assert "llava_onevision" in first and all(name in first for name in files - {"table3"} - apart)
    assert all(any(f"({name})" in line for line in others) for name in apart)
    others = [line for line in others if "(figure7)" not in line]
    assert [line.split(": ")[1].split()[0].strip(",") for line in others] == ["qwen2_vl", "idefics2", "mantis"]
