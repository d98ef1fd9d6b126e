"""The demo in a real browser: ask, change r, two turns, a broken upload, hostile text; nothing comes from elsewhere."""

import re
import socket
import time
from contextlib import contextmanager

import pytest

from plphp_core.demo.server import serving
from plphp_core.demo.streaming import StopWhen
from plphp_core.families.llava_onevision import LlavaOnevision
from tests.chromium import in_a_browser, launched
from tests.demo.factories import HOSTILE, halves
from tests.demo.factories import ask as ask_session

pytestmark = [*in_a_browser, pytest.mark.timeout(300), pytest.mark.slow]
METHODS = ("none", "fastv", "plphp", "vtw")


@pytest.fixture(scope="module")
def address():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with serving([f"demo.port={port}"]) as url:
        yield url


@pytest.fixture(scope="module")
def browser():
    with launched() as opened:
        yield opened


@pytest.fixture
def page(browser, address):
    with tab(browser, address) as opened:
        yield opened


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
    page.evaluate("document.querySelector('#status textarea').value = 'before'")
    page.locator("#question [data-testid=submit-button]").click()
    if wait:
        wait_for_status(page, "Ready[.]$|^Not asked|^Failed")
        page.wait_for_timeout(200)


def again(page):
    page.evaluate("document.querySelector('#status textarea').value = 'before'")
    page.click("#again")
    wait_for_status(page, "Ready[.]$|^Not asked|^Failed")
    page.wait_for_timeout(200)


def status(page):
    return page.locator("#status textarea").input_value()


def wait_for_status(page, words, timeout=60_000):
    page.wait_for_function(f"document.querySelector('#status textarea').value.match(/{words}/)", timeout=timeout)


def said(page, method):
    """The column's answers, without what is said of those that are cut off."""
    return [
        one.inner_text().partition("[cut off")[0].strip()
        for one in page.locator(f"#answers-{method} [data-testid=bot]").all()
    ]


def maps(page, method):
    """What the method's maps are of, and how much was kept."""
    return [one.get_attribute("alt") for one in page.locator(f"#maps-{method} img").all()]


def set_value(page, label, value):
    box = page.get_by_label(f"number input for {label}", exact=True)
    for _ in range(20):  # a column that is just opening may still put its own value back
        page.wait_for_timeout(200)
        box.fill(str(value))
        box.press("Tab")
        page.wait_for_timeout(200)
        if float(box.input_value()) == value:
            return
    raise AssertionError(f"{label} does not take {value}")


def test_all_methods_answer_a_question_and_a_second_one(page, session, examples):
    ask(page, example=2)
    figures = page.locator("#figures").first.inner_text()
    expected = ask_session(session, *examples[2], {method: {} for method in METHODS}, tokens=64)
    for method, row in zip(METHODS, expected.figures, strict=True):
        assert said(page, method) == [expected.turns[method][0].text]
        assert len(maps(page, method)) == 3 and {row[2], row[5], row[6], row[7]} <= set(figures.splitlines())
    assert page.locator("#images img").count() == 3
    ask(page, "Where is the red ring?")
    for method in METHODS:
        assert len(said(page, method)) == 2
        assert len(maps(page, method)) == 3  # the images of the first turn are still there
    page.click("#new")
    page.wait_for_selector("#answers-plphp :text('nothing asked yet')")
    assert [said(page, method) + maps(page, method) for method in METHODS] == [[]] * 4


def test_r_changes_what_is_kept_and_a_wrong_one_is_said_in_its_column(page):
    for method in ("none", "fastv"):
        page.locator(f"input[type=checkbox][name={method}]").uncheck()
    page.locator("#column-plphp").get_by_role("button", name="Parameters").click()
    set_value(page, "Δr", 0)
    ask(page, example=1)
    assert maps(page, "plphp") == ["76 of 192"]
    assert page.locator("#column-none").count() == 0
    set_value(page, "Layer (from 0)", 0)
    page.wait_for_selector("#maps-plphp img[alt='192 of 192']")
    set_value(page, "Δr", 0.1)
    again(page)
    assert len(said(page, "plphp")) == 1 and page.locator("#figures").first.inner_text().count("Δr=0.1") == 1
    set_value(page, "Δr", 0.7)
    ask(page, example=1)
    (_, refused), (_, answered) = said(page, "plphp"), said(page, "vtw")
    assert refused.startswith("Refused: PLPHP: delta_r = 0.7 > r = 0.4") and "ask again with them" in refused
    assert not answered.startswith("Refused")


def test_uploads_whole_and_broken(page, tmp_path):
    halves(96, 96).convert("RGBA").save(tmp_path / "halves.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"garbage" * 50)
    ask(page, "What is there?", [tmp_path / "broken.png"])
    assert status(page).startswith("Not asked: broken.png: damaged or truncated")
    assert "Traceback" not in page.content() and page.locator("[data-testid=user]").count() == 0
    assert page.input_value("#question textarea") == "What is there?"  # to be asked again
    page.wait_for_selector("#question .thumbnail-item, #question img", state="detached")  # it went by itself
    ask(page, "What is there?", [tmp_path / "broken.png", tmp_path / "halves.png"])
    assert status(page).startswith("left out: broken.png: damaged") and status(page).endswith("Ready.")
    assert len(said(page, "none")) == 1 and len(maps(page, "plphp")) == 1
    ask(page, " ")
    assert "the question is empty" in status(page)


def test_hostile_text_stays_text(page, monkeypatch):
    monkeypatch.setattr(LlavaOnevision, "decode", lambda *_: HOSTILE)
    ask(page, HOSTILE, example=1)
    assert said(page, "plphp") == [HOSTILE]
    assert page.locator("#answers-none [data-testid=user]").inner_text().strip() == f"[image 1] {HOSTILE}"
    assert page.evaluate("window.hacked") is None
    assert page.locator("img[src=x], .message script, .message strong").count() == 0


def test_stop_a_second_tab_and_a_closed_one(browser, address, monkeypatch):
    def slow(self, *arguments, usual=StopWhen.__call__):
        time.sleep(0.15)
        return usual(self, *arguments)

    monkeypatch.setattr(StopWhen, "__call__", slow)
    with tab(browser, address) as one:
        with tab(browser, address) as two:
            ask(one, example=4, wait=False)
            one.wait_for_selector("#answers-none [data-testid=bot]:has-text('three')")
            ask(two, example=4, wait=False)
            wait_for_status(two, "waiting for the model")
            two.wait_for_timeout(200)
            assert said(two, "none") == []
            one.click("#stop")
            wait_for_status(one, "^stopped", timeout=10_000)
            assert len(said(one, "none")[0].split()) < 40 and said(one, "vtw") == []
            two.wait_for_selector("#answers-none [data-testid=bot]:has-text('three')", timeout=20_000)
        # Whoever closes the tab leaves the model to others.
        began = time.monotonic()
        ask(one, example=1, wait=False)
        one.wait_for_function(
            "document.querySelectorAll('#answers-none [data-testid=user]').length == 2", timeout=30_000
        )
        assert time.monotonic() - began < 15  # 4 answers of 64 tokens would take 38 s
        monkeypatch.undo()
        wait_for_status(one, "Ready[.]$")


def test_on_a_phone_in_the_dark(browser, address):
    with tab(browser, address, width=390, color_scheme="dark") as page:
        ask(page, example=0)
        assert all(len(said(page, method)) == 1 for method in METHODS)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert sum(map(int, re.findall(r"\d+", dark)[:3])) < 150
