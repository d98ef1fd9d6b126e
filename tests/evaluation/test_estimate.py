"""The plan: what is finished, what is to do and how long it may take, with nothing opened, loaded or answered."""

import json
import re
from functools import partial
from statistics import fmean

import pytest

from plphp_core.config.hydra_app import composed
from plphp_core.config.run_settings import resolved, settings_from_config
from plphp_core.evaluation import lmms_tasks, loading
from plphp_core.evaluation.plan import plan_ahead
from plphp_core.records.errors import UserError
from tests.evaluation.repositories import command


@pytest.fixture
def run(repository, tmp_path, monkeypatch, capfd):
    return partial(command(repository, tmp_path, monkeypatch, capfd), "profile=toy", "model=one", "tasks=alone")


@pytest.fixture
def nothing_opened(monkeypatch):
    """Data and weights that must not be touched."""

    def refuse(*arguments, **_):
        raise AssertionError(f"opened {arguments}")

    monkeypatch.setattr(lmms_tasks.Suite, "open", refuse)
    monkeypatch.setattr(loading.LoadOnce, "__call__", refuse)


@pytest.fixture
def planned(repository, tmp_path, monkeypatch):
    """The cells of a plan, and its remarks."""

    def go(*overrides: str):
        chosen = ["profile=toy", "model=one", "tasks=alone", f"results={tmp_path}", *overrides]
        monkeypatch.chdir(repository)
        config = composed(chosen)
        settings = settings_from_config(config)
        return plan_ahead([(settings, resolved(config, settings))])

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


def missing(cells) -> list:
    return [one.missing for one in cells]


def seconds(cells) -> float:
    return sum(one.time for one in cells)


def test_what_shares_a_prefill_pays_for_one(planned, rows, nothing_opened):
    """2 s of prefill and 1 s of decoding are assumed of each of 10 samples."""
    cells, _ = planned(rows("vtw, K: 3"))
    assert missing(cells) == [10] and seconds(cells) == 30.0
    cells, _ = planned(rows(*SHARING))
    assert seconds(cells) == pytest.approx(10 * 2.0 + 30 * 1.0)
    cells, _ = planned(rows(*SHARING), "share=false")
    assert seconds(cells) == 30 * 3.0
    cells, _ = planned(rows(*SHARING, "fastv, K: 2", "vtw, K: 3"))  # these two prefill alone
    assert seconds(cells) == pytest.approx(3 * 10 * 2.0 + 50 * 1.0)
    cells, _ = planned(rows("vtw, K: 3"), "limit=4")
    assert missing(cells) == [4] and seconds(cells) == 4 * 3.0


def test_what_was_answered_is_not_to_do_and_tells_how_long_the_rest_takes(planned, rows, run, tmp_path):
    table = rows(*SHARING[:2])
    assert run(table, "limit=4").code == 0
    cells, _ = planned(table, "limit=4")
    assert all(one.finished for one in cells) and seconds(cells) == 0.0
    cells, _ = planned(rows(*SHARING))
    files = {path.name.split(".")[1][:5]: path for path in (tmp_path / "toy" / "journal").glob("*.jsonl")}
    lines = {name: [json.loads(line) for line in path.read_text().splitlines()] for name, path in files.items()}

    def mean(name, field):
        return fmean(
            line["answer"][field] / 1000 / line["answer"]["batch_size"] for line in lines[name] if "answer" in line
        )

    assert missing(cells) == [6, 6, 10] and [bool(one.measured) for one in cells] == [True, True, False]
    for one, name in zip(cells, ("none", "plphp"), strict=False):
        assert one.seconds == pytest.approx(mean(name, "prefill_ms") / 3 + mean(name, "decode_ms"))
    assert min(cells[0].seconds, cells[1].seconds) < cells[2].seconds < max(cells[0].seconds, cells[1].seconds)


def test_times_of_other_numerics_and_models_say_nothing_and_a_result_tells_how_many_samples(
    planned, rows, run, tmp_path
):
    table = rows("none")
    assert run(table, "limit=4").code == 0
    for other in ("dtype=bfloat16", "engine=fast", "model=two"):
        cells, _ = planned(table, other)
        assert missing(cells) == [10] and seconds(cells) == 30.0 and not cells[0].measured
    (tmp_path / "toy" / "cells" / "one.none.mini_a.damaged.json").write_text("{")
    assert missing(planned(table, "profile.samples.a=7", "limit=9")[0]) == [9 - 4]
    assert missing(planned(table, "profile.samples.a=7")[0]) == [10 - 4]


def test_a_journal_that_is_torn_or_of_another_machine_is_left_as_it_is(planned, rows, run, tmp_path):
    table = rows("none")
    assert run(table, "limit=4").code == 0
    (path,) = (tmp_path / "toy" / "journal").glob("*.jsonl")
    torn = path.read_bytes().replace(b'"hardware":"', b'"hardware":"another ')[:-20]
    path.write_bytes(torn)
    cells, _ = planned(table)
    assert missing(cells) == [10 - 3] and not cells[0].measured
    assert path.read_bytes() == torn and not list(path.parent.glob("*.torn"))


def test_what_is_not_known_is_not_guessed(planned, rows):
    table = rows("none")
    ((one,), _) = planned(table, "~profile.samples.a")
    assert one.samples is one.missing is one.time is None
    ((one,), _) = planned(table, "profile.seconds_per_sample=null")
    assert one.missing == 10 and one.time is None
    ((one,), (note,)) = planned(table, "model.checkpoint=nobody/nothing")
    assert one.missing == 10 and "cannot reach the hub for model 'nobody/nothing'" in note


@pytest.mark.parametrize("wrong", ["profile.seconds_per_sample.any.decode=quick", "+profile.seconds_per_sample.b=3",
                                   "+profile.seconds_per_sample.any.samples=5"])  # fmt: skip
def test_a_wrong_assumption_is_refused(planned, rows, wrong):
    with pytest.raises(UserError, match=r"seconds_per_sample.(any|b) = .*: give seconds of prefill and of decode"):
        planned(rows("none"), wrong)


def test_dry_shows_the_plan_and_stops(run, rows, nothing_opened, tmp_path):
    done = run(rows(*SHARING), "dry=true")
    assert done.code == 0 and not done.cells, done.said
    assert re.search(r"│ none +│ +0/10 │", done.said) and re.search(r"│ time +│ +50 s │", done.said)
    assert "3 cells, 0 finished; 30 samples to answer" in done.said and "estimated time: 50 s" in done.said
    assert "assumed: profile.seconds_per_sample" in done.said and "n/a" not in done.said
    assert {path.name for path in (tmp_path / "toy").iterdir()} <= {"fingerprints.json", "logs"}


def test_a_dry_sweep_is_planned_together(run, nothing_opened):
    done = run("-m", "dry=true", "method=plphp", "method.r=0.3,0.4", "method.delta_r=0.3,0.4")
    assert done.code == 0 and "4 cells, 0 finished" in done.said and "1 of 4 combinations left out" in done.said
