"""`python scripts/demo.py`: one clear sentence for what cannot be, before anything is loaded."""

import socket
import sys

import pytest

from plphp_core.demo.server import main
from tests.demo.factories import ROOT


@pytest.mark.parametrize("arguments, said", [
    (["port=abc"], "port = abc, but must be a whole number from 1 to 65535"),
    (["port=0"], "port = 0"),
    (["port=70000"], "port = 70000"),
    (["port=8992", "prot=1"], "prot"),
    (["port=8992", "model=gpt"], "options of model"),
    (["port=8992", "model.checkpoint=/nowhere"], "cannot load /nowhere as llava_onevision"),
])  # fmt: skip
def test_wrong_options(arguments, said, capsys):
    assert main(ROOT, arguments) == 2
    assert said in (err := capsys.readouterr().err) and err.startswith("error: ") and err.count("\n") == 1


def test_help(capsys):
    assert main(ROOT, ["--help"]) == 0 and "port=7860" in capsys.readouterr().out


def test_a_port_in_use(capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(ROOT, [f"port={port}"]) == 2
    assert f"port {port} of 127.0.0.1 cannot be used" in capsys.readouterr().err


def test_without_gradio_the_package_is_named(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert main(ROOT, ["port=8991"]) == 2
    assert "pip install 'plphp[demo]'" in capsys.readouterr().err
