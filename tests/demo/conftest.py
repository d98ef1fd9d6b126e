"""One session on a toy model, loaded once for all tests of the demo."""

import pytest

from plphp_core.demo.catalogue import Catalogue
from plphp_core.demo.session import Session


@pytest.fixture(scope="package")
def session():
    return Session(Catalogue())
