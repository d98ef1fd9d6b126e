"""A tab of a real browser with a report in it, opened from disk as by a double-click; fixtures for several files."""

from __future__ import annotations

import importlib.util

import pytest

from plphp_core.reporting import page as report
from tests.chromium import CHROMIUM, launched
from tests.reporting.page_factories import FakeDocuments, World, finding

MISSING = [] if importlib.util.find_spec("playwright") else ["playwright (make setup)"]
MISSING += [] if CHROMIUM else ["Chromium or Chrome on the path"]
PAGE = 25  # samples of a page
needs_browser = pytest.mark.skipif(bool(MISSING), reason=f"no {' and no '.join(MISSING)}")


@pytest.fixture(scope="module")
def browser():
    with launched() as opened:
        yield opened


class Tab:
    """A page with everything that went wrong in it."""

    def __init__(self, browser, **options):
        self.page = browser.new_page(**options)
        self.page.set_default_timeout(15_000)
        self.problems, self.requests = [], []
        self.page.on("console", lambda message: self.problems.append(message.text) if message.type == "error" else None)
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.problems.append(f"dialog {dialog.message}"), dialog.dismiss()))
        self.page.on("request", lambda request: self.requests.append(request.url))

    def open(self, path, fragment=""):
        self.page.goto(f"file://{path}{fragment}")
        self.page.wait_for_selector(".sample")
        return self.page

    def settled(self, said: str):
        """Wait until the samples are there and the status line says `said`."""
        self.page.wait_for_function("said => document.getElementById('status').textContent.includes(said)", arg=said)

    def documents(self) -> list[int]:
        names = self.page.locator(".sample h3").all_inner_texts()
        return [int(name.rsplit(" ", 1)[1]) for name in names]


@pytest.fixture
def tab(browser):
    """A tab that must end without a message of the page, a dialog or a request to anything but files."""
    found = Tab(browser, viewport={"width": 1300, "height": 900})
    yield found
    found.page.close()
    assert found.problems == []
    assert [url for url in found.requests if not url.startswith(("file://", "data:"))] == []


def written(world: World, documents=None, notes=("A note.",), findings=(), **options):
    asked = world.asked()
    reports = world.reports(asked, notes, findings)
    return report.write(reports, asked, documents=documents or FakeDocuments(world.samples), **options)[0]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """60 samples on two benchmarks, without anything beside the page."""
    world = World(tmp_path_factory.mktemp("small"), samples=60, benchmarks=("SD", "MV"), failed=(3,))
    return world, written(world, findings=[finding()])
