"""Answers are those of the evaluation, method by method; what one cannot do costs the others nothing."""

import threading
from itertools import pairwise

import pytest

from plphp_core import PLPHP
from plphp_core.demo import streaming
from plphp_core.demo.conversation import Conversation, context
from plphp_core.demo.demo_session import DemoSession, encode
from plphp_core.demo.demo_settings import VERBS, DemoSettings, offered_methods, verb_of
from plphp_core.demo.streaming import stream
from plphp_core.demo.uploads import sorted_out
from plphp_core.evaluation.generation import JointAnswerer
from plphp_core.evaluation.requests import Request
from plphp_core.pruning.method import make_method
from plphp_core.records.errors import UserError
from tests.demo.factories import ask

TOKENS = 24


@pytest.fixture
def at_once(monkeypatch):
    """Every token is shown."""
    monkeypatch.setattr(streaming, "INTERVAL", 0.0)


@pytest.mark.parametrize("name", ["none", "fastv", "vtw", "plphp"])
def test_an_answer_is_the_evaluations(session, examples, name):
    question, files = examples[0]
    conversation = ask(session, question, files, {name: {}})
    answer, trace = conversation.answers[name], conversation.answers[name].trace
    method, images = make_method(name, **session.start[name]), sorted_out(files)[0]
    request = Request(question, {"max_new_tokens": TOKENS}, lambda: images)
    ((_, ((_, expected),)),) = JointAnswerer(session.loaded).answer([request], [method])
    assert (answer.text, answer.new_tokens) == (expected.text, expected.new_tokens)
    assert conversation.turns[name][0].text == answer.text
    assert trace.retention[0].tolist() == pytest.approx(expected.retention, abs=1e-6)
    assert (trace.kv_bytes[0], trace.kv_bytes_full[0]) == (expected.kv_bytes, expected.kv_bytes_full)
    assert trace.prompt.lengths[0] == expected.prompt_tokens
    assert answer.prefill_ms > 0 and answer.decode_steps == expected.decode_steps
    assert [len(boxes) for boxes in answer.boxes] == [len(image) for image in trace.images[0]] == [37, 37]


def test_text_comes_in_pieces_and_grows(session, examples, at_once):
    (question, files), loaded = examples[4], session.loaded
    inputs, shown = encode(loaded, question, sorted_out(files)[0])
    *texts, answer = stream(loaded, PLPHP(), inputs, shown, TOKENS, lambda: False)
    assert len(texts) > 5 and all(b.startswith(a) for a, b in pairwise(texts))
    assert answer.text.startswith(texts[-1].strip()) and answer.new_tokens == TOKENS


def test_r_decides_what_is_kept(session, examples):
    few, many = (
        ask(session, *examples[1], {"plphp": {"r": r, "delta_r": 0.0}}).answers["plphp"].trace for r in (0.2, 0.8)
    )
    size = len(few.images[0][0])
    for layer in range(2, 7):
        assert few.kept[layer][0].shape == (2, int(0.2 * size))
        assert many.kept[layer][0].shape == (2, int(0.8 * size + 1e-9))
    assert few.kv_bytes < many.kv_bytes < many.kv_bytes_full


def test_the_second_turn_reads_the_first(session, examples):
    question, files = examples[2]
    conversation = ask(session, question, files, {"plphp": {}})
    first = conversation.answers["plphp"].trace
    second = ask(session, "Where is it?", (), {"plphp": {}}, conversation).answers["plphp"].trace
    assert [len(trace.images[0]) for trace in (first, second)] == [3, 3] and conversation.seen("plphp") == [0, 1, 2]
    assert [row[0] for row in conversation.figures] == ["1", "2"]
    loaded = session.loaded
    prompt, _ = encode(loaded, context(loaded.family, conversation.turns["plphp"]), sorted_out(files)[0])
    assert second.prompt.lengths[0] == prompt["input_ids"].shape[1] > first.prompt.lengths[0] + 3


def test_one_method_refuses_the_others_answer(session, examples):
    wrong = {"plphp": {"r": 0.2}, "vtw": {"K": 99}, "fastv": {"K": 2.5}, "none": {}}
    conversation = ask(session, *examples[1], wrong)
    errors = {name: turns[0].error for name, turns in conversation.turns.items()}
    assert errors == {
        "plphp": "PLPHP: delta_r = 0.3 > r = 0.2; delta_r ≤ r is needed",
        "vtw": "VTW: K = 99, but the model has 12 layers",
        "fastv": "K = 2.5: Input should be a valid integer, got a number with a fractional part",
        "none": None,
    }
    assert conversation.turns["none"][0].text and set(conversation.answers) == {"none"}
    ask(session, "And now?", (), {"plphp": {}, "none": {}}, conversation)
    trace = {name: answer.trace for name, answer in conversation.answers.items()}
    assert trace["plphp"].images[0] == [] and len(trace["none"].images[0]) == 1  # a refused turn is no history
    assert set(trace["plphp"].retention[0].tolist()) == {1.0}


def test_a_failure_inside_is_one_sentence(session, examples, monkeypatch):
    def broken(*_):
        raise RuntimeError("something\nlong")

    monkeypatch.setattr("plphp_core.demo.demo_session.encode", broken)
    (turn,) = ask(session, *examples[1], {"none": {}}).turns["none"]
    assert turn.error == "RuntimeError: something"


@pytest.mark.parametrize("question, count, methods, tokens, said", [
    (" ", 0, ["none"], 8, "the question is empty"),
    ("what?", 0, [], 8, "no method is ticked"),
    ("what?", 0, ["none"], 2.5, "longest answer = 2.5: .*integer"),
    ("what is <image>?", 0, ["none"], 8, "marks 1 images with <image>, but there are 0"),
    ("<image> <image>", 1, ["none"], 8, "marks 2 images with <image>, but there are 1"),
])  # fmt: skip
def test_what_cannot_be_asked(session, examples, question, count, methods, tokens, said):
    conversation = Conversation()
    with pytest.raises(UserError, match=said):
        list(session.ask(conversation, question, examples[0][1][:count], {name: {} for name in methods}, tokens))
    assert conversation.turns == {} and conversation.images == []


def test_stopping_ends_the_answer_and_those_behind_it(session, examples, at_once):
    conversation = Conversation()
    for _ in session.ask(conversation, *examples[4], {"none": {}, "vtw": {"K": 4}}, 64):
        if conversation.turns.get("none") and len(conversation.turns["none"][0].text.split()) > 4:
            conversation.stopped = True
    assert 0 < conversation.answers["none"].new_tokens < 40 and "vtw" not in conversation.turns
    assert conversation.figures[0][5].endswith("stopped")


def test_whoever_leaves_ends_the_generation_and_frees_the_model(session, examples, at_once):
    conversation = Conversation()
    running = session.ask(conversation, *examples[4], {"none": {}}, 64)
    while not (conversation.turns.get("none") and conversation.turns["none"][0].text):
        next(running)
    assert [one for one in threading.enumerate() if one.name == "answer"]
    running.close()
    assert not [one for one in threading.enumerate() if one.name == "answer"]
    assert ask(session, *examples[4], {"none": {}}, tokens=2).answers


def test_no_method_begins_deeper_than_the_model():
    settings = DemoSettings()
    settings.start["vtw"] = {"K": 14}
    assert DemoSession(settings).start["vtw"] == {"K": 12}


def test_asking_again_takes_the_place_of_the_answer_and_not_of_the_figures(session, examples):
    conversation = ask(session, *examples[1], {"plphp": {"r": 0.8, "delta_r": 0.0}, "vtw": {}})
    ask(session, "And where?", (), {"plphp": {"r": 0.8, "delta_r": 0.0}}, conversation)
    changed = session.start["plphp"] | {"r": 0.2, "delta_r": 0.0}
    for methods in ({"plphp": changed}, {"none": {}}):  # one that was not asked before has a turn, too
        list(session.ask_again(conversation, methods, TOKENS))
    turns = conversation.turns["plphp"]
    assert [one.question for one in turns] == [examples[1][0], "And where?"] and len(conversation.turns["none"]) == 1
    trace = conversation.answers["plphp"].trace
    assert len(trace.images[0]) == 1 and trace.kept[3][0].shape[1] == int(0.2 * len(trace.images[0][0]))
    assert [row[:2] for row in conversation.figures[-3:]] == [["2", "PLPHP"], ["2", "PLPHP"], ["1", "No pruning"]]
    fresh = ask(session, *examples[1], {"plphp": {"r": 0.8, "delta_r": 0.0}})
    ask(session, "And where?", (), {"plphp": {"r": 0.2, "delta_r": 0.0}}, fresh)
    assert fresh.turns["plphp"][1].text == turns[1].text  # as if it had been asked so at once
    with pytest.raises(UserError, match="no question yet"):
        list(session.ask_again(Conversation(), {"none": {}}, 8))


def test_a_damaged_file_goes_and_the_others_are_asked_about(session, examples, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    question, files = examples[1]
    conversation = ask(session, question, [broken, *files], {"none": {}})
    assert len(conversation.images) == 1 and conversation.left_out[0].startswith("broken.png: not a picture")
    assert conversation.turns["none"][0].text == ask(session, question, files, {"none": {}}).turns["none"][0].text
    with pytest.raises(UserError, match=r"broken\.png"):
        ask(session, question, [broken], {"none": {}}, conversation)
    assert conversation.asked == 1


def test_an_answer_as_long_as_it_may_be_is_cut_off(session, examples):
    short, long = (ask(session, *examples[1], {"none": {}}, tokens=tokens) for tokens in (2, 64))
    assert short.answers["none"].cut_off and short.turns["none"][0].cut_off
    assert not long.answers["none"].cut_off and long.answers["none"].new_tokens < 64


def test_every_method_is_there_and_has_a_verb(session):
    assert list(session.parameters) == offered_methods() and set(session.ticked) <= set(offered_methods())
    assert {verb_of("none"), verb_of("fastv"), verb_of("plphp")} == {"", "withdraw", "compress"}
    assert {verb_of(name) for name in offered_methods()} <= set(VERBS)
