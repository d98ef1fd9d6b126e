"""Nothing that anybody wrote becomes part of the page's own HTML."""

import re

import pytest

from plphp_core import PLPHP
from plphp_core.demo import page
from plphp_core.demo.conversation import Turn
from tests.demo.factories import HOSTILE, an_answer, halves

METHODS = ["none", "fastv", "plphp"]


def tags(html):
    return set(re.findall(r"<\s*/?\s*([a-zA-Z]+)", html))


def test_hostile_text_stays_text_everywhere():
    answer = an_answer([[[10]]], HOSTILE)
    turns = [
        Turn(HOSTILE, [halves()], text=HOSTILE, answer=answer, setting=HOSTILE, method=PLPHP()),
        Turn(HOSTILE, [], text=HOSTILE),
        Turn(HOSTILE, [], error=HOSTILE),
    ]
    for html in (page.thread(turns, "plphp", METHODS), page.status(HOSTILE, "error"), page.header(HOSTILE, HOSTILE)):
        assert (
            "script" not in tags(html) and 'onerror="' not in html and "src=x" not in re.sub(r"&lt;.*?&gt;", "", html)
        )
        assert "&lt;script&gt;" in html


def test_figures_of_an_answer():
    turn = Turn(
        "what?", [halves()], setting="r=0.4, Δr=0.3", text="yes", answer=an_answer([[[10]], [[10, 11, 12, 13]]])
    )
    html = page.thread([turn], "plphp", METHODS)
    for said in ("r=0.4, Δr=0.3", "12 ms", "3.0 ms (2 tokens)", "1 KiB of 4 KiB (−75%)", "62% of 4", "25%, 100%"):
        assert said in html


@pytest.mark.parametrize("images, said", [(1, "This turn and its images are not part"), (0, "This turn is not part")])
def test_a_refusal_says_that_its_turn_is_lost(images, said):
    html = page.thread([Turn("what?", [halves()] * images, error="no")], "plphp", METHODS)
    assert f"{said} of this column&#x27;s conversation; ask again" in html.split('class="refused"')[1]


def test_a_stopped_and_an_empty_answer_say_so():
    turn = Turn("what?", [], text="", answer=an_answer([[[10]]], ""), stopped=True)
    html = page.thread([turn], "none", METHODS)
    assert "empty answer" in html and "stopped" in html and "nothing pruned" in html
