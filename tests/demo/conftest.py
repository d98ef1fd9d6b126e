"""One session on a toy model, loaded once for all tests of the demo, and the examples."""

import pytest

from plphp_core.demo.demo_session import DemoSession
from plphp_core.demo.demo_settings import DemoSettings, draw_examples


@pytest.fixture(scope="package")
def session():
    return DemoSession(DemoSettings())


@pytest.fixture(scope="package")
def examples(tmp_path_factory):
    """(question, files) of each example."""
    drawn = draw_examples(tmp_path_factory.mktemp("examples"))
    return [(one["text"], one["files"]) for one in drawn.values()]
