"""Answers are those of the evaluation, method by method; what one cannot do costs the others nothing."""

import threading
from itertools import pairwise

import pytest
import torch

from plphp_core import PLPHP
from plphp_core.demo.conversation import Conversation, context
from plphp_core.demo.examples import draw_examples
from plphp_core.demo.session import Session
from plphp_core.demo.streaming import encode, stream
from plphp_core.demo.uploads import read_images
from plphp_core.evaluation.answering import Answerer, Request
from plphp_core.pruning.method import make_method
from plphp_core.records.errors import UserError
from tests.demo.factories import answer_of

TOKENS = 24


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    return draw_examples(tmp_path_factory.mktemp("examples"))


def loaded_by(session):
    return session._loaded(session.catalogue.first)


@pytest.mark.parametrize("name", ["none", "fastv", "vtw", "plphp"])
def test_an_answer_is_the_evaluations(session, examples, name):
    example = examples[0]
    turn = answer_of(session, example.question, example.files, name, tokens=TOKENS)
    method = make_method(name, **session.start("llava_onevision", name))
    images = read_images(example.files)
    request = Request(example.question, {"max_new_tokens": TOKENS}, lambda: images)
    ((_, expected),) = Answerer(loaded_by(session), method).answer([request])
    answer = turn.answer
    assert (answer.text, answer.new_tokens) == (expected.text, expected.new_tokens) and turn.text == answer.text
    assert answer.retention == pytest.approx(expected.retention, abs=1e-6)
    assert (answer.kv_bytes, answer.kv_bytes_full) == (expected.kv_bytes, expected.kv_bytes_full)
    assert answer.prompt_tokens == expected.prompt_tokens
    assert answer.prefill_ms > 0 and answer.decode_steps == expected.decode_steps
    assert [len(boxes) for boxes in answer.boxes] == [len(image) for image in answer.images] == [37, 37]
    for layer, kept in enumerate(answer.kept):
        assert kept.shape[1] / 74 == pytest.approx(answer.retention[layer])


def test_text_comes_in_pieces_and_grows(session, examples, monkeypatch):
    monkeypatch.setattr("plphp_core.demo.streaming.PACE", 0.0)
    loaded = loaded_by(session)
    inputs = encode(loaded, examples[4].question, read_images(examples[4].files))
    *texts, answer = stream(loaded, PLPHP(), inputs, TOKENS, lambda: False)
    assert len(texts) > 5 and all(b.startswith(a) for a, b in pairwise(texts))
    assert answer.text.startswith(texts[-1].strip()) and answer.new_tokens == TOKENS


def test_r_decides_what_is_kept(session, examples):
    example = examples[1]
    few, many = (
        answer_of(session, example.question, example.files, "plphp", {"r": r, "delta_r": 0.0}).answer
        for r in (0.2, 0.8)
    )
    size = len(few.images[0])
    for layer in range(2, 7):
        assert few.kept[layer].shape == (2, int(0.2 * size)) and many.kept[layer].shape == (2, int(0.8 * size + 1e-9))
    assert few.kv_bytes < many.kv_bytes < many.kv_bytes_full


def test_the_second_turn_reads_the_first(session, examples):
    example, conversation = examples[2], Conversation("llava_onevision")
    first = answer_of(session, example.question, example.files, "plphp", conversation=conversation)
    second = answer_of(session, "Where is it?", (), "plphp", conversation=conversation)
    assert [len(turn.answer.images) for turn in (first, second)] == [3, 3]
    assert first.answer.kept == first.answer.boxes == [] and len(second.answer.kept) == 8  # of the latest answer only
    assert second.answer.prompt_tokens > first.answer.prompt_tokens + 3
    loaded, images = loaded_by(session), read_images(example.files)
    text = context(loaded.family, [first], "Where is it?", [])
    assert second.answer.prompt_tokens == encode(loaded, text, images)["input_ids"].shape[1]


def test_one_method_refuses_the_others_answer(session, examples):
    conversation, example = Conversation("llava_onevision"), examples[1]
    wrong = session.start("llava_onevision", "plphp") | {"r": 0.2}
    chosen = {"plphp": wrong, "vtw": {"K": 99}, "none": {}}
    list(session.ask(conversation, example.question, example.files, chosen, TOKENS))
    assert conversation.turns["plphp"][0].error == "PLPHP: Δr = 0.3 > r = 0.2; Δr ≤ r is needed"
    assert conversation.turns["vtw"][0].error == "VTW: K = 99, but the model has 8 layers"
    assert conversation.turns["none"][0].answer.text
    again = answer_of(session, "And now?", (), "plphp", conversation=conversation)
    assert again.answer.images == []  # a refused turn is no part of the conversation


def test_a_setting_is_what_was_used_and_nothing_is_rounded(session, examples):
    conversation, example = Conversation("llava_onevision"), examples[1]
    chosen = {"fastv": {"K": 2.5, "R": 0.5}, "vtw": {"K": 3.0}, "plphp": {"r": None}}
    list(session.ask(conversation, example.question, example.files, chosen, 2))
    fastv, vtw, plphp = (conversation.turns[name][0] for name in chosen)
    assert fastv.error == "K = 2.5, but must be a whole number" and fastv.answer is None and not fastv.setting
    assert plphp.error == "r is empty; give a number" and plphp.answer is None
    assert vtw.setting == "K=3" and vtw.answer.retention == [1, 1, 1, 0, 0, 0, 0, 0]
    with pytest.raises(UserError, match=r"longest answer = 2\.5, but must be a whole number"):
        list(session.ask(conversation, example.question, example.files, {"none": {}}, 2.5))


def test_a_failure_inside_is_one_sentence(session, examples, monkeypatch):
    def broken(*_):
        raise RuntimeError("something\nlong")

    monkeypatch.setattr("plphp_core.demo.session.encode", broken)
    error = answer_of(session, examples[1].question, examples[1].files, "none").error
    assert "something" in error and "\n" not in error and "Traceback" not in error


def test_a_question_without_images(session):
    turn = answer_of(session, "What is a square?", (), "plphp")
    assert turn.error is None and set(turn.answer.retention) == {1.0} and turn.answer.images == []


@pytest.mark.parametrize("question, count, methods, said", [
    (" ", 0, ["none"], "the question is empty"),
    ("what?", 0, [], "no method is ticked"),
    ("what is <image>?", 0, ["none"], "marks 1 images with <image>, but there are 0"),
    ("<image> <image>", 1, ["none"], "marks 2 images with <image>, but there are 1"),
])  # fmt: skip
def test_what_cannot_be_asked(session, examples, question, count, methods, said):
    conversation = Conversation("llava_onevision")
    with pytest.raises(UserError, match=said):
        list(session.ask(conversation, question, examples[0].files[:count], {name: {} for name in methods}, TOKENS))
    assert conversation.turns == {}


def test_stopping_ends_the_answer_and_those_behind_it(session, examples, monkeypatch):
    monkeypatch.setattr("plphp_core.demo.streaming.PACE", 0.0)
    conversation, example = Conversation("llava_onevision"), examples[4]
    for _ in session.ask(conversation, example.question, example.files, {"none": {}, "vtw": {"K": 4}}, 64):
        if conversation.turns.get("none") and len(conversation.turns["none"][0].text.split()) > 4:
            conversation.stopped = True
    (turn,) = conversation.turns["none"]
    assert turn.stopped and 0 < turn.answer.new_tokens < 40 and "vtw" not in conversation.turns


def test_whoever_leaves_ends_the_generation_and_frees_the_model(session, examples, monkeypatch):
    monkeypatch.setattr("plphp_core.demo.streaming.PACE", 0.0)
    conversation, example = Conversation("llava_onevision"), examples[4]
    running = session.ask(conversation, example.question, example.files, {"none": {}}, 64)
    while not (conversation.turns.get("none") and conversation.turns["none"][0].text):
        next(running)
    assert [one for one in threading.enumerate() if one.name == "answer"]
    running.close()
    assert not [one for one in threading.enumerate() if one.name == "answer"]
    assert answer_of(session, example.question, example.files, "none").answer is not None


def test_one_model_in_memory_at_a_time(session):
    fresh = Session(session.catalogue)
    assert fresh.shape("mantis").located and not fresh.shape("idefics2").located
    assert fresh._load.loads == 2 and fresh.shape("mantis").num_layers == 8 and fresh._load.loads == 2
    fresh._loaded("mantis")
    assert fresh._load.loads == 3


def test_examples_are_the_same_ones_every_time(examples, tmp_path):
    again = draw_examples(tmp_path)
    assert [one.question for one in again] == [one.question for one in examples]
    assert all(
        torch.equal(*(torch.frombuffer(bytearray(file.read_bytes()), dtype=torch.uint8) for file in pair))
        for one, other in zip(examples, again, strict=True)
        for pair in zip(one.files, other.files, strict=True)
    )
