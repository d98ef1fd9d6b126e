"""From an answer to score items, and from items to the benchmark's score, under both protocols."""

from types import ModuleType

from ..detail import Detail, aggregation, by_sub_task
from . import llava_scores, lmms_eval_scores


def _results(metric: str, scores: ModuleType, document: dict, results: list[str]) -> dict[str, dict]:
    """The item of a sample, for the metric and again for the metric of its sub-set, `<metric>_<sub_task>`.

    Raises:
        ValueError: unknown question type.
    """
    by_type = {"open-ended": scores.rouge_l, "multi-choice": scores.multiple_choice}
    kind, sample_id = document["question_type"], document["sample_id"]
    if kind not in by_type:
        raise ValueError(f"sample {sample_id}: question_type {kind!r} is none of {sorted(by_type)}")
    score = by_type[kind](document["answer"], results[0])
    item = {"score": score, "sub_task": document["sub_task"], "sample_id": sample_id}
    return {metric: item, f"{metric}_{document['sub_task']}": item}


def rouge_l_results(document: dict, results: list[str]) -> dict[str, dict]:
    """SD, IE, VST."""
    return _results("rouge_l", lmms_eval_scores, document, results)


def rouge_l_results_llava(document: dict, results: list[str]) -> dict[str, dict]:
    """SD, IE, VST under protocol=llava."""
    return _results("rouge_l", llava_scores, document, results)


def overall_results(document: dict, results: list[str]) -> dict[str, dict]:
    """Multi-View."""
    return _results("overall", lmms_eval_scores, document, results)


def overall_results_llava(document: dict, results: list[str]) -> dict[str, dict]:
    """Multi-View under protocol=llava."""
    return _results("overall", llava_scores, document, results)


@aggregation
def sample_mean(items: list[dict]) -> Detail:
    """Mean over samples: SD, IE, VST as lmms-eval computes them."""
    return by_sub_task(items, "mean")


@aggregation
def group_mean(items: list[dict]) -> Detail:
    """Unweighted mean over sub-tasks: Multi-View, and SD, IE, VST under protocol=llava."""
    return by_sub_task(items, "group_mean")


@aggregation
def subset_mean(items: list[dict]) -> Detail:
    """Mean of one sub-set, only there to be seen among lmms-eval's own results; `sample_mean.detail` has them all."""
    return by_sub_task(items, "mean")


subset_mean.of_subset = True  # lets a caller that reads `.detail` of the whole pass over the parts
