"""The demo in a real browser: ask, change r, two turns, a broken upload, hostile text; nothing comes from elsewhere."""

import importlib.util
import re
import socket
import time
from contextlib import contextmanager

import pytest

from plphp_core.demo import streaming
from plphp_core.demo.examples import draw_examples
from plphp_core.demo.server import parse, serving
from plphp_core.families.llava_onevision import LlavaOnevision
from tests.chromium import CHROMIUM, launched
from tests.demo.factories import HOSTILE, ROOT, answer_of, halves

MISSING = [name for name in ("gradio", "playwright") if importlib.util.find_spec(name) is None]
MISSING += [] if CHROMIUM else ["Chromium (chromium, chromium-browser or google-chrome on the PATH)"]
pytestmark = [
    pytest.mark.skipif(bool(MISSING), reason=f"the demo cannot be seen without {', '.join(MISSING)}"),
    pytest.mark.timeout(300),
]
METHODS = ("none", "fastv", "plphp", "vtw")


@pytest.fixture(scope="module")
def address():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with serving(ROOT, parse([f"port={port}"])) as url:
        yield url


@pytest.fixture(scope="module")
def browser():
    with launched() as opened:
        yield opened


@pytest.fixture(scope="module")
def shared(browser, address):
    with tab(browser, address) as page:
        yield page


@pytest.fixture
def page(shared):
    """The one tab of the tests that leave its parameters alone, with no conversation."""
    start_again(shared)
    shared.fill("#question textarea", "")
    return shared


@contextmanager
def tab(browser, address, width=1400, **options):
    """A page of its own session; at the end: no request has left this machine, and no script has failed."""
    context = browser.new_context(viewport={"width": width, "height": 900}, **options)
    page, asked, failed = context.new_page(), [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: failed.append(str(error)))
    page.goto(address)
    page.wait_for_selector("#question textarea")
    page.wait_for_selector("#examples .gallery-item")
    yield page
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == [] and len(asked) > 5
    assert failed == []
    context.close()


def ask(page, text=None, files=(), example=None, wait=True):
    if example is not None:
        page.locator("#examples .gallery-item").nth(example).click()
        page.wait_for_function("document.querySelector('#question textarea').value !== ''")
    if files:
        page.set_input_files("#question input[type=file]", files)
        page.wait_for_selector("#question .thumbnail-item, #question img")
    if text is not None:
        page.fill("#question textarea", text)
    page.evaluate("document.querySelector('#status .state').classList.add('before')")
    page.locator("#question [data-testid=submit-button]").click()
    if wait:
        page.wait_for_selector("#status .state:not(.before):not(.busy)", timeout=60_000)
        page.wait_for_timeout(50)


def start_again(page):
    page.click("#new")
    page.wait_for_selector("#answers-plphp .empty")


def said(page, method, turn=-1):
    return page.locator(f"#answers-{method} .said").all()[turn].inner_text().strip()


def layers(page, method, turn=-1):
    """The kept share of each layer in per cent, as the chart's description has it."""
    alt = page.locator(f"#answers-{method} .layers img").all()[turn].get_attribute("alt")
    return [int(one) for one in re.findall(r"(\d+)%", alt)]


def set_parameter(page, method, label, value):
    column = page.locator(f"#column-{method}")
    if not column.get_by_label(f"number input for {label}").is_visible():
        column.get_by_role("button", name="Parameters").click()
    box = column.get_by_label(f"number input for {label}")
    for _ in range(20):  # a column that is just opening may still put its own value back
        page.wait_for_timeout(200)
        box.fill(str(value))
        box.press("Tab")
        page.wait_for_timeout(200)
        if float(box.input_value()) == value:
            return
    raise AssertionError(f"{label} of {method} does not take {value}")


def test_all_methods_answer_a_question_and_a_second_one(page, session, tmp_path):
    examples = draw_examples(tmp_path)
    ask(page, example=2)
    for method in METHODS:
        expected = answer_of(session, examples[2].question, examples[2].files, method, tokens=64)
        assert said(page, method) == expected.text
        assert layers(page, method) == [round(100 * one) for one in expected.answer.retention]
        figures = page.locator(f"#answers-{method} .figures").inner_text()
        assert "KiB of" in figures and "ms" in figures and expected.setting in figures
        assert page.locator(f"#maps-{method} figure").count() >= 3
    assert page.get_by_role("textbox", name="Question", exact=True).count() == 1  # of an asked page too
    ask(page, "Where is the red ring?")
    for method in METHODS:
        assert page.locator(f"#answers-{method} .said").count() == 2 and len(layers(page, method)) == 8
        assert page.locator(f"#maps-{method} figure").count() >= 3  # the images of the first turn are still there
    start_again(page)
    assert page.locator(".said").count() == 0


def test_r_changes_what_is_kept_and_a_wrong_one_is_said_in_its_column(browser, address):
    with tab(browser, address) as page:
        for method in ("none", "fastv"):
            page.locator(f"input[type=checkbox][name={method}]").uncheck()
        set_parameter(page, "plphp", "Δr", 0)
        ask(page, example=1)
        assert layers(page, "plphp") == [100, 100, *[40] * 5, 100]
        assert "keeps 76 of 192 tokens (40%)" in page.locator("#maps-plphp").inner_text()
        start_again(page)  # several images are cut into fewer tokens, so that rates are rounded more
        set_parameter(page, "plphp", "r", 0.8)
        ask(page, example=1)
        assert layers(page, "plphp") == [100, 100, *[80] * 5, 100]
        layer = page.get_by_label("number input for Layer (from 0)")
        layer.fill("0")
        layer.press("Tab")
        page.wait_for_selector("#maps-plphp figcaption:has-text('every head keeps all')")
        set_parameter(page, "plphp", "Δr", 0.5)
        set_parameter(page, "vtw", "K (layers that see every vision token)", 2)
        page.locator("input[type=checkbox][name=fastv]").check()
        set_parameter(page, "fastv", "K (layers that see every vision token)", 2.5)
        ask(page, example=1)
        refused = page.locator("#answers-plphp .refused").inner_text()
        assert "r ≤ 1 − Δr is needed" in refused and "its images are not part of this column's" in refused
        refused = page.locator("#answers-fastv .refused").inner_text()
        assert refused.startswith("K = 2.5, but must be a whole number") and "ask again with them" in refused
        assert layers(page, "vtw") == [100, 100, *[0] * 6] and page.locator("#answers-vtw .refused").count() == 0


def test_uploads_whole_and_broken(page, tmp_path):
    halves(96, 96).convert("RGBA").save(tmp_path / "halves.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"garbage" * 50)
    ask(page, "What is there?", [tmp_path / "broken.png"])
    message = page.locator("#status .state.error").inner_text()
    assert message.startswith("broken.png: damaged or truncated") and "Traceback" not in page.content()
    assert page.locator(".asked").count() == 0
    assert page.input_value("#question textarea") == "What is there?"  # to be asked again
    page.locator("#question").get_by_label("Remove").or_(page.locator("#question .delete-button")).first.click()
    ask(page, "What is there?", [tmp_path / "halves.png"])
    assert page.locator("#status .state.ready").count() == 1
    assert page.locator("#answers-none .said").count() == 1 and len(layers(page, "plphp")) == 8
    ask(page, " ")
    assert "the question is empty" in page.locator("#status .state.error").inner_text()


def test_hostile_text_stays_text(page, monkeypatch):
    monkeypatch.setattr(LlavaOnevision, "decode", lambda *_: HOSTILE)
    ask(page, HOSTILE, example=1)
    assert said(page, "plphp") == HOSTILE
    assert page.locator("#answers-none .asked").inner_text().strip() == HOSTILE
    page.wait_for_timeout(100)
    assert page.evaluate("window.hacked") is None
    assert page.locator("img[src=x], .thread script, .thread strong").count() == 0


@pytest.fixture
def pace(monkeypatch):
    """Call with seconds: so long takes every token from then on."""
    usual = streaming._Stop.__call__

    def set_to(seconds):
        def slow(self, *arguments, **options):
            time.sleep(seconds)
            return usual(self, *arguments, **options)

        monkeypatch.setattr(streaming._Stop, "__call__", slow)

    return set_to


def test_stop_and_a_second_tab(browser, address, pace):
    pace(0.1)
    with tab(browser, address) as one, tab(browser, address) as two:
        ask(one, example=4, wait=False)
        one.wait_for_selector("#answers-none .said.writing:has-text('two')")
        ask(two, example=1, wait=False)
        two.wait_for_selector("#status .state.busy:has-text('waiting for the model')")
        two.wait_for_timeout(200)
        assert two.locator(".asked").count() == 0
        one.click("#stop")
        one.wait_for_selector("#status .state.ready:has-text('stopped')", timeout=10_000)
        assert "stopped" in said(one, "none") and len(said(one, "none").split()) < 40
        assert one.locator("#answers-vtw .empty").count() == 1
        two.wait_for_selector("#answers-none .said.writing", timeout=10_000)
        pace(0)
        two.wait_for_selector("#status .state.ready", timeout=60_000)
        assert two.locator(".said").count() == 4


def test_whoever_closes_the_tab_leaves_the_model_to_others(browser, address, pace):
    pace(0.25)
    with tab(browser, address) as one:
        ask(one, example=4, wait=False)
        one.wait_for_selector("#answers-none .said.writing:has-text('two')", timeout=20_000)
    with tab(browser, address) as two:
        began = time.monotonic()
        ask(two, example=1, wait=False)
        two.wait_for_selector("#answers-none .asked", timeout=30_000)
        assert time.monotonic() - began < 15  # 4 answers of 64 tokens would take 64 s
        pace(0)
        two.wait_for_selector("#status .state.ready", timeout=60_000)


def test_another_model_on_a_phone_in_the_dark(browser, address):
    with tab(browser, address, width=390, color_scheme="dark") as page:
        page.get_by_label("Model").click()
        page.locator("[role=option]:has-text('IDEFICS2')").click()
        page.wait_for_selector("#status .state.ready:has-text('IDEFICS2')", timeout=60_000)
        ask(page, example=0)
        assert all(len(layers(page, method)) == 8 for method in METHODS)
        assert "no place of their own" in page.locator("#maps-plphp").inner_text()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert sum(map(int, re.findall(r"\d+", dark)[:3])) < 150
