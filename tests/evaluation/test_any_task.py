"""lmms-eval's own tasks by name, from the question to the table."""

import dataclasses

import numpy as np
import pytest
from datasets import Dataset, DatasetDict, Features, Image

from plphp_core.analysis.results import evaluate
from plphp_core.config.benchmark_catalogue import BenchmarkCatalogue
from plphp_core.config.report_choices import Filters, Options
from plphp_core.evaluation.run_status import OK
from plphp_core.families.llava_onevision import LlavaOnevision
from plphp_core.records.cell_result import load_cells
from tests.configured import configured
from tests.evaluation.factories import (
    FakeAnswerer,
    cells,
    fake_answer,
    journal_keys,
    run,
    settings,
)
from tests.evaluation.factories import lines as json_lines
from tests.upstream_data import rows, save

NAMES = ("gqa", "pope", "mme", "textvqa_val", "ocrbench")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return save(tmp_path_factory.mktemp("data"), NAMES)


def asked(world, data, results, methods=("none", "plphp"), names=NAMES, **changes):
    benchmarks = configured("profile=toy", f"tasks=[{','.join(names)}]").benchmarks
    return settings(world, methods, (), benchmarks=benchmarks, data_root=data, results=results, **changes)


def test_a_model_answers_them_under_every_method(world, data, loader, tmp_path, display):
    names = ("gqa", "mme")  # 16 new tokens; others ask for 128 and more
    run_settings = asked(world, data, tmp_path / "mini", ("none", "plphp", "fastv"), names, limit=6)
    assert run(run_settings, {}, loader, display) == OK
    found = cells(run_settings).values()
    assert len(found) == 6 and {cell["benchmark"] for cell in found} == {"GQA", "MME"}
    for cell in found:
        assert cell["n"] == 6 and cell["errors"] == 0 and cell["task"] in NAMES
        assert (max(cell["efficiency"]["retention"]) < 1) == (cell["method"] != "none")
        assert cell["code"]["task_code"]["lmms-eval"] == cell["versions"]["lmms-eval"]
    assert {tuple(cell["doc_ids"]) for cell in found if cell["task"] == "mme"} != {
        (0, 1, 2, 3, 4, 5)
    }  # a random subset


def test_every_task_is_scored_by_its_own_code(world, data, tmp_path, fake, monkeypatch, display):
    def answer(self, batch, methods):
        said = {"mme": "Yes", "pope": "yes"}
        for method in methods:
            yield method, [(one, fake_answer(said.get(one.name[:4].strip().lower(), "red"))) for one in batch]

    monkeypatch.setattr(FakeAnswerer, "answer", answer)
    run_settings = asked(world, data, tmp_path / "whole")
    assert run(run_settings, {}, fake, display) == OK
    assert len(journal_keys(run_settings)) == 5 * 12 * 2
    (mme,) = (cell for cell in cells(run_settings).values() if cell["cell"].startswith("tiny.none.mme"))
    assert mme["metrics"]["mme_perception_score"]["value"] == 100  # two categories, one of each pair right
    assert mme["together"] == [doc // 2 * 2 for doc in range(12)]


def test_tables_have_intervals_on_the_scale_of_the_task(world, data, tmp_path, fake, monkeypatch, display):
    def answer(self, batch, methods):
        said = ("yes", "no", "red")
        for method in methods:
            yield method, [(one, fake_answer(said[(one.tag + 2 * (method is not None)) % 3])) for one in batch]

    monkeypatch.setattr(FakeAnswerer, "answer", answer)
    run_settings = asked(world, data, tmp_path / "mini", ("none", "plphp"), ("pope", "mme", "gqa"))
    assert run(run_settings, {}, fake, display) == OK
    found = evaluate(load_cells(run_settings.results / "cells", "mini"), None, Filters(), Options())
    scales = {name: found.catalogue[name].scale for name in ("GQA", "POPE", "MME")}
    assert scales == {"GQA": 100, "POPE": 100, "MME": 1}
    for name, metric in (("POPE", "pope_f1_score"), ("POPE", "pope_accuracy"), ("GQA", "exact_match")):
        one = found.value(0, name, metric)
        assert one.low < one.value < one.high, name
    draws = found.resamples("POPE")
    assert draws.doc_ids.tolist() == [0, 3, 6, 9]  # the three questions of one id are drawn together
    f1 = found.value(0, "POPE", "pope_f1_score")
    assert np.array_equal(f1.replicates, found.cells[0, "POPE"].metrics["pope_f1_score"].replicates)
    change = found.change(1, "GQA", "exact_match")
    infos = {name: dataclasses.replace(one, lower_is_better=True) for name, one in found.catalogue.infos.items()}
    turned = dataclasses.replace(found, catalogue=BenchmarkCatalogue(infos)).change(1, "GQA", "exact_match")
    assert change.value == pytest.approx(1 / 3 - 1) and turned.value == -change.value
    assert np.array_equal(turned.replicates, -change.replicates, equal_nan=True)


@pytest.fixture(scope="module")
def without_images(tmp_path_factory):
    """Questions of which a third show an image, and sums with worked examples in front, which never do."""
    folder = tmp_path_factory.mktemp("text")
    asked = [row | {"image": row["image"] if n % 3 == 0 else None} for n, row in enumerate(rows("scienceqa_img", 9))]
    features = Features(
        {"image": Image()} | Dataset.from_list([{**asked[1], "image": ""}]).remove_columns("image").features
    )
    columns = {name: [row[name] for row in asked] for name in features}
    DatasetDict({"test": Dataset.from_dict(columns, features=features)}).save_to_disk(
        folder / "ScienceQA/ScienceQA-FULL"
    )
    sums = Dataset.from_list([{"question": f"What is {n} and {n}?", "answer": f"#### {2 * n}"} for n in range(9)])
    DatasetDict({"train": sums, "test": sums}).save_to_disk(folder / "gsm8k/main")
    return folder


def answers_of(run_settings, cell):
    """doc_id → the answer in the journal to a cell's document."""
    found = json_lines(run_settings.results / cell["journal"])
    return {line["doc_id"]: line["answer"] for line in found if "answer" in line}


@pytest.mark.parametrize("engine", ["generate", "fast"])
def test_without_an_image_nothing_is_pruned_and_the_answer_is_the_models_own(
    world, without_images, loader, tmp_path, display, engine, monkeypatch
):
    methods, names = ("none", "plphp", "fastv"), ("scienceqa", "gsm8k_cot")
    monkeypatch.setattr(LlavaOnevision, "max_new_tokens", 6)  # of gsm8k_cot, which names no limit
    model = dataclasses.replace(settings(world).model, engine=engine)
    run_settings = asked(world, without_images, tmp_path / "mini", methods, names, model=model, batch_size=2)
    assert run(run_settings, {}, loader, display) == OK, display.console.file.getvalue()
    found = {(cell["task"], cell["method"]): cell for cell in cells(run_settings).values()}
    assert len(found) == 6 and not any(cell["errors"] for cell in found.values())
    answers = {key: answers_of(run_settings, cell) for key, cell in found.items()}
    for task, n in (("scienceqa", 9), ("gsm8k_cot", 9)):
        for method in methods:
            mine = answers[task, method]
            assert len(mine) == n
            for doc, answer in mine.items():
                if not answer["images_sha256"]:
                    assert answer["text"] == answers[task, "none"][doc]["text"]
                    assert answer["kv_bytes"] == answer["kv_bytes_full"] and set(answer["retention"]) == {1.0}
                else:
                    assert (answer["kv_bytes"] < answer["kv_bytes_full"]) == (method != "none")
    assert {doc for doc, answer in answers["scienceqa", "plphp"].items() if answer["images_sha256"]} == {0, 3, 6}
    assert not any(answer["images_sha256"] for answer in answers["gsm8k_cot", "plphp"].values())
