"""The plan: what is finished, what is to do and how long it may take, with nothing opened, loaded or answered."""

import json
import re
from functools import partial
from statistics import fmean

import pytest

from plphp_core.config.hydra_app import composed
from plphp_core.config.run_settings import settings_from_config
from plphp_core.evaluation import estimate, loading
from plphp_core.evaluation import lmms_tasks as benchmarks
from plphp_core.evaluation.estimate import BenchmarkEstimate, plan
from plphp_core.evaluation.run_app import resolved
from plphp_core.records.errors import UserError
from tests.evaluation.repositories import command, make_repository


@pytest.fixture(scope="module")
def repository(world, tmp_path_factory):
    return make_repository(tmp_path_factory.mktemp("repository"), world)


@pytest.fixture
def run(repository, tmp_path, monkeypatch, capfd):
    return partial(command(repository, tmp_path, monkeypatch, capfd), "profile=toy", "model=one", "tasks=alone")


@pytest.fixture
def nothing_opened(monkeypatch):
    """Data and weights that must not be touched."""

    def refuse(*arguments, **_):
        raise AssertionError(f"opened {arguments}")

    monkeypatch.setattr(benchmarks.Suite, "open", refuse)
    monkeypatch.setattr(loading, "load", refuse)


@pytest.fixture
def planned(repository, tmp_path, monkeypatch):
    """The parts of a plan, and its remarks."""

    def go(*overrides: str):
        chosen = ["profile=toy", "model=one", "tasks=alone", f"results={tmp_path}", *overrides]
        monkeypatch.chdir(repository)
        config = composed(chosen)
        settings = settings_from_config(config)
        return plan([(settings, resolved(config, settings))])

    return go


@pytest.fixture
def rows(repository):
    """Gives the table `rows` of `repository` other methods."""

    def go(*methods: str) -> str:
        text = "name: rows\nrows: {toy: [" + ", ".join(f"{{method: {method}}}" for method in methods) + "]}\n"
        (repository / "configs" / "table" / "rows.yaml").write_text(text)
        return "table=rows"

    return go


SHARING = ("none", "plphp, r: 0.4", "plphp, r: 0.5")


def test_a_prefill_that_is_shared_is_counted_once(planned, rows, nothing_opened):
    """2 s of prefill and 1 s of decoding for each of 10 samples, as the profile assumes."""
    (part,), notes = planned(rows(*SHARING))
    assert (
        part == BenchmarkEstimate("SD", cells=3, finished=0, missing=30, seconds=10 * 2.0 + 30 * 1.0, measured=0)
        and not notes
    )
    (part,), _ = planned("table=rows", "share=false")
    assert part.seconds == 30 * 3.0
    (part,), _ = planned(rows(*SHARING, "fastv, K: 2", "vtw, K: 3"))
    assert part.seconds == 3 * 10 * 2.0 + 50 * 1.0
    (part,), _ = planned(rows("vtw, K: 3"), "limit=4")
    assert part.missing == 4 and part.seconds == 4 * 3.0


def test_what_was_answered_is_not_to_do_and_tells_how_long_the_rest_takes(planned, rows, run, tmp_path):
    table = rows(*SHARING[:2])
    assert run(table, "limit=4").code == 0
    (part,), _ = planned(table, "limit=4")
    assert part == BenchmarkEstimate("SD", cells=2, finished=2, missing=0, seconds=0.0, measured=0)
    (part,), _ = planned(rows(*SHARING))
    files = {path.name.split(".")[1][:5]: path for path in (tmp_path / "toy" / "journal").glob("*.jsonl")}
    lines = {name: [json.loads(line) for line in path.read_text().splitlines()] for name, path in files.items()}

    def mean(name, field):
        return fmean(
            line["answer"][field] / 1000 / line["answer"]["batch_size"] for line in lines[name] if "answer" in line
        )

    prefill = max(6 * mean("none", "prefill_ms"), 10 * mean("plphp", "prefill_ms"))
    decode = 6 * mean("none", "decode_ms") + 16 * mean("plphp", "decode_ms")
    assert (part.cells, part.finished, part.missing, part.measured) == (3, 0, 6 + 6 + 10, 4)
    assert part.seconds == pytest.approx(prefill + decode)


@pytest.mark.parametrize("other", ["dtype=bfloat16", "engine=fast", "model=two"])
def test_times_of_other_numerics_and_models_say_nothing(planned, rows, run, other):
    table = rows("none")
    assert run(table, "limit=4").code == 0
    (part,), _ = planned(table, other)
    assert part.missing == 10 and part.seconds == 30.0 and part.measured == 0


def test_a_result_file_tells_how_many_samples_there_are(planned, rows, run, tmp_path):
    table = rows("none")
    assert run(table, "limit=4").code == 0
    (tmp_path / "toy" / "cells" / "one.none.mini_a.damaged.json").write_text("{")
    (part,), _ = planned(table, "profile.samples.a=7", "limit=9")
    assert part.missing == 9 - 4
    (part,), _ = planned(table, "profile.samples.a=7")
    assert part.missing == 10 - 4


def test_a_journal_that_is_torn_or_of_another_machine_is_left_as_it_is(planned, rows, run, tmp_path):
    table = rows("none")
    assert run(table, "limit=4").code == 0
    (path,) = (tmp_path / "toy" / "journal").glob("*.jsonl")
    torn = path.read_bytes().replace(b'"hardware":"', b'"hardware":"another ')[:-20]
    path.write_bytes(torn)
    (part,), _ = planned(table)
    assert part.missing == 10 - 3 and part.measured == 0
    assert path.read_bytes() == torn and not list(path.parent.glob("*.torn"))


def test_what_is_not_known_is_not_guessed(planned, rows):
    table = rows("none")
    (part,), _ = planned(table, "~profile.samples.a")
    assert part == BenchmarkEstimate("SD", 1, 0, None, None, 0)
    (part,), _ = planned(table, "profile.seconds_per_sample=null")
    assert part.missing == 10 and part.seconds is None
    (part,), (note,) = planned(table, "model.checkpoint=nobody/nothing")
    assert part.missing == 10 and "cannot reach the hub for model 'nobody/nothing'" in note


def test_a_wrong_assumption_is_refused(planned, rows):
    with pytest.raises(UserError, match=r"seconds_per_sample.any = .*: give seconds of prefill and of decode"):
        planned(rows("none"), "profile.seconds_per_sample.any.decode=quick")
    with pytest.raises(UserError, match=r"seconds_per_sample.b = 3: give"):
        planned(rows("none"), "+profile.seconds_per_sample.b=3")
    with pytest.raises(UserError, match=r"seconds_per_sample.any = .*'samples': 5.*: give"):  # measured, it would say
        planned(rows("none"), "+profile.seconds_per_sample.any.samples=5")


def test_dry_shows_the_plan_and_stops(run, rows, nothing_opened, tmp_path):
    done = run(rows(*SHARING), "dry=true")
    assert done.code == 0 and not done.cells, done.said
    shown = re.search(r"│ SD +│ +0/3 │ +30 │ +50 s │ +assumption │", done.said)
    assert shown and "estimated time: 50 s" in done.said and "assumed: profile.seconds_per_sample" in done.said
    assert {path.name for path in (tmp_path / "toy").iterdir()} <= {"fingerprints.json", "logs"}
    assert estimate.UNKNOWN not in done.said


def test_a_dry_sweep_is_planned_together(run, nothing_opened):
    done = run("-m", "dry=true", "method=plphp", "method.r=0.3,0.4", "method.delta_r=0.3,0.4")
    assert done.code == 0 and re.search(r"│ SD +│ +0/4 │", done.said) and "1 of 4 combinations left out" in done.said
