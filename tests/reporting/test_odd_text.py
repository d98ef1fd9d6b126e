"""Models answer with any character there is: no figure, table or page falls over one, and none takes others with it."""

import json
import warnings
from dataclasses import replace

import pandas as pd
import pytest
from matplotlib.figure import Figure

from plphp_core.records.atomic import write_atomically
from plphp_core.records.record import visible, visible_in
from plphp_core.reporting import render
from plphp_core.reporting.figures import drawing, score_panels
from plphp_core.reporting.table_model import Table, TableCell, TableColumn, TableRow
from tests.reporting import factories
from tests.reporting.reports_made import report, written

ODD = {
    "byte order mark": "a\ufeffb",
    "half a pair": "a\ud800b",
    "nul": "a\x00b",
    "escape": "a\x1b[31mb",
    "tab and lines": "a\tb\r\nc\u2028d\x0be",
    "format": "\u202ea\u200bb\u00ad\U000e0041",
    "no glyph": "你好 👍",
    "unassigned": "\U000effff\u0378",
    "formula": "$\\frac$ a$b$c",
    "combining": "\u0301a\u0301\u0301\u0301",
    "shaped": "ffi لا مرحبا",
}


def test_what_a_figure_draws_instead():
    assert drawing.drawable("a\ufeffb\u200b\u202ec") == "abc"
    assert drawing.drawable("a\ud800\x00你\n") == "aU+D800U+0000你\n"
    assert drawing.drawable("a\tb\u2028c\nd\u00a0e") == "a b c\nd e"


@pytest.mark.parametrize("text", ODD.values(), ids=ODD)
def test_every_odd_text_becomes_a_pdf_and_a_png(text):
    with drawing.style(), warnings.catch_warnings():
        warnings.simplefilter("error")  # a glyph that is missing is a warning
        figure = Figure(figsize=(2, 1))
        axes = figure.subplots()
        axes.set_title(text)
        axes.plot([0, 1], label=text)
        figure.legend(title=text)
        figure.text(0.1, 0.5, text, fontweight="bold")
        found = drawing.files(figure)
    assert found["pdf"].startswith(b"%PDF") and found["png"].startswith(b"\x89PNG")


def test_what_a_file_says_instead():
    assert visible("a\x00b\ud800c\x1bd\te\nf你\ufeff") == "aU+0000bU+D800cU+001Bd\te\nf你\ufeff"
    assert visible_in({"a\0": ["\ud800", 3, None, {"b": "\x07"}]}) == {"aU+0000": ["U+D800", 3, None, {"b": "U+0007"}]}
    assert render.latex_escape("a\x00\x7f\tb\nc_") == r"aU+0000U+007F b c\_"
    sheet = Table("t\x00", (TableColumn("c"),), (TableRow((TableCell("e\ud800", "d\x1b", "†"),)),), ("n\x00",))
    assert "tU+0000" in render.markdown([sheet]) and "eU+D800" in render.markdown([sheet])


def test_a_file_is_written_whatever_is_in_it(tmp_path):
    write_atomically(tmp_path / "x.json", json.dumps({"a": "\ud800"}, ensure_ascii=False))
    assert json.loads((tmp_path / "x.json").read_text(encoding="utf-8")) == {"a": "\ud800"}


def test_odd_text_in_a_cell_file_reaches_every_format_and_the_terminal(tmp_path, capsys, drawn):
    odd = "".join(ODD.values())
    record = factories.cell("SD", samples=8, failed=(1,), hardware=odd, error_examples=[odd])
    factories.write(tmp_path, record, factories.cell("SD", "plphp", factories.PLPHP, odd, samples=8, cell="x"))
    for name in ("table1", "sweep", "figure5", "claims"):
        assert report(tmp_path, name, quiet=False) == 0, name
    assert report(tmp_path, "page") == 0
    out = capsys.readouterr().out
    assert "\x1b[31m" not in out and "U+D800" in out
    for path in (tmp_path / "toy").glob("*.*"):
        text = path.read_bytes().decode("utf-8")
        assert "\0" not in text and "\x1b" not in text, path.name
    assert len(pd.read_csv(tmp_path / "toy" / "sweep.csv")) == 2


def test_a_figure_that_fails_is_named_and_the_rest_is_written(tmp_path, capsys, monkeypatch, drawn):
    def fail(*arguments):
        raise IndexError("string index\nout of range")

    failing = replace(score_panels.FIGURE5, pictures={"": fail})
    monkeypatch.setattr(score_panels, "FIGURE5", failing)
    factories.write(tmp_path, *factories.suite(benchmarks=("SD",)))
    assert report(tmp_path, "all") == 1
    said = capsys.readouterr().err
    complaint = "figure5: IndexError: string index out of range (test_odd_text.py, line "
    assert f"error: {complaint}" in said and "Traceback" not in said
    assert {"table1.md", "sweep.csv", "claims.json", "report.html"} <= written(tmp_path)
    assert not any(name.startswith("figure5") for name in written(tmp_path))
    page = (tmp_path / "toy" / "report.html").read_text(encoding="utf-8")
    assert "IndexError: string index out of range" in page
    assert report(tmp_path, "figure5") == 1
    assert capsys.readouterr().err.startswith("error: figure5: IndexError")


def test_a_page_that_fails_leaves_what_was_written_and_says_so(tmp_path, capsys, monkeypatch, drawn):
    from plphp_core.reporting import page

    def fail(*arguments, **options):
        raise RuntimeError("no page")

    monkeypatch.setattr(page, "write", fail)
    factories.write(tmp_path, *factories.suite(benchmarks=("SD",)))
    assert report(tmp_path, "all") == 1
    assert "error: page: RuntimeError: no page" in capsys.readouterr().err
    assert "table1.md" in written(tmp_path)
