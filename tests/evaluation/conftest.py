"""One little world and one model load for all tests of this folder."""

import io

import pytest
import torch
from rich.console import Console

from plphp_core.evaluation import runner
from plphp_core.evaluation.loading import LoadOnce
from plphp_core.evaluation.progress import Display
from tests.evaluation.factories import FakeAnswerer, make_world
from tests.evaluation.repositories import make_repository


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """The models are tiny; threads would only wait for each other, and for whatever else the machine does."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="session")
def repository(world, tmp_path_factory):
    return make_repository(tmp_path_factory.mktemp("repository"), world)


@pytest.fixture(scope="session")
def loader():
    return LoadOnce()


@pytest.fixture
def display():
    """A display whose output can be read: `display.console.file.getvalue()`."""
    return Display(Console(file=io.StringIO(), width=200), verbose=True)


@pytest.fixture
def fake(monkeypatch):
    """A loader of nothing, and answers without a model."""
    monkeypatch.setattr(runner, "JointAnswerer", FakeAnswerer)
    return lambda _: None
