"""Tables over several models: each as if chosen alone, one after the other, and one that fails costs no other."""

import gc
import shutil
import weakref
from functools import partial

import pytest

from plphp_core.cli.run_command import run_groups
from plphp_core.config.hydra_app import compose_and_call
from plphp_core.config.run_settings import settings_from_config
from plphp_core.config.table_configs import configurations
from plphp_core.evaluation import loading, runner
from plphp_core.records.cache_keys import LIBRARIES
from plphp_core.records.errors import UserError
from tests.evaluation.repositories import ROOT, command


@pytest.fixture
def run(repository, tmp_path, monkeypatch, capfd):
    return partial(
        command(repository, tmp_path, monkeypatch, capfd), "profile=toy", "tasks=mini", "table=pair", "limit=2"
    )


ONE = {("one", method, label) for method in ("none", "plphp") for label in ("SD", "IE")}
TWO = {("two", method, "IE") for method in ("none", "plphp")}


def test_every_model_gets_its_cells_with_its_own_checkpoint_and_thresholds(run):
    done = run()
    assert done.code == 0, done.said
    assert set(done.cells) == ONE | TWO
    assert {cell["checkpoint"] for key, cell in done.cells.items() if key[0] == "one"} == {"one"}
    assert {cell["checkpoint"] for key, cell in done.cells.items() if key[0] == "two"} == {"two"}
    thresholds = {key[0]: cell["params"]["alpha"] for key, cell in done.cells.items() if key[1] == "plphp"}
    assert thresholds == {"one": 0.25, "two": 0.5}
    for cell in done.cells.values():
        assert set(cell["versions"]) == {*LIBRARIES, "lmms-eval"}
    assert "group 2 of 2: two" in done.said and "leaves out SD; table.skip=[] runs it too" in done.said


def test_what_a_table_skips_is_run_on_request(run):
    assert set(run("table.skip=null").cells) == ONE | TWO | {("two", method, "SD") for method in ("none", "plphp")}
    assert "leaves out" not in run("table.skip=[]", "dry=true").said


def test_one_model_alone(run):
    done = run("model=two", "model.checkpoint=one")
    assert done.code == 0 and set(done.cells) == TWO
    assert {cell["checkpoint"] for cell in done.cells.values()} == {"one"}


def test_a_model_with_nothing_to_do_is_no_failure(run):
    done = run("tasks=alone")
    assert done.code == 0 and {model for model, _, _ in done.cells} == {"one"}, done.said


@pytest.mark.parametrize(
    "damage, reason",
    [
        (lambda folder: shutil.rmtree(folder), "cannot reach the hub for model 'one'"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"torn"), "cannot load"),
    ],
)
def test_a_model_that_cannot_be_run_costs_the_others_nothing(run, repository, damage, reason):
    whole = shutil.copytree(repository / "one", repository / "whole")
    damage(repository / "one")
    try:
        done = run()
    finally:
        shutil.rmtree(repository / "one", ignore_errors=True)
        whole.rename(repository / "one")
    assert done.code == 1 and set(done.cells) == TWO
    assert f"error: one: {reason}" in done.said and f"failed: one was not run to its end: {reason}" in done.said


def test_a_crash_costs_the_others_nothing(run, monkeypatch):
    original = runner.Suite

    def crash(settings, *rest):
        if settings.model.name == "one":
            raise ZeroDivisionError("a bug")
        return original(settings, *rest)

    monkeypatch.setattr(runner, "Suite", crash)
    done = run()
    assert done.code == 1 and set(done.cells) == TWO
    assert "failed: one was not run to its end: ZeroDivisionError: a bug" in done.said and "Traceback" in done.said


def test_nothing_is_left_to_do_after_an_interruption(run, monkeypatch):
    """Ctrl-C ends all models, and the same command again goes on."""
    original = runner.JointAnswerer.answer
    calls = []

    def interrupted(self, *arguments):
        for answers in original(self, *arguments):
            calls.append(answers)
            if len(calls) == 3:
                raise KeyboardInterrupt
            yield answers

    monkeypatch.setattr(runner.JointAnswerer, "answer", interrupted)
    stopped = run()
    assert stopped.code == 130 and "group 2 of 2" not in stopped.said
    done = run()
    assert done.code == 0 and set(done.cells) == ONE | TWO and len(calls) == 7  # six cells, one batch each, one lost


def test_every_model_refused_is_a_wrong_request(run, repository):
    for name in ("one", "two"):
        (repository / name).rename(repository / f"{name}-away")
    try:
        done = run()
    finally:
        for name in ("one", "two"):
            (repository / f"{name}-away").rename(repository / name)
    assert done.code == 2 and not done.cells


def test_the_old_weights_are_gone_before_the_new_ones_arrive(run, monkeypatch):
    """Two 7B models do not fit one GPU: none of the first one's parameters may be alive when the second is loaded."""
    alive, seen = [], []
    original = loading.load

    def load(settings):
        gc.disable()  # only what the loader itself lets go of counts
        seen.append(sum(parameter() is not None for parameter in alive))
        loaded = original(settings)
        alive.extend(weakref.ref(parameter) for parameter in loaded.model.parameters())
        return loaded

    class Loader(loading.LoadOnce):
        def __init__(self):
            super().__init__(load)

    monkeypatch.setattr(loading, "LoadOnce", Loader)
    try:
        assert run().code == 0
    finally:
        gc.enable()
    assert seen == [0, 0] and alive


# --- Table 3 itself ---------------------------------------------------------------------------------------------------


def table3(*overrides: str):
    found = {}
    compose_and_call(
        ["table=table3", *overrides],
        lambda config: found.update({one.model.name: settings_from_config(one) for one in configurations(config)}),
    )
    return found


@pytest.mark.parametrize("profile", ["paper", "toy"])
def test_table_3_has_the_papers_models_methods_and_benchmarks(profile):
    found = table3(f"profile={profile}")
    assert list(found) == ["qwen2_vl", "idefics2", "mantis"]
    for name, some in found.items():
        assert [f"{row.name} {row.setting}".strip() for row in some.methods] == ["none", "plphp r=0.4, Δr=0.3"]
        labels = ["SD", "IE", "VST", "MV", "Flickr30k", "COCO2017"] + ["DetailCaps"] * (name == "qwen2_vl")
        assert [benchmark.label for benchmark in some.benchmarks] == labels
        assert some.model.family == name and some.results == ROOT / "results" / profile


def test_models_are_loaded_as_lmms_eval_does_on_the_paper_profile():
    assert {name: some.model.dtype for name, some in table3("profile=paper").items()} == {
        "qwen2_vl": "bfloat16",
        "idefics2": "float16",
        "mantis": "float16",
    }
    assert {some.model.dtype for some in table3("profile=toy").values()} == {"float32"}
    assert {some.model.dtype for some in table3("profile=paper", "dtype=float32").values()} == {"float32"}


def test_the_scheduler_refuses_a_single_model_as_a_run_does():
    def refuse(*_):
        raise UserError("no checkpoint")

    (some,) = table3("model=mantis", "profile=toy").values()
    with pytest.raises(UserError, match="no checkpoint"):
        run_groups([[(some, {})]], refuse)
