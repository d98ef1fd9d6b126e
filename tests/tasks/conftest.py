"""No system Java: what needs Java must bring its own."""

import pytest
from lmms_eval.tasks import TaskManager

from tests.tasks.factories import TASKS


@pytest.fixture(autouse=True)
def no_system_java(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("PATH", str(tmp_path_factory.mktemp("empty_path")))
    monkeypatch.delenv("JAVA_HOME", raising=False)


@pytest.fixture(scope="session")
def manager() -> TaskManager:
    """The task files as lmms-eval reads them."""
    return TaskManager(include_path=[str(TASKS)], include_defaults=False)
