"""ROUGE-L, multiple choice and overall scores equal lmms-eval's, and survive what upstream does not."""

import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from lmms_eval.tasks.llava_interleave_bench import utils as upstream

from tasks.interleave import llava_scores, lmms_eval_scores, results
from tests.examples import examples

PIECES = [
    "A", "b", "c.", "D)", "(e)", "F", "B. the cat", "answer:", "Answer: b", "option a", "1,000", "3.5", "a", "dog",
    "E.", "is", "é", "a" * 300, ".", ",", "'", '"', "/", "-", "_ ", "\n", "\t", " ", "?", "!", "@", "<",
]  # fmt: skip
answers = st.one_of(
    st.text(max_size=30),
    st.lists(st.sampled_from(PIECES), max_size=8).map("".join),
    st.lists(st.sampled_from(PIECES), max_size=8).map(" ".join),
)


@examples(800)
@given(answer=answers, prediction=answers)
@example(answer="zz", prediction="zz" + "." * 40)
@example(answer="B", prediction="b. foo\n")
def test_multiple_choice_equals_upstream(answer, prediction):
    assert lmms_eval_scores.multiple_choice(answer, prediction) == upstream.mcq_acc(answer, prediction)


@examples(150)
@given(answer=answers, prediction=answers)
@example(answer="a b. c d", prediction="a b c. d. " * 80)
def test_rouge_l_equals_upstream_wherever_upstream_has_a_value(answer, prediction):
    try:
        expected = upstream.oe_rogue(answer, prediction)
    except ValueError:
        expected = 0
    assert lmms_eval_scores.rouge_l(answer, prediction) == expected


@pytest.mark.parametrize("prediction", ["", ".", "...", "." * 600 + "the red ball"])
def test_prediction_without_a_sentence_scores_zero_under_both_protocols(prediction):
    assert lmms_eval_scores.rouge_l("the red ball", prediction) == 0
    assert llava_scores.rouge_l("the red ball", prediction[:500]) == 0


def test_reference_without_a_sentence_does_not_stop_a_run():
    assert lmms_eval_scores.rouge_l("...", "the red ball") == 0


def document(sub_task="ScanQA", answer="the red ball is gone", question_type="open-ended", sample_id=7):
    return {"sub_task": sub_task, "answer": answer, "question_type": question_type, "sample_id": sample_id}


def test_overall_equals_upstream_on_random_results():
    rng = random.Random(0)
    names = ["ScanQA", "ALFRED", "nuscenes", "ScanNet_chat", "ScanNet_task"]
    for _ in range(200):
        questions = [("B", "multi-choice"), ("a red ball", "open-ended")]
        documents = [document(rng.choice(names), *rng.choice(questions)) for _ in range(rng.randint(1, 30))]
        predictions = [rng.choice(["B", "b.", "(A)", "a red", "red ball. a", "no"]) for _ in documents]
        pairs = list(zip(documents, predictions, strict=True))
        ours = [results.overall_results(d, [p])["overall"] for d, p in pairs]
        theirs = [upstream.interleave_process_results(d, [p])["overall_score"] for d, p in pairs]
        assert results.group_mean(ours) == pytest.approx(upstream.overall_score(theirs), abs=1e-12)


def test_detail_keeps_samples_groups_and_subsets():
    items = [{"score": s, "sub_task": t, "sample_id": 0} for s, t in [(1, "x"), (0, "y"), (0.5, "y"), (0.25, "y")]]
    plain, grouped = results.sample_mean.detail(items), results.group_mean.detail(items)
    assert plain["value"] == results.sample_mean(items) == 1.75 / 4 and plain["kind"] == "mean"
    assert grouped["value"] == results.group_mean(items) == (1 + 0.25) / 2 and grouped["kind"] == "group_mean"
    for detail in (plain, grouped):
        assert detail["samples"] == [1, 0, 0.5, 0.25] and detail["groups"] == ["x", "y", "y", "y"]
        assert detail["subsets"] == {"x": {"value": 1, "n": 1}, "y": {"value": 0.25, "n": 3}}


def test_item_is_filed_under_the_metric_and_under_its_subset():
    found = results.rouge_l_results(document("VIST"), ["the red ball is gone"])
    assert set(found) == {"rouge_l", "rouge_l_VIST"}
    assert found["rouge_l"] == {"score": pytest.approx(1), "sub_task": "VIST", "sample_id": 7}
    with pytest.raises(ValueError, match="sample 7: question_type 'essay' is none of"):
        results.rouge_l_results(document(question_type="essay"), ["x"])


def test_llava_protocol_scores_normalised_text():
    shouted, spoken = document(answer="The red ball is gone!"), "the RED ball is gone."
    assert results.rouge_l_results_llava(shouted, [spoken])["rouge_l"]["score"] == pytest.approx(1)
    assert results.rouge_l_results(shouted, [spoken])["rouge_l"]["score"] < 1
    letter = document(answer="B", question_type="multi-choice")
    expected = {"b": 1, "(B)": 1, "Answer: B": 1, "B dog": 0, "a": 0}
    assert {p: results.overall_results_llava(letter, [p])["overall"]["score"] for p in expected} == expected
