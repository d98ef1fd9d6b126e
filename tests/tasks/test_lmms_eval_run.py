"""A whole lmms-eval evaluation on these task files: sub-set scores and versions are among its own results."""

import sys

import datasets
import pytest
from lmms_eval import evaluator
from lmms_eval.api.model import lmms

from tests.tasks.factories import data_set


class Parrot(lmms):
    """Says the same of everything."""

    def __init__(self, text: str):
        super().__init__()
        self.text = text

    def generate_until(self, requests):
        return [self.text for _ in requests]

    def loglikelihood(self, requests):
        raise NotImplementedError

    generate_until_multi_round = loglikelihood


@pytest.fixture
def results(manager, tmp_path, monkeypatch):
    """results(names, answer) -> lmms-eval's results, on data below ./tasks/toy/data of a scratch folder."""
    folders = {"sd": "interleave_in_domain", "mv": "interleave_multi_view", "detailcaps": "detailcaps"}

    def run(names, answer):
        for name in names:
            data_set(name).save_to_disk(tmp_path / "tasks/toy/data" / folders[name])
        monkeypatch.chdir(tmp_path)
        datasets.disable_progress_bars()
        tasks = [f"toy_{name}" for name in names]
        return evaluator.simple_evaluate(
            model=Parrot(answer), tasks=tasks, task_manager=manager, log_samples=False, bootstrap_iters=0
        )

    return run


def test_results_hold_subset_scores_and_versions(results, manager, monkeypatch):
    manager._get_config("toy_detailcaps")  # loads the functions, so that METEOR, slow to start, can be left out here
    meteor_process = sys.modules["plphp_tasks.captions.meteor_process"]
    monkeypatch.setattr(meteor_process, "score", lambda references, predictions: (0.25, [0.25] * len(references)))
    found = results(["sd", "mv", "detailcaps"], "the red ball")
    sd, mv, captions = (found["results"][f"toy_{name}"] for name in ("sd", "mv", "detailcaps"))
    for name in ("Spot-the-Diff", "Birds-to-Words", "CLEVR-Change"):
        assert 0 < sd[f"rouge_l_{name},none"] == pytest.approx(sd["rouge_l,none"])
    assert 0 < mv["overall_ScanNet_task,none"] == pytest.approx(mv["overall,none"])
    assert captions["cider,none"] >= 0 and captions["meteor,none"] == 0.25
    assert found["versions"] == {"toy_sd": 1, "toy_mv": 1, "toy_detailcaps": 1}


def test_dots_only_answers_score_zero_and_do_not_stop_the_run(results):
    found = results(["sd"], "....")["results"]["toy_sd"]
    assert found["rouge_l,none"] == found["rouge_l_CLEVR-Change,none"] == 0
