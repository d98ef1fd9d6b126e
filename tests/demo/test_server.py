"""`python scripts/demo.py`: one clear sentence for what cannot be, before anything is loaded."""

import ast
import re
import socket
import sys

import pytest

from plphp_core import demo
from plphp_core.demo.catalogue import check_checkpoint
from plphp_core.demo.server import main, parse
from plphp_core.records.errors import UserError
from tests.demo.factories import ROOT


@pytest.mark.parametrize("arguments, said", [
    (["port=abc"], "port = abc, but must be a whole number from 1 to 65535"),
    (["port=0"], "port = 0"),
    (["port=70000"], "port = 70000"),
    (["prot=1"], "unknown option 'prot=1'; allowed: attn_implementation=…, checkpoint=…"),
    (["toy"], "unknown option 'toy'"),
    (["model="], "model= has no value; leave it out or give one, as in model=llava_onevision"),
])  # fmt: skip
def test_wrong_options(arguments, said, capsys):
    assert main(ROOT, arguments) == 2
    assert said in (err := capsys.readouterr().err) and err.startswith("error: ") and err.count("\n") == 1


def test_defaults_and_help(capsys):
    assert parse([]) == {"profile": "toy", "model": "llava_onevision", "port": "7860"}
    assert parse(["port=1", "profile=paper", "checkpoint=a=b"])["checkpoint"] == "a=b"
    assert main(ROOT, ["--help"]) == 0 and "port=7860" in capsys.readouterr().out


def test_a_port_in_use(capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(ROOT, [f"port={port}"]) == 2
    err = capsys.readouterr().err
    assert f"port {port} of 127.0.0.1 cannot be used" in err and f"port={port + 1}" in err


def test_a_checkpoint_that_is_no_folder(capsys, tmp_path):
    assert main(ROOT, ["checkpoint=/nowhere", "port=8992"]) == 2
    assert capsys.readouterr().err.startswith("error: no checkpoint at /nowhere: give a folder with config.json")
    for checkpoint in ("./nowhere", "~/nowhere", "no/such/folder"):
        with pytest.raises(UserError, match=f"no checkpoint at {re.escape(checkpoint)}: "):
            check_checkpoint(checkpoint)
    for checkpoint in (str(tmp_path), "owner/name"):  # a folder; a hub name
        check_checkpoint(checkpoint)


def test_the_start_names_the_checkpoint_inside_the_repository(monkeypatch, capsys):
    monkeypatch.setattr("plphp_core.demo.session.load", lambda settings: 1 / 0)  # said before anything is loaded
    with pytest.raises(ZeroDivisionError):
        main(ROOT, ["port=8993"])
    assert capsys.readouterr().out == "loading tasks/toy/checkpoints/llava_onevision …\n"


def imported(path):
    """Names of the demo's modules that a module imports."""
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
    own = [node for node in nodes if node.module.startswith("plphp_core.demo")]
    return {part for node in own for part in (node.module.split(".")[-1], *(alias.name for alias in node.names))}


def test_without_gradio_only_the_page_is_missing(monkeypatch, capsys):
    folder = ROOT / "plphp_core/demo"
    importers = {path.stem for path in folder.glob("*.py") if "import gradio as gr" in path.read_text()}
    assert importers == {"gradio_app", "theme", "widgets"}
    for path in folder.glob("*.py"):
        if path.stem not in ("gradio_app", "server", "theme"):
            assert not {"gradio_app", "theme"} & imported(path)
    for name in importers:
        monkeypatch.delitem(sys.modules, f"plphp_core.demo.{name}", raising=False)
        monkeypatch.delattr(demo, name, raising=False)
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert main(ROOT, ["port=8991"]) == 2
    assert capsys.readouterr().err == (
        "error: the demo needs the package gradio: `pip install 'plphp[demo]'`, or `make setup`\n"
    )
