"""The HTML report without a browser: what is in it, what is not, and that it is written whole or not at all."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plphp_core.claims.verdict import Verdict
from plphp_core.records.record import visible
from plphp_core.reporting import page
from plphp_core.reporting.cell_answers import answers
from plphp_core.reporting.page.pieces import data_uri, script_safe
from plphp_core.reporting.page.sample_browser import sample_sets
from plphp_core.reporting.request import Report
from tests.journal_factories import answered_line, write_journal
from tests.reporting import factories
from tests.reporting.page_factories import (
    HOSTILE,
    Elements,
    FakeDocuments,
    World,
    answer,
    context,
    drawing,
    finding,
    sheet,
    write_manifest,
)
from tests.reporting.reports_made import ROOT


def written(world: World, asked=None, findings=(), **options) -> str:
    asked = asked or world.asked()
    options.setdefault("documents", FakeDocuments(world.samples))
    return page.write(world.reports(asked, findings=findings), asked, **options)[0].read_text(encoding="utf-8")


@given(
    st.recursive(
        st.text() | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_data_in_a_script_keeps_its_value_and_cannot_end_the_script(value):
    text = script_safe(value)
    assert json.loads(text) == value
    assert text.isascii()
    assert not set("<>&") & set(text)


def test_every_answer_score_cost_question_reference_and_image_is_in_the_page(tmp_path):
    world = World(tmp_path, samples=130)
    page_ = Elements(written(world))
    (listed,) = page_.piece("meta")["sets"]
    assert listed["n"] == 130 and listed["notes"] == []
    assert [row["label"] for row in listed["rows"]] == ["Uncompressed", "FastV K=2, R=0.5", "PLPHP r=0.4"]
    index = page_.piece("piece-index-0")
    cells = {cell.method: cell for cell in world.asked().cells}
    for row, method in enumerate(("none", "fastv", "plphp")):
        assert index["scores"][0][row] == pytest.approx(cells[method].metrics["rouge_l"].samples, abs=1e-5)
        for chunk, docs in ((0, range(100)), (1, range(100, 130))):
            found = page_.piece(f"piece-answers-0-{chunk}")[row]
            assert [one[0] for one in found] == [answer(method, doc) for doc in docs]
            assert found[0][7] == ([1.0] * 4 if method == "none" else [0.5] * 4)
            assert [one[1] for one in found] == [400] * len(docs)
    documents = page_.piece("piece-task-0-0") + page_.piece("piece-task-0-1")
    assert [one[0] for one in documents] == [context(doc) for doc in range(130)]
    assert documents[7][1] == ["reference 7", "thing"]
    images = page_.piece("piece-images-0")
    assert images[documents[7][2][0][1]] == data_uri(drawing(7))


def test_the_sweep_adds_methods_benchmarks_and_settings_the_latter_marked(tmp_path):
    world = World(tmp_path, samples=3)
    table1, *_ = world.reports(world.asked())
    for benchmark, method, setting in (("SD", "strided", "step=2"), ("SD", "plphp", "r=0.7"), ("IE", "none", "")):
        world.write(factories.cell(benchmark, method, {"x": 1}, setting, samples=3), 4)
    asked = world.asked()
    everything = replace(world.reports(asked)[0], name="sweep")
    for reports in ([everything, table1], [table1, everything]):
        found = sample_sets(reports)
        sets = {one.first.benchmark: list(one.cells) for one in found}
        assert sets == {
            "SD": ["Uncompressed", "FastV K=2, R=0.5", "PLPHP r=0.4", "strided step=2", "PLPHP r=0.7"],
            "IE": ["Uncompressed"],
        }
        assert [one.swept for one in found] == [{"PLPHP r=0.7"}, set()]


def test_answers_of_another_key_stay_out(tmp_path):
    world = World(tmp_path, samples=3)
    cell = next(cell for cell in world.asked().cells if cell.method == "fastv")
    path = tmp_path / "toy" / json.loads(cell.path.read_text())["journal"]
    mine = path.read_bytes()
    write_journal(path, [answered_line(doc, "of other weights", "other", f"other {doc}") for doc in range(3)])
    both = path.read_bytes()
    for content in (both, both.removeprefix(mine) + mine):
        path.write_bytes(content)
        found = answers(cell, tmp_path / "toy")
        assert {doc: line["text"] for doc, line in found.lines.items()} == {
            doc: answer("fastv", doc) for doc in range(3)
        }
    path.write_bytes(both.removeprefix(mine))
    found = answers(cell, tmp_path / "toy")
    assert found.lines == {} and "no answers under the key of this cell" in found.missing
    assert "of other weights" not in written(world)


def test_failed_samples_say_why_and_missing_journals_leave_the_scores(tmp_path):
    world = World(tmp_path, samples=5, failed=(3,))
    assert Elements(written(world)).piece("piece-answers-0-0")[2][3] == [None, "OutOfMemoryError: too large"]
    for path in (tmp_path / "toy" / "journal").iterdir():
        path.unlink()
    page_ = Elements(written(world))
    assert page_.piece("piece-answers-0-0")[0][0][0] is None
    assert page_.piece("piece-index-0")["scores"][0][0][0] is not None
    assert len(page_.piece("meta")["sets"][0]["notes"]) == 3


@pytest.mark.parametrize(
    "documents, said",
    [
        (
            FakeDocuments(5, refuse=f"no data at {ROOT}/tasks/x"),
            "Questions, references and images are not shown: no data",
        ),
        (FakeDocuments(5, ask=lambda doc: "Another question?"), "does not ask what Uncompressed answered"),
        (FakeDocuments(2), "does not ask what Uncompressed answered as document 2"),
    ],
)
def test_data_that_are_not_those_answered_are_not_shown(tmp_path, documents, said):
    html = written(World(tmp_path, samples=5), documents=documents)
    (listed,) = Elements(html).piece("meta")["sets"]
    assert said in listed["notes"][0] and listed["task"] is None
    assert "Another question" not in html and str(ROOT) not in html
    assert "piece-answers-0-0" in html


def test_the_same_inputs_give_the_same_bytes_and_a_failure_leaves_the_old_page(tmp_path, monkeypatch):
    world = World(tmp_path, samples=4)
    first = written(world)
    assert written(world) == first
    monkeypatch.setattr(
        "plphp_core.reporting.page.html_page.write_atomically",
        lambda *_: (_ for _ in ()).throw(OSError(28, "disk full")),
    )
    world.texts = {("none", 0): "changed"}
    with pytest.raises(OSError):
        written(world)
    assert (tmp_path / "toy" / "report.html").read_text() == first
    assert not list((tmp_path / "toy").glob(".report*"))


def test_a_large_run_lies_beside_the_page_and_earlier_pieces_go(tmp_path):
    world = World(tmp_path, samples=120)
    inline = Elements(written(world))
    assert not (tmp_path / "toy" / "report_files").exists()
    html = written(world, budget=1000)
    (folder,) = (tmp_path / "toy" / "report_files").iterdir()
    assert Elements(html).piece("meta")["folder"] == f"report_files/{folder.name}"
    assert 'id="piece-' not in html
    for path in folder.iterdir():
        call = re.fullmatch(r'receivePiece\("([\w-]+)",(.*)\);\n', path.read_text(encoding="ascii"), re.DOTALL)
        assert call[1] == path.stem and json.loads(call[2]) == inline.piece(f"piece-{path.stem}")
    assert written(world, budget=1000) == html
    assert len(list((tmp_path / "toy" / "report_files").iterdir())) == 1
    written(world)
    assert not (tmp_path / "toy" / "report_files").exists()


def test_a_page_of_some_cells_is_another_file_and_each_page_keeps_its_pieces(tmp_path):
    def used(name):
        return Elements((tmp_path / "toy" / name).read_text(encoding="utf-8")).piece("meta")["folder"]

    def there():
        return {f"report_files/{place.name}" for place in (tmp_path / "toy" / "report_files").iterdir()}

    world, subset = World(tmp_path, samples=6), ".limit=2.seed=1"
    whole = written(world, budget=1000)
    assert "This page shows only" not in whole
    world.texts = {("none", 0): "of the subset"}
    world.write_again()
    part = written(world, budget=1000, variant=subset)
    assert "This page shows only: limit=2, seed=1." in " ".join(Elements(part).text.split())
    assert (tmp_path / "toy" / "report.html").read_text(encoding="utf-8") == whole
    assert there() == {used("report.html"), used(f"report{subset}.html")} and len(there()) == 2
    world.texts = {("none", 0): "answered again"}
    world.write_again()
    written(world, budget=1000)
    assert there() == {used("report.html"), used(f"report{subset}.html")} and len(there()) == 2
    written(world)
    assert there() == {used(f"report{subset}.html")}
    written(world, variant=subset)
    assert not (tmp_path / "toy" / "report_files").exists()


def test_tables_and_figures_that_could_not_be_made_are_said_in_their_places(tmp_path):
    world = World(tmp_path, samples=2)
    missing = [("figure1", f"no attention at {ROOT}/results/toy"), ("table4", f"two engines {HOSTILE[0]}"),
               ("figure6", "no cells")]  # fmt: skip
    found = Elements(written(world, missing=missing))
    assert [tag for tag, attributes in found.tags if "onerror" in attributes] == []
    places = [attributes["id"] for tag, attributes in found.tags if tag in ("article", "section")]
    assert places == ["verdicts", "tables", "table1", "table4", "figures", "figure1", "figure5", "figure6", "samples",
                      "runs", "fidelity"]  # fmt: skip
    links = {attributes.get("href") for tag, attributes in found.tags if tag == "a"}
    assert {"#table4", "#figure1", "#figure6"} <= links
    for said in ("Not made: no attention at results/toy", f"Not made: two engines {HOSTILE[0]}", "Not made: no cells"):
        assert said in found.text, said
    assert str(ROOT) not in found.text


def test_hostile_text_makes_no_elements_wherever_it_comes_from(tmp_path):
    texts = {("none", at): text for at, text in enumerate(HOSTILE)}
    world = World(tmp_path, samples=len(HOSTILE), texts=texts)
    asked = world.asked()
    tidy = Elements(written(World(tmp_path / "tidy", samples=len(HOSTILE))))
    write_manifest(tmp_path, command=list(HOSTILE))
    reports = world.reports(asked, notes=HOSTILE, findings=[finding(text=text, why=text) for text in HOSTILE])
    reports += [
        Report(f"table{at + 2}", "", [sheet(text, HOSTILE, (text, text))], [], {}) for at, text in enumerate(HOSTILE)
    ]
    documents = FakeDocuments(len(HOSTILE), references=lambda doc: list(HOSTILE))
    page.write(reports, asked, documents=documents)
    found = Elements((tmp_path / "toy" / "report.html").read_text(encoding="utf-8"))
    allowed = {tag for tag, _ in tidy.tags} | {"pre", "details", "span", "ul", "b"}
    assert {tag for tag, _ in found.tags} <= allowed
    assert sum(tag == "script" for tag, _ in found.tags) == sum(tag == "script" for tag, _ in tidy.tags)
    assert not [name for _, attributes in found.tags for name in attributes if name.startswith("on")]
    assert [one[0] for one in found.piece("piece-answers-0-0")[0]] == list(map(visible, HOSTILE))
    for text in (HOSTILE[0], HOSTILE[3], HOSTILE[5]):
        assert text in found.text


def test_nothing_in_the_page_comes_from_elsewhere(tmp_path):
    world = World(tmp_path, samples=3)
    found = Elements(written(world))
    for tag, attributes in found.tags:
        for name in ("src", "href", "action", "poster", "srcset", "data"):
            target = attributes.get(name)
            links_out = tag == "a" and (target or "").startswith("https://")
            assert target is None or links_out or target.startswith(("#", "data:image/")), (tag, target)
        assert "style" not in attributes
    policy = next(attributes["content"] for tag, attributes in found.tags if attributes.get("http-equiv"))
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert "unsafe" not in policy and "http" not in policy


def test_the_machines_paths_stay_on_the_machine(tmp_path):
    world = World(tmp_path, samples=3, checkpoint=f"{Path.home()}/models/llava")
    where = f"{ROOT}/tasks/toy/checkpoints/llava and {Path.home()}/cache and {tmp_path}/toy"
    write_manifest(tmp_path, settings={"model": {"checkpoint": where}})
    html = written(world, findings=[finding(why=where)])
    for path in (ROOT, tmp_path):
        assert str(path) not in html
    assert f"{Path.home()}/" not in html
    assert "tasks/toy/checkpoints/llava and ~/cache and results/toy" in html
    assert "1 min 5 s" in html and "cccccccccccc + changes" in html


def test_the_ledger_is_shown_whole_and_its_absence_is_said(tmp_path):
    world = World(tmp_path, samples=3)
    html = written(world, missing=[("claims", f"{ROOT}/claims.yaml cannot be read")])
    assert "There are no verdicts: claims.yaml cannot be read." in html and "TOY" in html
    found = [finding(), finding("C9a", unit="order", verdict=Verdict.NOT_MEASURED)]
    html = written(world, findings=found)
    for said in ("−0.46%", "−4.54%", "[−5.80%, −3.30%]", "98", "by the rule: not as claimed", "at least −1.46%",
                 "a remark", "first: −4.54% [−5.80%, −3.30%], undecided", "SD 48, MV 50", "0 of 2", "every part",
                 "<h1>Not decided: toy models.</h1>", "0 of 2 claims reproduced or contradicted."):  # fmt: skip
        assert said in html, said
    counted = re.findall(r"<li class=[^>]*><b>(\d)</b> ([a-z ]+)</li>", html)
    assert counted == [(str(int(name in ("inconclusive", "not measured"))), name) for name in map(str, Verdict)]


def test_runs_that_cannot_be_read_are_named(tmp_path):
    world = World(tmp_path, samples=2)
    assert "There are no manifests" in written(world)
    write_manifest(tmp_path)
    (tmp_path / "toy" / "manifests" / "torn.json").write_text("{")
    html = written(world)
    assert "torn.json: not valid JSON" in html and "run.py table=table1" in html
