"""The system's Chromium, for tests in a browser."""

import importlib.util
import shutil
from contextlib import contextmanager

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
MISSING = [] if CHROMIUM else ["Chromium (chromium, chromium-browser or google-chrome on the PATH)"]
MISSING += [] if importlib.util.find_spec("playwright") else ["playwright (make setup)"]
# The marks of a module whose tests need the browser: `pytestmark = in_a_browser`.
in_a_browser = [
    pytest.mark.browser,
    pytest.mark.skipif(bool(MISSING), reason=f"not there: {', '.join(MISSING)}"),
]


@contextmanager
def launched():
    """A browser of Playwright's; both must be there."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()
