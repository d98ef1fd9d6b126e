"""The task files: complete, paper and toy alike, loadable from anywhere, and built on rows without decoding images."""

import json
import re
import shutil
import sys
from importlib import import_module
from pathlib import Path

import datasets
import pytest
from datasets.exceptions import DatasetNotFoundError
from lmms_eval.tasks import TaskManager
from lmms_eval.tasks.llava_interleave_bench import utils as upstream
from PIL import Image

from plphp_core.vision.images import as_rgb
from tasks import hub
from tests.tasks.factories import BENCHMARKS, INTERLEAVE, SUB_TASKS, TASKS, data_set, interleave

NAMES = [*BENCHMARKS, *(f"{name}_llava" for name in INTERLEAVE)]
LOCATION = {"task", "dataset_path", "dataset_name", "dataset_kwargs"}
NEW_TOKENS = {name: 1024 if name.endswith("_llava") else 16 for name in NAMES}
NEW_TOKENS |= {"flickr30k": 64, "coco2017": 64, "detailcaps": 512}


@pytest.fixture(autouse=True)
def forgotten_repositories():
    loaded = sys.modules.get("plphp_tasks.hub", hub)
    loaded.repository.cache_clear()
    yield loaded
    loaded.repository.cache_clear()


@pytest.fixture
def build(manager, tmp_path):
    """build(task name, data) -> lmms-eval's task on that data."""

    def make(name: str, data: datasets.DatasetDict):
        data.save_to_disk(tmp_path / name)
        return manager.load_config({"task": name, "dataset_path": str(tmp_path / name)})[name]

    return make


def test_every_benchmark_has_its_files(manager):
    expected = {f"{profile}_{name}" for profile in ("plphp", "toy") for name in NAMES}
    expected |= {"toy_reading", "toy_finding", "toy_long"}
    assert set(manager.all_subtasks) == set(manager.all_tasks) == expected


def _without_location(config: dict) -> dict:
    return {key: str(value) for key, value in config.items() if key not in LOCATION}


@pytest.mark.parametrize("name", NAMES)
def test_paper_and_toy_differ_in_name_and_data_location_only(manager, name):
    paper, toy = manager._get_config(f"plphp_{name}"), manager._get_config(f"toy_{name}")
    assert _without_location(paper) == _without_location(toy)
    assert not (paper.get("dataset_kwargs") or {}).get("token")
    assert toy["dataset_path"].startswith("tasks/toy/data/") and toy["dataset_kwargs"] == {"load_from_disk": True}
    generation = paper["generation_kwargs"]
    assert generation["max_new_tokens"] == NEW_TOKENS[name] and generation["do_sample"] is False


@pytest.mark.parametrize("name", NAMES)
def test_task_is_built_and_scores_its_reference(build, name):
    benchmark = name.removesuffix("_llava")
    task = build(f"toy_{name}", data_set(benchmark))
    assert task.VERSION == 1
    document = task.eval_docs[0]
    target = task.doc_to_target(document)
    best = target if isinstance(target, str) else target[0]
    found = task.process_results(document, [best])
    assert set(found) <= set(task.aggregation())
    assert all(image.mode == "RGB" for image in task.doc_to_visual(document)) and task.doc_to_text(document)
    if benchmark in INTERLEAVE:
        assert len(task.doc_to_visual(document)) == 2
        assert sorted(set(task.eval_docs["sub_task"])) == sorted(SUB_TASKS[benchmark])
        metric = "overall" if benchmark == "mv" else "rouge_l"
        expected_kind = "group_mean" if benchmark == "mv" or name.endswith("_llava") else "mean"
        detail = task.aggregation()[metric].detail([found[metric]])
        assert detail["kind"] == expected_kind and detail["value"] == pytest.approx(1)
        assert {f"{metric}_{sub}" for sub in SUB_TASKS[benchmark]} | {metric} == set(task.aggregation())
    else:
        assert isinstance(target, list) and len(target) == (3 if name == "detailcaps" else 5)
        item = {"prediction": best, "references": target, "id": found["cider"]["id"]}
        assert found["cider"] == found["meteor"] == item
        assert set(task.aggregation()) == {"cider", "meteor"}
    assert "capture_metric" not in sys.modules


def test_prompts_equal_upstream(build):
    multi_view, open_ended = build("toy_mv", data_set("mv")), build("toy_vst", data_set("vst"))
    for document in multi_view.eval_docs:
        assert multi_view.doc_to_text(document) == upstream.doc_to_text_conversation(document)
        assert json.loads(multi_view.doc_to_text(document)) == document["conversations"]
    for document in open_ended.eval_docs:
        assert open_ended.doc_to_text(document) == upstream.doc_to_text(document)
        ours, theirs = open_ended.doc_to_visual(document), upstream.doc_to_visual(document)
        assert [image.tobytes() for image in ours] == [image.tobytes() for image in theirs]


def test_sixteen_images_at_most_unless_protocol_llava(manager):
    document = data_set("mv")["test"][0]
    document |= {f"image_{i}": document["image_0"] for i in range(20)} | {"image_3": None}
    assert len(manager._get_config("toy_mv")["doc_to_visual"](document)) == 15
    assert len(manager._get_config("toy_mv_llava")["doc_to_visual"](document)) == 19


def test_filtering_decodes_no_image(manager):
    rows = interleave(["VIST", "IEdit", "AESOP"], broken=True)["test"]
    kept = manager._get_config("toy_vst")["process_docs"](rows)
    assert kept["sample_id"][:] == [0, 2]
    with pytest.raises(OSError):  # they would not decode
        kept[0]


def test_broken_image_is_an_error_not_a_missing_image(manager):
    """The task hands it on; the model wrapper then refuses it."""
    found = manager._get_config("toy_vst")["doc_to_visual"]({"image_0": None, "image_1": object()})
    with pytest.raises(TypeError, match="expected a PIL image"):
        as_rgb(*found)


def test_data_without_the_benchmark_are_refused(manager):
    with pytest.raises(ValueError, match=r"no SD sample.*the data have .'IEdit'"):
        manager._get_config("toy_sd")["process_docs"](interleave(["IEdit"])["test"])


@pytest.mark.parametrize("present", hub.ORGANISATIONS)
@pytest.mark.parametrize("name", ["sd", "mv_llava", "flickr30k", "coco2017"])
def test_data_of_either_organisation_are_loaded(manager, monkeypatch, forgotten_repositories, present, name):
    def builder(path, configuration=None):
        if not path.startswith(f"{present}/"):
            raise DatasetNotFoundError(f"Dataset '{path}' doesn't exist on the Hub or cannot be accessed.")

    def load(path, name, **kwargs):
        assert path.startswith(f"{present}/"), path
        loaded.append((path, name))
        return data_set(benchmark)

    loaded, benchmark = [], name.removesuffix("_llava")
    monkeypatch.setattr(forgotten_repositories, "load_dataset_builder", builder)
    monkeypatch.setattr(datasets, "load_dataset", load)
    task = manager.load_task_or_group(f"plphp_{name}")[f"plphp_{name}"]
    configuration = {"sd": "in_domain", "mv": "multi_view_in_domain"}.get(benchmark)
    assert [c for _, c in loaded] == [configuration] and len(task.eval_docs) >= 4


@pytest.mark.parametrize(
    "error", [ConnectionError("offline"), FileNotFoundError("not cached"), ValueError("no config")]
)
def test_todays_organisation_is_named_when_neither_can_be_had(monkeypatch, forgotten_repositories, error):
    def builder(path, configuration=None):
        raise error

    monkeypatch.setattr(forgotten_repositories, "load_dataset_builder", builder)
    assert forgotten_repositories.repository("coco2017") == "lmms-lab-encoder/COCO-Caption2017"


def test_indexing_asks_no_hub(monkeypatch, forgotten_repositories):
    def refuse(*_):
        raise AssertionError("the hub was asked")

    monkeypatch.setattr(forgotten_repositories, "load_dataset_builder", refuse)
    TaskManager(include_path=[str(TASKS)], include_defaults=False)


def test_unknown_function_is_an_error(tmp_path):
    (tmp_path / "bad.yaml").write_text(f"task: bad\ndataset_path: !function {TASKS}/functions.hub_nowhere\n")
    with pytest.raises(AttributeError, match=r"no 'hub_nowhere'; data sets on the hub: .*'hub_flickr30k'"):
        TaskManager(include_path=[str(tmp_path)], include_defaults=False)._get_config("bad")


def test_task_files_load_beside_an_unrelated_tasks_module(manager, monkeypatch, tmp_path):
    """As from lmms-eval's command line: any working directory, this repository not importable, another `tasks` is."""
    for module in [m for m in sys.modules if m.split(".")[0] in ("tasks", "plphp_tasks")]:
        monkeypatch.delitem(sys.modules, module)
    (tmp_path / "tasks.py").write_text("raise ImportError('the wrong tasks')")
    monkeypatch.chdir(tmp_path)
    elsewhere = [path for path in sys.path if Path(path or ".").resolve() != TASKS.parent]
    monkeypatch.setattr(sys, "path", [str(tmp_path), *elsewhere])
    with pytest.raises(ImportError, match="the wrong tasks"):
        import_module("tasks.captions")
    config = manager._get_config("toy_sd")
    row = {"sub_task": "CLEVR-Change", "answer": "a", "question_type": "open-ended", "sample_id": 0}
    assert config["process_results"](row, ["..."])["rouge_l"]["score"] == 0


def test_worked_example_of_the_documentation_works(monkeypatch, tmp_path):
    page = (TASKS.parent / "docs/add-a-task.md").read_text()
    function, task = (re.search(rf"```{kind}\n(.*?)```", page, re.DOTALL)[1] for kind in ("python", "yaml"))
    folder = shutil.copytree(TASKS, tmp_path / "tasks", ignore=shutil.ignore_patterns("toy"))
    with (folder / "captions/documents.py").open("a") as documents:
        documents.write(f"\n\n{function}")
    functions = folder / "functions.py"
    functions.write_text(
        functions.read_text().replace("    image_visual,\n)", "    image_visual,\n    nocaps_results,\n)")
    )
    (folder / "captions/plphp_nocaps.yaml").write_text(task)
    for module in [m for m in sys.modules if m.split(".")[0] == "plphp_tasks"]:
        monkeypatch.delitem(sys.modules, module)

    config = TaskManager(include_path=[str(folder)], include_defaults=False)._get_config("plphp_nocaps")
    row = {"image": Image.new("L", (4, 4)), "image_id": 5, "annotations_captions": ["a dog", "a cat"]}
    item = {"prediction": "a dog", "references": ["a dog", "a cat"], "id": 5}
    assert config["process_results"](row, ["a dog"]) == {"cider": item, "meteor": item}
    assert config["doc_to_text"](row) and config["doc_to_visual"](row) and config["doc_to_target"] in row
    assert config["metadata"] == {"version": 1} and len(config["metric_list"]) == 2


def test_folder_may_be_given_relative_to_the_working_directory(monkeypatch):
    monkeypatch.chdir(TASKS.parent)
    manager = TaskManager(include_path=["tasks"], include_defaults=False)
    assert manager._get_config("toy_coco2017")["dataset_path"] == "tasks/toy/data/coco2017"
