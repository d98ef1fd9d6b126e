"""The HTML report in a real browser: samples, search, sorting, keyboard, hostile text, large runs."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from plphp_core.reporting import page as report
from plphp_core.reporting.request import Report
from tests.reporting import factories
from tests.reporting.page_factories import HOSTILE, FakeDocuments, World, finding, photograph, sheet
from tests.reporting.page_tab import PAGE, Tab, needs_browser, written

pytestmark = [pytest.mark.browser, needs_browser]


def scores(world: World, metric: str) -> dict[str, dict[int, float]]:
    cells = [cell for cell in world.asked().cells if cell.benchmark == "SD"]
    return {cell.method: dict(zip(cell.doc_ids.tolist(), cell.metrics[metric].samples, strict=True)) for cell in cells}


def test_a_page_shows_its_samples_in_the_order_of_the_data_set(tab, small):
    _, path = small
    page = tab.open(path)
    assert tab.documents() == list(range(PAGE))
    first = page.locator(".sample").first
    assert first.locator(".answers tbody tr").count() == 3
    assert "plphp sees thing 0" in first.inner_text() and "reference 0" in first.inner_text()
    assert first.locator(".images img").evaluate("image => image.complete && image.naturalWidth") == 48
    assert first.locator("svg.bars").nth(1).get_attribute("aria-label").endswith("0: 50%, 1: 50%, 2: 50%, 3: 50%")
    assert [url for url in tab.requests if url.startswith("file://")] == [f"file://{path}"]
    assert "no answer: OutOfMemoryError: too large" in page.locator(".sample").nth(3).inner_text()
    first.locator("details summary").click()
    assert "Layer 3" in first.locator(".numbers").inner_text()
    page.locator(".images button").first.click()
    shown = page.locator("#larger img")
    assert shown.evaluate("image => image.getBoundingClientRect().width") > 200
    page.keyboard.press("Escape")
    assert not shown.is_visible()


@pytest.mark.parametrize("direction, sign", [("down", -1), ("up", 1)])
def test_samples_are_sorted_by_the_difference_between_two_methods(tab, small, direction, sign):
    world, path = small
    page = tab.open(path)
    page.select_option("[name=sort]", "difference")
    page.select_option("[name=a]", label="PLPHP r=0.4")
    page.select_option("[name=b]", label="FastV K=2, R=0.5")
    page.select_option("[name=direction]", direction)
    tab.settled("PLPHP r=0.4 scores higher on")
    found = scores(world, "rouge_l")
    differences = {doc: round(score, 5) - round(found["fastv"][doc], 5) for doc, score in found["plphp"].items()}
    wanted = sorted(differences, key=lambda doc: (sign * round(differences[doc], 9), doc))
    assert tab.documents() == wanted[:PAGE]
    assert page.locator(".answers tr.chosen").count() == 2 * PAGE
    page.locator(".pager button", has_text="Next").first.click()
    page.locator(".pager button", has_text="Next").first.click()
    tab.settled("Samples 51–60 of 60")
    assert tab.documents() == [*wanted[50:], 3]  # the failed sample last
    more = sum(value > 1e-12 for value in differences.values())
    assert f"scores higher on {more}, lower on" in page.inner_text("#status")


def test_a_method_of_ones_own_has_a_colour_of_its_own(tab, tmp_path):
    world = World(tmp_path, samples=2)
    world.write(factories.cell("SD", "strided", {"step": 2}, "step=2", samples=2), 4)
    page = tab.open(written(world))
    colours = (
        page.locator(".sample")
        .first.locator(".dot")
        .evaluate_all("dots => dots.map((one) => getComputedStyle(one).backgroundColor)")
    )
    assert len(set(colours)) == len(colours) == 4


def test_settings_of_the_sweep_are_hidden_until_chosen_and_escape_hides_them_again(tab, tmp_path):
    world = World(tmp_path, samples=2)
    table1, *_ = world.reports(world.asked())
    world.write(factories.cell("SD", "plphp", {"r": 0.7}, "r=0.7", samples=2), 4)
    asked = world.asked()
    sweep = replace(world.reports(asked)[0], name="sweep")
    page = tab.open(report.write([table1, sweep], asked, documents=FakeDocuments(2))[0])
    rows = page.locator(".sample").first.locator(".answers tbody tr")
    assert rows.count() == 3
    page.locator(".methods summary").click()
    box = page.locator(".methods label", has_text="r=0.7").locator("input")
    for count, act in ((4, box.check), (3, lambda: page.keyboard.press("Escape"))):
        act()
        page.wait_for_function(f"document.querySelectorAll('.sample .answers tbody tr').length === {2 * count}")
    assert not box.is_checked()


def test_samples_are_sorted_by_score_and_by_vision_kept(tab, small):
    world, path = small
    page = tab.open(path)
    page.select_option("[name=sort]", "score")
    page.select_option("[name=metric]", label="Slot accuracy")
    page.select_option("[name=a]", label="Uncompressed")
    page.wait_for_function("() => document.querySelector('.sample .key')?.textContent.startsWith('score')")
    found = scores(world, "slot_accuracy")["none"]
    wanted = sorted(found, key=lambda doc: (-round(found[doc], 5), doc))
    assert tab.documents() == wanted[:PAGE]
    page.select_option("[name=sort]", "kept")
    page.wait_for_function("() => document.querySelector('.sample .key').textContent === 'vision kept 100.0'")


def test_a_search_looks_through_questions_references_and_shown_answers(tab, small):
    _, path = small
    page = tab.open(path)
    for query, wanted in (("NUMBER 41:", [41]), ("Reference 5", [5, *range(50, 60)]), ("fastv sees THING 7", [7])):
        page.fill("[name=query]", query)
        tab.settled(f"of {len(wanted)} (60 in all)")
        assert tab.documents() == wanted
    page.locator(".methods summary").click()
    page.locator(".methods label", has_text="FastV").locator("input").uncheck()
    tab.settled("No sample fits")
    page.fill("[name=query]", "")
    tab.settled("of 60")
    assert page.locator(".sample").first.locator(".answers tbody tr").count() == 2
    page.fill("[name=query]", "no such words")
    tab.settled("No sample fits")


def test_models_benchmarks_and_addresses_lead_to_samples(tab, small):
    _, path = small
    tab.open(path, "#sample=none.MV/1")
    tab.settled("#sample=none.MV/1 leads to no sample of this page. Samples 1–25 of 60")
    tab.page.goto("about:blank")
    page = tab.open(path, "#sample=llava_onevision.MV/58")
    tab.settled("Samples 51–60 of 60")
    assert page.evaluate("document.activeElement.querySelector('h3').textContent") == "MV 58"
    page.select_option("[name=benchmark]", label="SD (60)")
    tab.settled("Samples 1–25 of 60")
    assert page.locator(".sample h3").first.inner_text() == "SD 0"
    page.evaluate("location.hash = '#sample=llava_onevision.SD/30'")
    tab.settled("Samples 26–50 of 60")
    page.evaluate("location.hash = '#sample=llava_onevision.SD/99999'")
    tab.settled("#sample=llava_onevision.SD/99999 leads to no sample of this page. Samples 1–25 of 60")
    page.locator(".pager button", has_text="Next").first.click()
    tab.settled("Samples 26–50 of 60")
    assert "leads to no sample" not in page.inner_text("#status")


def test_the_keyboard_is_enough(tab, small):
    _, path = small
    page = tab.open(path)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    focused = "document.activeElement.querySelector('h3')?.textContent"
    page.keyboard.press("j")
    page.keyboard.press("n")
    assert page.evaluate(focused) == "SD 1"
    page.keyboard.press("k")
    assert page.evaluate(focused) == "SD 0"
    page.locator(".sample").last.focus()
    page.keyboard.press("j")
    tab.settled("Samples 26–50")
    page.wait_for_function(f"() => {focused} === 'SD 25'")
    page.keyboard.press("p")
    tab.settled("Samples 1–25")
    page.wait_for_function(f"() => {focused} === 'SD 24'")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.name") == "query"
    page.keyboard.type("nj/k")
    assert page.input_value("[name=query]") == "nj/k"
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement === document.body")
    tab.settled("Samples 1–25 of 60")
    assert page.input_value("[name=query]") == ""
    targets = "a[href], button, select, input, summary, .scroll"
    assert page.evaluate(f"[...document.querySelectorAll('{targets}')].filter(one => one.tabIndex < 0).length") == 0


def test_hostile_text_is_text(tab, tmp_path):
    endless = "x" * 1_000_000
    hostile = [*HOSTILE, endless]
    texts = {(method, at): text for method in ("none", "plphp") for at, text in enumerate(hostile)}
    world = World(tmp_path, samples=len(hostile), texts=texts)
    for path in (tmp_path / "toy" / "cells").iterdir():  # the label of a row, too
        cell = json.loads(path.read_text())
        path.write_text(json.dumps(cell | {"setting": HOSTILE[0] if cell["method"] == "fastv" else cell["setting"]}))
    documents = FakeDocuments(len(hostile), references=lambda doc: hostile)
    page = tab.open(written(world, documents, [*HOSTILE, endless], [finding(text=HOSTILE[0], why=endless)]))
    cells = page.locator(".answers tbody tr:first-child td.free").all_text_contents()
    assert cells[: len(HOSTILE) - 1] == [text.replace("\x00", "\ufffd") for text in HOSTILE[:-1]]
    assert page.locator("img[src=x], .sample script, .answers script, [onerror], [onmouseover]").count() == 0
    assert HOSTILE[0] in page.locator(".answers th[scope=row]").nth(1).text_content()
    for width in (1300, 390):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    last = page.locator(".sample").last.locator(".answers .free").first
    assert len(last.text_content()) < 3000
    last.locator("button").click()
    assert last.text_content() == f"{endless} (words are not marked: longer than 50,000 characters)"
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.fill("[name=query]", "</SCRIPT><img")
    tab.settled(f"of {len(hostile)}")


def test_all_of_a_long_answer_keeps_its_marks_and_the_readers_place(tab, tmp_path):
    long = "thing unheard " * 400
    world = World(tmp_path, samples=3, texts={("none", 1): long})
    page = tab.open(written(world))
    answer = page.locator(".sample").nth(1).locator(".answers .free").first
    before = answer.locator("mark").count()
    answer.locator("button").focus()
    page.keyboard.press("Enter")
    assert answer.text_content() == long
    assert answer.locator("mark").count() == 400 > before
    assert page.evaluate("document.activeElement.querySelector('h3')?.textContent") == "SD 1"
    page.keyboard.press("j")
    assert page.evaluate("document.activeElement.querySelector('h3')?.textContent") == "SD 2"


def test_a_large_run_is_loaded_piece_by_piece(tab, tmp_path):
    seen = {}
    image = lambda doc: seen.setdefault(doc % 200, photograph(doc % 200, (260, 200)))  # noqa: E731
    world = World(tmp_path, samples=800)
    path = written(world, FakeDocuments(800, image=image), budget=1_000_000)
    assert path.stat().st_size < 500_000
    page = tab.open(path)
    loaded = {url.rsplit("/", 1)[1] for url in tab.requests if "report_files" in url}
    assert loaded == {"index-0.js", "answers-0-0.js", "task-0-0.js", "images-0.js"}
    page.select_option("[name=sort]", "score")
    page.wait_for_function("() => document.querySelector('.sample .key')?.textContent.startsWith('score')")
    found = scores(world, "rouge_l")["plphp"]
    assert tab.documents() == sorted(found, key=lambda doc: (-round(found[doc], 5), doc))[:PAGE]
    page.fill("[name=query]", "thing 799")
    tab.settled("Samples 1–1 of 1 (800 in all)")


def test_a_piece_that_is_gone_is_said(browser, tmp_path):
    world = World(tmp_path, samples=150)
    path = written(world, budget=1000)
    (folder,) = (tmp_path / "toy" / "report_files").iterdir()
    (folder / "answers-0-1.js").unlink()
    tab = Tab(browser)
    page = tab.open(path)
    page.fill("[name=query]", "thing")
    tab.settled("answers-0-1.js cannot be loaded; keep that folder beside the page")
    page.close()


def test_a_report_without_samples_still_works(tab, tmp_path):
    world = World(tmp_path, samples=2)
    asked = world.asked()
    other = Report("table2", "", [sheet("T", ("n",))], [], {})
    (path,) = report.write([other], asked, documents=FakeDocuments(2))
    tab.page.goto(f"file://{path}")
    assert "No samples" in tab.page.inner_text("#samples")
    assert tab.page.locator("#theme").is_visible()
