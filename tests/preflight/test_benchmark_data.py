"""The benchmarks' data: missing, of another version, with a broken picture, cached, or still on the hub."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import datasets
import pytest
from datasets import Dataset, DatasetDict, Image

from plphp_core.evaluation import data_sets
from plphp_core.preflight import benchmark_data
from plphp_core.preflight.benchmark_data import SampledDataSets, data, metrics
from plphp_core.preflight.checks import CheckStatus, PlannedRun
from tasks.toy.generate import build
from tests.configured import configured
from tests.upstream_data import save

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
    monkeypatch.setattr("lmms_eval.api.task._resolve_hf_datasets_cache_dir", lambda: str(tmp_path / "cache"))
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
    assert result.status is PASSED and run.data[0].samples == 6, result.sentence


PATH = "foundation-multimodal-models/DetailCaps-4870"


@pytest.fixture
def reachable(hub, monkeypatch):
    """The hub has DetailCaps, of which nothing is here."""

    def there(function):
        def call(name, *args, cache_dir, **options):
            assert name == PATH
            return function("parquet", data_files={"test": str(hub)}, **options)

        return call

    monkeypatch.setattr(data_sets, "hub_commit", lambda *_: COMMIT)
    monkeypatch.setattr(benchmark_data, "FROM_HUB", there(datasets.load_dataset))
    monkeypatch.setattr(data_sets, "FROM_HUB", lambda *_, **__: pytest.fail("the whole data set was loaded"))
    monkeypatch.setattr(datasets, "load_dataset_builder", there(datasets.load_dataset_builder))
    monkeypatch.setattr(benchmark_data, "SAMPLED", 2)


def test_of_data_on_the_hub_the_first_rows_are_streamed_and_go_the_way_of_a_run(reachable, examine):
    run = PlannedRun(configured("profile=paper", "tasks=[detailcaps]"))
    (result,) = examine(data, run)
    assert result.status is PASSED and "unknown number of samples" in result.sentence, result
    request = run.data[0].requests[0]
    assert request.context == "Describe this image in detail." and request.visuals()[0].width == 96


@pytest.mark.parametrize("searched, some", [(400, True), (4, False)])
def test_rows_of_the_task_are_searched_among_the_first(searched, some, reachable, monkeypatch):
    def last(rows):
        if len(rows) < 5:
            raise ValueError("no sample")
        return rows.select([4])

    monkeypatch.setattr(benchmark_data, "SEARCHED", searched)
    looked = SampledDataSets(None, None).look({"dataset_path": PATH, "test_split": "test", "process_docs": last})
    assert (looked.some, looked.read) == (some, 6 if some else 4)


def test_lmms_evals_own_tasks_and_groups_go_the_way_of_a_run(tmp_path, examine):
    """Prompts of the family, images that the task's code opens, pairs that are scored together."""
    run = planned(save(tmp_path, ["gqa", "mme", "blink_counting"]), "gqa,mme,blink_counting")
    assert [result.status for result in examine(data, run)] == [PASSED] * 3
    gqa, mme, _ = run.data
    assert gqa.requests[0].context == "Is it 0?\nAnswer the question using a single word or phrase."
    assert (mme.samples, len(mme.requests[0].visuals())) == (12, 1)


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
