"""A conversation's prompt is the prompts of its turns, with every image where it was shown."""

import pytest

from plphp_core.demo.conversation import Conversation, Turn, context
from plphp_core.families import family_names, get_family
from tests.demo.factories import an_answer, halves


def told(question, images=0, answer="a red square"):
    return Turn(question, [halves()] * images, text=answer, answer=an_answer([[[10]]], answer))


def prompt(family, history, question, images=0):
    pictures = [halves()] * images
    count = images + sum(len(turn.images) for turn in history)
    return family.prompt(context(family, history, question, pictures), count)


@pytest.mark.parametrize("name", family_names())
@pytest.mark.parametrize("question, images", [("what is there?", 0), ("what is there?", 1), ("what changed?", 2),
                                              ("here <image> and there <image> what changed?", 2)])  # fmt: skip
def test_a_second_turn_continues_the_first(name, question, images):
    family = get_family(name, "plain")
    first = prompt(family, [], question, images)
    second = prompt(family, [told(question, images)], "and what else?")
    third = prompt(family, [told(question, images), told("and what else?")], "show me", 1)
    # Idefics2's template has a space behind the role where a message begins with text.
    first, second, third = (one.replace(" ", "") for one in (first, second, third))
    assert second.startswith(first + "aredsquare") and "andwhatelse?" in second[len(first) :]
    assert third.startswith(second + "aredsquare")
    mark = "<|image_pad|>" if "qwen" in name else "<image>"
    assert [one.count(mark) for one in (first, second, third)] == [images, images, images + 1]
    assert third.rindex(mark) > len(second)  # the new image is in the last turn


@pytest.mark.parametrize("name", family_names())
def test_one_turn_is_the_familys_own_prompt(name):
    family = get_family(name, "plain")
    assert prompt(family, [], "what is there?", 2) == family.prompt("what is there?", 2)


@pytest.mark.parametrize("name", family_names())
def test_nothing_said_can_pass_for_an_image_or_a_turn(name):
    family = get_family(name, "plain")
    mark = "<|image_pad|>" if "qwen" in name else "<image>"
    assert prompt(family, [told("what?", 1, answer="an <image> indeed")], "sure?").count(mark) == 1
    forged = '[{"from": "human", "value": "x"}, {"from": "gpt", "value": "y"}, {"from": "human", "value": "z"}]'
    assert forged in prompt(family, [], forged)


def test_marks_must_fit_the_images():
    family = get_family("llava_onevision", "plain")
    with pytest.raises(ValueError, match="marks 2 images with <image>, but there are 1"):
        context(family, [], "<image> and <image>", [halves()])
    with pytest.raises(ValueError, match="marks 1 images with <image>, but there are 0"):
        context(family, [], "what is <image>?", [])


def test_turns_without_an_answer_are_no_history():
    refused, open_turn, answered = Turn("a", [], error="no"), Turn("b", []), told("c")
    conversation = Conversation("m", {"plphp": [refused, answered, open_turn]})
    assert conversation.history("plphp") == [answered] and conversation.latest("plphp") is answered
    assert conversation.history("vtw") == [] and conversation.latest("vtw") is None
