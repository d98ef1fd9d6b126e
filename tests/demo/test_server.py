"""`python scripts/demo.py`: one clear sentence for what cannot be, before anything is loaded."""

import socket
import sys

import pytest

from plphp_core.cli.entry_point import command


@pytest.mark.parametrize("arguments, said", [
    (["demo.port=abc"], "demo.port must be a whole number, at least 1, got 'abc'"),
    (["demo.port=0"], "got 0"),
    (["demo.port=70000"], "at most 65535, got 70000"),
    (["demo.port=8992", "prot=1"], "prot"),
    (["demo.port=8992", "model=gpt"], "options of model"),
    (["demo.port=8992", "model.checkpoint=/nowhere"], "cannot load /nowhere as llava_onevision"),
])  # fmt: skip
def test_wrong_options(arguments, said, capsys):
    assert command("demo", arguments) == 2
    assert said in (err := capsys.readouterr().err) and err.startswith("error: ") and err.count("\n") == 1


def test_help(capsys):
    assert command("demo", ["--help"]) == 0 and "port: 7860" in capsys.readouterr().out


def test_a_port_in_use(capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert command("demo", [f"demo.port={port}"]) == 2
    assert f"port {port} of 127.0.0.1 cannot be used" in capsys.readouterr().err


def test_without_gradio_the_package_is_named(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert command("demo", ["demo.port=8991"]) == 2
    assert "pip install 'plphp[demo]'" in capsys.readouterr().err
