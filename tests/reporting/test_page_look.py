"""How the HTML report looks in a real browser: widths, dark, print, without JavaScript, contrast."""

from __future__ import annotations

import pytest

from plphp_core.claims.verdict import Verdict
from tests.reporting.page_factories import World, finding, write_manifest
from tests.reporting.page_tab import PAGE, needs_browser, written

pytestmark = [pytest.mark.browser, needs_browser]


@pytest.mark.parametrize("width", [320, 390, 1060])
def test_nothing_is_wider_than_the_screen(tab, small, width):
    _, path = small
    tab.page.set_viewport_size({"width": width, "height": 844})
    page = tab.open(path)
    page.evaluate("for (const one of document.querySelectorAll('main details')) one.open = true")
    page.select_option("[name=sort]", "difference")
    tab.settled("scores higher on")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    wide = (
        "[...document.querySelectorAll('.sample, #controls')].filter(one => one.scrollWidth > one.clientWidth).length"
    )
    assert page.evaluate(wide) == 0
    assert page.locator(".contents details").evaluate("one => one.open") is (width > 960)
    if width == 390:  # the contents stay in reach
        page.locator("#runs").scroll_into_view_if_needed()
        box = page.locator(".contents").bounding_box()
        assert box["y"] == 0 and box["height"] < 60


def test_dark_mode_follows_the_system_and_the_button(tab, small):
    _, path = small
    page = tab.open(path)
    paper = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(paper)
    page.emulate_media(color_scheme="dark")
    dark = page.evaluate(paper)
    assert dark != light
    page.click("#theme")
    assert page.evaluate(paper) == light
    page.click("#theme")
    page.emulate_media(color_scheme="light")
    assert page.evaluate(paper) == dark
    tiles = page.locator(".counts .none, .counts .none b").all()
    assert len(tiles) == 8
    for scheme in ("light", "dark"):  # counts of nothing can be read
        page.emulate_media(color_scheme=scheme)
        assert min(tile.evaluate(CONTRAST) for tile in tiles) >= 4.5


def test_a_print_has_the_notes_and_neither_controls_nor_manifests(tab, tmp_path):
    world = World(tmp_path)
    write_manifest(tmp_path)
    page = tab.open(written(world))
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator(".remarks li").first.is_visible()
    for hidden in (".contents", "#controls", ".pager button"):
        assert not page.locator(hidden).first.is_visible()
    assert page.locator(".sample").count() == PAGE
    assert page.locator(".run summary").is_visible() and not page.locator(".run pre").evaluate(
        "one => one.checkVisibility()"
    )
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("main details.remarks[open]").count() == 0


def test_without_javascript_there_is_no_dead_form_and_nothing_covers_the_text(browser, small):
    _, path = small
    context = browser.new_context(java_script_enabled=False, viewport={"width": 390, "height": 844})
    page = context.new_page()
    page.goto(f"file://{path}")
    for dead in ("#controls", ".pager", "#theme"):
        assert not page.locator(dead).first.is_visible(), dead
    assert "needs JavaScript" in page.inner_text("noscript")
    page.locator("#runs").scroll_into_view_if_needed()
    assert page.locator(".contents").bounding_box()["y"] < -500
    context.close()


CONTRAST = """one => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const light = (colour) => {
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map((value) => value / 255)
      .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  for (let at = one; at; at = at.parentElement) if (getComputedStyle(at).opacity !== "1") return 0;
  const tile = one.closest("li");
  const pair = [getComputedStyle(one).color, getComputedStyle(tile).backgroundColor].map(light);
  const [dark, bright] = pair.sort((x, y) => x - y);
  return (bright + 0.05) / (dark + 0.05);
}"""


WIDE = finding(
    text="a claim in several words " * 4,
    why="Measured on other hardware than the paper's. " * 4,
    verdict=Verdict.NOT_COMPARABLE,
    hardware=("2-core CPU Intel(R) Xeon(R) Platinum 8481C @ 2.70GHz",),
    n={"SD": 9000, "MV": 9000},
)
LINES = """one => {  // top and bottom of the dot, and of every line of the words
  const range = document.createRange(), ends = (box) => [box.top, box.bottom];
  range.selectNodeContents(one.lastChild);
  return [ends(one.firstChild.getBoundingClientRect()), [...range.getClientRects()].map(ends)];
}"""


@pytest.mark.parametrize("width", [390, 1024, 1300])
def test_the_verdicts_fit_and_names_of_methods_stay_whole(tab, tmp_path, width):
    world = World(tmp_path, samples=3)
    path = written(world, findings=[WIDE])
    tab.page.set_viewport_size({"width": width, "height": 900})
    page = tab.open(path)
    assert page.locator(".scroll:has(.claims)").evaluate("one => one.scrollWidth - one.clientWidth") <= 0
    page.select_option("[name=sort]", "difference")
    tab.settled("scores higher on")
    assert page.locator(".answers tr.chosen th", has_text="Uncompressed").count() == 3
    for name in page.locator(".answers tbody th", has_text="Uncompressed").all():
        dot, words = name.evaluate(LINES)
        assert len(words) == 1
        assert words[0][0] < sum(dot) / 2 < words[0][1]
    assert page.locator(".sample").first.evaluate("one => one.scrollWidth - one.clientWidth") <= 0
