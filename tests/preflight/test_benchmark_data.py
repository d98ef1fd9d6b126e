"""The benchmarks' data: missing, of another version, with a broken picture, cached, or still on the hub."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import datasets
import pytest
from datasets import Dataset, DatasetDict, Image

from plphp_core.evaluation.lmms_tasks import TaskFacts
from plphp_core.preflight import benchmark_data
from plphp_core.preflight.benchmark_data import data, metrics
from plphp_core.preflight.checks import CheckStatus, PlannedRun
from tasks.toy.generate import build
from tests.configured import configured

COMMIT = "c0ffee" + "0" * 34
PASSED, FAILED = CheckStatus.PASSED, CheckStatus.FAILED


def planned(folder: Path, tasks: str, *overrides: str) -> PlannedRun:
    return PlannedRun(configured("profile=toy", f"tasks=[{tasks}]", f"profile.data_root={folder}", *overrides))


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy")
    for name in ("interleave_in_domain", "interleave_multi_view", "flickr30k", "detailcaps"):
        build(name, 6).save_to_disk(folder / name)
    return folder


def test_every_kind_of_benchmark_is_tried_with_its_own_functions(good, examine):
    run = planned(good, "sd,mv,flickr30k,detailcaps")
    assert [result.status for result in examine(data, run)] == [PASSED] * 4
    assert [(one.benchmark.label, one.samples) for one in run.data] == [
        *(("SD", 6), ("MV", 10), ("Flickr30k", 6), ("DetailCaps", 6)),
    ]
    for one in run.data:
        first, longest, _ = one.requests
        assert len(first.context) <= len(longest.context) and first.visuals() and one.to_download == 0
    assert {"cider", "meteor"} <= set(run.metrics)


def broken_picture(rows: Dataset) -> Dataset:
    plain = rows.cast_column("image", Image(decode=False))
    cut = plain.map(lambda row: {"image": {"bytes": row["image"]["bytes"][:100], "path": None}})
    return cut.cast_column("image", Image())


@pytest.mark.parametrize(
    "name, task, change, words",
    [
        ("flickr30k", "flickr30k", lambda rows: rows.rename_column("caption", "captions"), "no column 'caption'"),
        ("flickr30k", "flickr30k", broken_picture, "cannot be used"),
        ("flickr30k", "flickr30k", lambda rows: rows.select([]), "cannot be used"),
        ("detailcaps", "detailcaps", lambda rows: rows.remove_columns("GT_Caption_GPT4V"), "'GT_Caption_GPT4V'"),
        ("interleave_in_domain", "vst", lambda rows: rows.filter(lambda row: row["sub_task"] == "IEdit"), "VST"),
        ("interleave_in_domain", "sd", lambda rows: rows.remove_columns("question"), "no column 'question'"),
    ],
)
def test_data_of_another_version_are_found(name, task, change, words, good, tmp_path, examine):
    rows = datasets.load_from_disk(good / name)
    DatasetDict({split: change(some) for split, some in rows.items()}).save_to_disk(tmp_path / name)
    (result,) = examine(data, planned(tmp_path, task))
    assert result.status is FAILED and words in result.sentence, result
    assert "python -m tasks.toy.generate" in result.sentence


def test_missing_data_cost_only_their_own_benchmark(good, tmp_path, examine):
    shutil.copytree(good / "flickr30k", tmp_path / "flickr30k")
    missing, there = examine(data, planned(tmp_path, "sd,flickr30k"))
    assert missing.status is FAILED and missing.sentence.startswith("SD: ") and there.status is PASSED
    assert "python -m tasks.toy.generate" in missing.sentence


# --- the hub -------------------------------------------------------------------------------------------------------


@pytest.fixture
def hub(good, tmp_path, monkeypatch):
    """A cache of `datasets` that is empty, and the toy's DetailCaps as a file of the hub would be."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.delenv("LMMS_EVAL_DATASETS_CACHE", raising=False)
    file = tmp_path / "test.parquet"
    datasets.load_from_disk(good / "detailcaps")["test"].to_parquet(file)
    return file


def test_data_that_are_not_here_and_no_network(hub, examine):
    (result,) = examine(data, PlannedRun(configured("profile=paper", "tasks=[detailcaps]")))
    assert result.status is FAILED and "DetailCaps-4870" in result.sentence and "load_dataset" in result.sentence


def test_data_in_the_cache_are_used_without_network(hub, tmp_path, examine):
    """As `datasets` keeps them: <owner>___<name>/<configuration>/<version>/<commit>/<name>-<split>.arrow."""
    made = datasets.load_dataset("parquet", data_files={"test": str(hub)}, cache_dir=tmp_path / "made")
    folder = Path(made["test"].cache_files[0]["filename"]).parent
    place = tmp_path / "cache/foundation-multimodal-models___detail_caps-4870/default/0.0.0" / COMMIT
    shutil.copytree(folder, place)
    (place / "parquet-test.arrow").rename(place / "detail_caps-4870-test.arrow")
    info = json.loads((place / "dataset_info.json").read_text())
    info |= {"dataset_name": "detail_caps-4870", "config_name": "default"}
    (place / "dataset_info.json").write_text(json.dumps(info))
    run = PlannedRun(configured("profile=paper", "tasks=[detailcaps]"))
    (result,) = examine(data, run)
    assert result.status is PASSED and run.data[0].samples == 6, result


def test_data_on_the_hub_are_streamed(hub):
    """`path: parquet` goes the way of a hub's repository that is not in the cache."""
    config = {
        "dataset_path": "parquet",
        "dataset_kwargs": {"data_files": {"test": str(hub)}},
        "test_split": "test",
        "process_docs": lambda rows: pytest.fail("a stream cannot be filtered"),
        "doc_to_visual": lambda row: [],
        "doc_to_text": lambda row: "text",
        "doc_to_target": "image",
        "process_results": lambda row, answers: {},
    }
    rows, samples, size = benchmark_data._rows(config)
    assert isinstance(rows, datasets.IterableDataset) and samples is None and size == 0
    found = benchmark_data._sample(TaskFacts(None, "x", 1, {}, "commit"), config, rows, samples, size)
    assert found.requests[0].context == "text"


# --- metrics -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "scores, status, words",
    [([1.0, 0.0], PASSED, "meteor 1.00"), ([0.0, 0.0], FAILED, "meteor 0.00"), ([float("nan"), 0.0], FAILED, "nan")],
)
def test_a_metric_that_scores_nonsense(scores, status, words, tmp_path, examine):
    run = planned(tmp_path, "flickr30k")
    run.metrics = {"meteor": SimpleNamespace(detail=lambda items: {"samples": scores})}
    result = examine(metrics, run)[0]
    assert result.status is status and words in result.sentence


def test_a_metric_whose_java_does_not_run(tmp_path, examine):
    def detail(items):
        raise RuntimeError("java does not run: no such file")

    run = planned(tmp_path, "flickr30k")
    run.metrics = {"meteor": SimpleNamespace(detail=detail)}
    result = examine(metrics, run)[0]
    assert result.status is FAILED and "java does not run" in result.sentence


def test_an_extra_metric_that_does_not_exist(tmp_path, examine):
    run = planned(tmp_path, "sd", "profile.extra_metrics.slot_accuracy=no.such.function")
    result = examine(metrics, run)[0]
    assert result.status is FAILED and "no.such.function" in result.sentence
