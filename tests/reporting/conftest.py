"""What tests of several figures share."""

import pytest

from plphp_core.reporting.figures import drawing
from tests.reporting.page_tab import browser, small, tab  # noqa: F401  fixtures of tests in a browser


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were drawn, laid out, in place of their files, which take seconds."""
    figures = []

    def keep(figure):
        figure.draw_without_rendering()
        figures.append(figure)
        return {}

    monkeypatch.setattr(drawing, "files", keep)
    return figures


@pytest.fixture
def draw(drawn):
    """Draws what a figure's spec makes of a content, and gives the first picture."""

    def first(spec, content, profile="toy"):
        spec.draw(content, spec.page(profile))
        return drawn[-len(spec.pictures)]

    return first
